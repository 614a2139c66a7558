// Plays recorded scenarios on a real Envoy: HTTP/1.1 clients with one write a frame, and a scripted upstream.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import {
  NO_STREAM,
  ownHeaders,
  shortBody,
  type Scenario,
  type ScenarioOutcome,
  type Step,
  type StreamOutcome,
  type UpstreamReply,
} from "../host/scenario.ts";
import { openClient, type ProbeClient } from "./probe-clients.ts";
import type { ProbeEnvoy } from "./probe-envoy.ts";
import { readByPeer } from "./read-by-peer.ts";

/** After the last step, for the log lines that follow the answer; and on a busy machine, until they are those expected. */
const SETTLE_MS = 60;
const SETTLE_MAX_MS = 2_000;
const SETTLE_POLL_MS = 20;
const AWAIT_MS = 10_000;

/** Upstream that answers each request as its scenario says, and http_call requests by path. */
export class ScriptedUpstream {
  readonly received = new Map<string, NonNullable<StreamOutcome["upstream"]>>();
  private readonly replies = new Map<string, UpstreamReply>();
  private server!: Server;

  /** @param gapMs between two writes, so that Envoy reads each alone */
  private constructor(private readonly gapMs: number) {}

  static async start(gapMs: number): Promise<ScriptedUpstream> {
    const upstream = new ScriptedUpstream(gapMs);
    upstream.server = createServer((request, response) => void upstream.take(request, response));
    await new Promise<void>((settle) => upstream.server.listen(0, "127.0.0.1", settle));
    return upstream;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  expect(tag: string, reply: UpstreamReply): void {
    this.received.delete(tag);
    this.replies.set(tag, reply);
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((settle) => this.server.close(settle));
  }

  private async take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.on("error", () => {});
    const tag = request.headers["x-tag"];
    if (typeof tag !== "string") return this.answerCall(request, response);
    const reply = this.replies.get(tag) ?? {};
    const seen = { headers: ownHeaders(request.headers), body: "", trailers: {} };
    this.received.set(tag, seen);
    let text = "";
    const whole = new Promise<void>((settle) => {
      request.setEncoding("latin1").on("data", (piece: string) => {
        text += piece;
        seen.body = shortBody(text);
      });
      request.on("end", () => {
        seen.trailers = ownHeaders(request.trailers);
        settle();
      });
    });
    if (reply.early !== true) await whole;
    if (reply.silent === true) return;
    await this.respond(request, response, reply);
  }

  private async respond(
    request: IncomingMessage,
    response: ServerResponse,
    reply: UpstreamReply,
  ): Promise<void> {
    if (reply.reset === "before") {
      request.socket.destroy();
      return;
    }
    const { body, trailers, headers = {} } = reply;
    const trailerNames = Object.keys(trailers ?? {});
    response.writeHead(reply.status ?? 200, {
      ...headers,
      ...(body === undefined && trailers === undefined && reply.status !== 204
        ? { "content-length": "0" }
        : {}),
      ...(trailerNames.length === 0 ? {} : { trailer: trailerNames.join(",") }),
    });
    response.flushHeaders();
    const gap = async (): Promise<void> => {
      await readByPeer(request.socket);
      await sleep(this.gapMs);
    };
    for (const piece of body ?? []) {
      await gap();
      response.write(piece);
      if (reply.reset === "after-first-piece") {
        await gap();
        request.socket.destroy();
        return;
      }
    }
    if ((body ?? []).length > 0) await gap();
    if (trailers !== undefined) response.addTrailers(trailers);
    response.end();
  }

  /** http_call: the path says what to do. */
  private async answerCall(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = "";
    for await (const piece of request) body += String(piece);
    if (request.url === "/silent") return;
    if (request.url === "/late") await sleep(150);
    response.writeHead(200, { "x-t-reply": String(request.url) });
    response.end(`called ${body}`);
  }
}

/** Plays scenarios on one Envoy. */
export class EnvoyPlayer {
  constructor(
    private readonly envoy: ProbeEnvoy,
    private readonly upstream: ScriptedUpstream,
    /** Between two steps, so that Envoy reads each write alone. */
    private readonly gapMs: number,
  ) {}

  /** @param expected what it is to come to; waits for it a while */
  async play(scenario: Scenario, expected?: ScenarioOutcome): Promise<ScenarioOutcome> {
    const clients = new Map<string, ProbeClient>();
    const first = this.envoy.lines.length;
    for (const step of scenario.steps) {
      await this.step(scenario, step, clients);
      // A pause alone is too short on a busy machine: two writes would be read as one.
      for (const { socket } of clients.values()) await readByPeer(socket);
      await sleep(this.gapMs);
    }
    await sleep(SETTLE_MS);
    const outcome = (): ScenarioOutcome => this.outcomeOf(scenario, clients, first);
    const deadline = performance.now() + (expected === undefined ? 0 : SETTLE_MAX_MS);
    while (performance.now() < deadline && !isDeepStrictEqual(outcome(), expected))
      await sleep(SETTLE_POLL_MS);
    const seen = structuredClone(outcome());
    for (const client of clients.values()) client.abort();
    return seen;
  }

  /** What the streams have come to so far, whose lines begin at line `first`. */
  private outcomeOf(
    scenario: Scenario,
    clients: ReadonlyMap<string, ProbeClient>,
    first: number,
  ): ScenarioOutcome {
    const outcome: ScenarioOutcome = {};
    for (const [name, client] of clients) {
      const prefix = `${name} `;
      const lines = this.envoy.lines.slice(first).filter((line) => line.startsWith(prefix));
      outcome[name] = {
        log: lines.map((line) => line.slice(prefix.length)),
        upstream: this.upstream.received.get(name) ?? null,
        client: client.outcome,
      };
    }
    if (scenario.watch !== undefined) outcome[scenario.watch] = this.rootOutcome(scenario.watch, first);
    return outcome;
  }

  /** Lines of a root context since line `first`, on all threads in order. */
  rootOutcome(tag: string, first = 0): StreamOutcome {
    const prefix = `${tag} `;
    const lines = this.envoy.lines.slice(first).filter((line) => line.startsWith(prefix));
    return { ...NO_STREAM, log: lines.map((line) => line.slice(prefix.length)) };
  }

  private async step(scenario: Scenario, step: Step, clients: Map<string, ProbeClient>): Promise<void> {
    const at = (name: string): ProbeClient => clients.get(name) as ProbeClient;
    if ("open" in step) {
      this.upstream.expect(step.open, step.reply ?? {});
      clients.set(step.open, openClient(step, this.envoy.port(step.on ?? scenario.listener)));
    } else if ("answeredEarlier" in step) {
      const { answeredEarlier: tag, status, script } = step;
      const headers = { "x-envoy-fault-abort-request": String(status) };
      const client = openClient(
        { open: tag, script, headers, end: true },
        this.envoy.port(scenario.listener),
      );
      clients.set(tag, client);
      await client.finished;
    } else if ("data" in step) at(step.data).write(step.text, step.last === true);
    else if ("end" in step) at(step.end).end(step.trailers);
    else if ("abort" in step) at(step.abort).abort();
    else if ("await" in step) {
      await Promise.race([at(step.await).finished, sleep(AWAIT_MS, undefined, { ref: false })]);
    } else await sleep(step.sleepMs);
  }
}
