// Clients of recorded scenarios: HTTP/1.1 and HTTP/2, one write a frame.
import { request as httpRequest, type ClientRequest } from "node:http";
import { connect, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { connect as connectTo, type Socket } from "node:net";
import { ownHeaders, shortBody, type Step, type StreamOutcome } from "../host/scenario.ts";

/** The step that opens a stream. */
export type OpenStep = Extract<Step, { open: string }>;

/** One request in progress. */
export interface ProbeClient {
  /** What the client has received so far. */
  readonly outcome: StreamOutcome["client"];
  /** Settles when the exchange is over, however it ended. */
  readonly finished: Promise<void>;
  /** Its connection, once it has one. */
  readonly socket: Socket | null | undefined;
  /** @param last this piece ends the request */
  write(text: string, last: boolean): void;
  end(trailers?: Readonly<Record<string, string>>): void;
  /** The client goes away. */
  abort(): void;
}

/** Opens the stream of a step. */
export function openClient(step: OpenStep, port: number): ProbeClient {
  return step.http2 === true ? new Http2Client(step, port) : new Http1Client(step, port);
}

function emptyOutcome(): StreamOutcome["client"] {
  return { status: 0, headers: {}, body: "", trailers: {}, complete: false };
}

class Http1Client implements ProbeClient {
  readonly outcome = emptyOutcome();
  readonly finished: Promise<void>;
  private readonly request: ClientRequest;

  constructor(step: OpenStep, port: number) {
    const framing =
      step.end === true ? { "content-length": "0" } : { "transfer-encoding": "chunked", trailer: "x-t-sum" };
    this.request = httpRequest({
      host: "127.0.0.1",
      port,
      path: "/probe",
      method: "POST",
      agent: false,
      setHost: false,
      headers: { host: "probe", "x-tag": step.open, "x-probe": step.script, ...step.headers, ...framing },
    });
    this.request.setNoDelay(true);
    this.finished = new Promise((settle) => this.receive(settle));
    if (step.end === true) this.request.end();
    else this.request.flushHeaders();
  }

  get socket(): Socket | null {
    return this.request.socket;
  }

  write(text: string, last: boolean): void {
    this.request.write(text);
    if (last) this.request.end();
  }

  end(trailers?: Readonly<Record<string, string>>): void {
    if (trailers !== undefined) this.request.addTrailers(trailers);
    this.request.end();
  }

  abort(): void {
    this.request.destroy();
  }

  private receive(settle: () => void): void {
    const { request, outcome } = this;
    request.on("error", settle);
    request.on("close", settle);
    request.on("response", (response) => {
      outcome.status = response.statusCode ?? 0;
      outcome.headers = ownHeaders(response.headers);
      let text = "";
      response.setEncoding("latin1").on("data", (piece: string) => {
        text += piece;
        outcome.body = shortBody(text);
      });
      response.on("error", settle);
      response.on("close", () => {
        outcome.complete = response.complete;
        outcome.trailers = ownHeaders(response.trailers);
        settle();
      });
    });
  }
}

class Http2Client implements ProbeClient {
  readonly outcome = emptyOutcome();
  readonly finished: Promise<void>;
  private readonly session: ClientHttp2Session;
  private readonly connection: Socket;
  private readonly stream: ClientHttp2Stream;
  private trailers: Readonly<Record<string, string>> | undefined;

  constructor(step: OpenStep, port: number) {
    // The session's own socket is a proxy that does not tell how much of it is written.
    this.connection = connectTo(port, "127.0.0.1");
    this.session = connect(`http://127.0.0.1:${port}`, { createConnection: () => this.connection });
    this.session.on("error", () => {});
    const headers = {
      ":method": "POST",
      ":path": "/probe",
      ":authority": "probe",
      "x-tag": step.open,
      "x-probe": step.script,
      ...step.headers,
    };
    const waitForTrailers = step.trailing === true;
    this.stream = this.session.request(headers, { endStream: step.end === true, waitForTrailers });
    this.stream.on("wantTrailers", () => this.stream.sendTrailers({ ...this.trailers }));
    this.finished = new Promise((settle) => this.receive(settle));
  }

  get socket(): Socket | undefined {
    return this.connection;
  }

  write(text: string, last: boolean): void {
    if (last) this.stream.end(text);
    else this.stream.write(text);
  }

  end(trailers?: Readonly<Record<string, string>>): void {
    this.trailers = trailers;
    this.stream.end();
  }

  abort(): void {
    // Destroyed, not closed: Node would end the request before it resets the stream.
    this.stream.destroy();
    this.session.close();
  }

  private receive(settle: () => void): void {
    const { stream, outcome, session } = this;
    stream.on("error", () => {});
    stream.on("response", (headers) => {
      outcome.status = headers[":status"] ?? 0;
      outcome.headers = ownHeaders(headers as Record<string, string | string[] | undefined>);
    });
    let text = "";
    stream.setEncoding("latin1").on("data", (piece: string) => {
      text += piece;
      outcome.body = shortBody(text);
    });
    stream.on("trailers", (trailers) => {
      outcome.trailers = ownHeaders(trailers as Record<string, string | string[] | undefined>);
    });
    stream.on("end", () => {
      outcome.complete = outcome.status !== 0;
    });
    stream.on("close", () => {
      session.close();
      settle();
    });
  }
}
