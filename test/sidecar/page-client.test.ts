// The keep-alive client against servers that behave well, oddly and badly.
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import { type SidecarError, TimeoutError } from "../../sidecar/errors.ts";
import { PageBuffers } from "../../sidecar/scrape/page-buffers.ts";
import { hostPort, PageClient, type PageTarget, type TlsSettings } from "../../sidecar/scrape/page-client.ts";
import { eventually, FakeModelServer, RawServer } from "./servers.ts";
import { VLLM_032 } from "./pages.ts";

type Outcome = { readonly status: number; readonly body: string } | { readonly error: SidecarError };

/** A client whose outcomes are awaited one by one. */
class Fetcher {
  readonly client: PageClient;
  private waiting: ((outcome: Outcome) => void) | null = null;
  outcomes = 0;

  constructor(target: Partial<PageTarget> & { port: number }) {
    this.client = new PageClient(
      {
        host: "127.0.0.1",
        path: "/metrics",
        tls: null,
        token: null,
        accept: "text/plain",
        keepAlive: true,
        bytesMax: 200_000,
        ...target,
      },
      {
        onPage: (status, body) => this.settle({ status, body: body.toString() }),
        onFailure: (error) => this.settle({ error }),
      },
      new PageBuffers(),
    );
    onTestFinished(() => this.client.close());
  }

  fetch(): Promise<Outcome> {
    return new Promise((resolve) => {
      this.waiting = resolve;
      this.client.fetch();
    });
  }

  /** What the fetch under way ends with when it is given up. */
  async abort(): Promise<Outcome> {
    const outcome = this.fetch();
    await new Promise((resolve) => setTimeout(resolve, 30));
    this.client.abort(new TimeoutError("it", 30));
    return outcome;
  }

  private settle(outcome: Outcome): void {
    this.outcomes += 1;
    const { waiting } = this;
    this.waiting = null;
    if (waiting === null) throw new Error("an outcome that nobody waits for");
    waiting(outcome);
  }
}

const ok = (body: string): string => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

function code(outcome: Outcome): string {
  return "error" in outcome ? outcome.error.code : `status ${outcome.status}`;
}

describe("a server that behaves", () => {
  it("is asked over one connection again and again, also with chunked pages", async () => {
    const server = await new FakeModelServer(VLLM_032).start();
    const fetcher = new Fetcher({ port: server.port });
    for (let round = 0; round < 5; round++) {
      expect(await fetcher.fetch()).toEqual({ status: 200, body: VLLM_032.toString() });
    }
    server.answer = (_, response) => {
      for (let at = 0; at < VLLM_032.length; at += 10_000) response.write(VLLM_032.subarray(at, at + 10_000));
      response.end();
    };
    expect(await fetcher.fetch()).toEqual({ status: 200, body: VLLM_032.toString() });
  });

  it("gets one request a fetch, with the token, on the same connection", async () => {
    const requests: string[] = [];
    const server = await new RawServer((socket, request) => {
      requests.push(request);
      socket.write(ok("page"));
    }).listen();
    const fetcher = new Fetcher({ port: server.port, token: "secret" });
    await fetcher.fetch();
    await fetcher.fetch();
    expect(server.connections).toBe(1);
    expect(requests[0]).toBe(
      `GET /metrics HTTP/1.1\r\nhost: 127.0.0.1:${server.port}\r\naccept: text/plain\r\n` +
        "user-agent: epp-wasm-sidecar\r\nauthorization: Bearer secret\r\nconnection: keep-alive\r\n\r\n",
    );
    expect(requests[1]).toBe(requests[0]);
  });

  it("is not kept when the answer, or the target, says so", async () => {
    const server = await new RawServer((socket, _, connection) => {
      socket.write(connection === 1 ? ok("a").replace("\r\n", "\r\nConnection: close\r\n") : ok("b"));
    }).listen();
    const fetcher = new Fetcher({ port: server.port });
    expect(await fetcher.fetch()).toEqual({ status: 200, body: "a" });
    expect(await fetcher.fetch()).toEqual({ status: 200, body: "b" });
    expect(server.connections).toBe(2);
    const once = new Fetcher({ port: server.port, keepAlive: false });
    await once.fetch();
    await once.fetch();
    expect(server.connections).toBe(4);
  });

  it("gets its page read to the end of the connection", async () => {
    const server = await new RawServer((socket) => {
      socket.write("HTTP/1.0 200 OK\r\n\r\nfirst ");
      setTimeout(() => socket.end("second"), 10);
    }).listen();
    expect(await new Fetcher({ port: server.port }).fetch()).toEqual({ status: 200, body: "first second" });
  });

  it("has its other statuses reported as they are", async () => {
    const server = await new FakeModelServer(Buffer.from("no")).start();
    server.status = 503;
    expect(await new Fetcher({ port: server.port }).fetch()).toEqual({ status: 503, body: "no" });
  });
});

describe("a server that closes idle connections", () => {
  it("is asked again over a new one, without a failure", async () => {
    const server = await new RawServer((socket) => socket.write(ok("page"))).listen();
    const fetcher = new Fetcher({ port: server.port });
    await fetcher.fetch();
    server.cut();
    expect(await fetcher.fetch()).toEqual({ status: 200, body: "page" });
    expect(server.connections).toBe(2);
  });

  it("is asked again when it closes upon the request, once", async () => {
    const server = await new RawServer((socket, _, connection) => {
      if (connection === 1 && socket.bytesRead < 200) socket.write(ok("page"));
      else socket.destroy();
    }).listen();
    const fetcher = new Fetcher({ port: server.port });
    await fetcher.fetch();
    expect(code(await fetcher.fetch())).toBe("connection-failed");
    expect(server.connections).toBe(2);
  });
});

describe("a server that misbehaves", () => {
  it.each([
    ["refuses the connection", null, "connection-failed"],
    ["closes without an answer", (): string => "", "connection-failed"],
    ["sends garbage", (): string => "\x00\x01garbage\r\n\r\n", "framing-invalid"],
    [
      "sends half a page and closes",
      (): string => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
      "framing-invalid",
    ],
    [
      "announces too much",
      (): string => "HTTP/1.1 200 OK\r\nContent-Length: 200001\r\n\r\n",
      "response-too-large",
    ],
  ])("and %s is reported", async (_, answer, expected) => {
    const server = await new RawServer((socket) => socket.end(answer?.() ?? "")).listen();
    if (answer === null) server.close();
    const fetcher = new Fetcher({ port: server.port });
    expect(code(await fetcher.fetch())).toBe(expected);
    expect(fetcher.client.busy).toBe(false);
    expect(fetcher.outcomes).toBe(1);
  });

  it("and never stops sending is read up to the limit and no further", async () => {
    let sent = 0;
    const server = await new RawServer((socket) => {
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
      const chunk = `2000\r\n${"x".repeat(0x2000)}\r\n`;
      const more = (): void => {
        if (socket.destroyed || sent > 100_000_000) return;
        sent += chunk.length;
        if (socket.write(chunk)) setImmediate(more);
        else socket.once("drain", more);
      };
      more();
    }).listen();
    expect(code(await new Fetcher({ port: server.port }).fetch())).toBe("response-too-large");
    expect(sent).toBeLessThan(100_000_000);
  });

  it("and does not answer is given up, and asked over a new connection next time", async () => {
    const server = await new RawServer((socket, _, connection) => {
      if (connection > 1) socket.write(ok("page"));
    }).listen();
    const fetcher = new Fetcher({ port: server.port });
    expect(code(await fetcher.abort())).toBe("timeout");
    expect(await fetcher.fetch()).toEqual({ status: 200, body: "page" });
    expect(fetcher.outcomes).toBe(2);
  });

  it("and says more than it was asked for loses the connection", async () => {
    const server = await new RawServer((socket) => {
      socket.write(ok("page"));
      setTimeout(() => socket.write(ok("unasked")), 5);
    }).listen();
    const fetcher = new Fetcher({ port: server.port });
    await fetcher.fetch();
    await eventually("it lost the connection", () => server.open === 0);
    expect(await fetcher.fetch()).toEqual({ status: 200, body: "page" });
    expect(server.connections).toBe(2);
  });

  it("cannot bring a closed client back", async () => {
    const server = await new RawServer((socket) => setTimeout(() => socket.write(ok("page")), 20)).listen();
    const fetcher = new Fetcher({ port: server.port });
    void fetcher.fetch();
    await new Promise((resolve) => setTimeout(resolve, 5));
    fetcher.client.close();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(fetcher.outcomes).toBe(0);
  });
});

const fixture = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`../fixtures/tls/${name}`, import.meta.url)), "utf8");

async function tlsServer(): Promise<number> {
  const server = createTlsServer(
    { key: fixture("server-key.pem"), cert: fixture("server.pem") },
    (socket) => {
      socket.on("error", () => socket.destroy());
      socket.on("data", () => {
        socket.write(ok("x".repeat(100_000)).slice(0, 60_000));
        socket.write(ok("x".repeat(100_000)).slice(60_000));
      });
    },
  );
  server.on("tlsClientError", () => undefined);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

describe("TLS", () => {
  const settings = (changes: Partial<TlsSettings>): TlsSettings => ({
    ca: fixture("ca.pem"),
    cert: null,
    key: null,
    serverName: "model-server.test",
    insecureSkipVerify: false,
    ...changes,
  });

  it.each([
    ["its authority and name are right", settings({}), "status 200"],
    ["nothing is verified", settings({ ca: null, serverName: null, insecureSkipVerify: true }), "status 200"],
    ["its authority is unknown", settings({ ca: null }), "connection-failed"],
    ["its name is another", settings({ serverName: "other.test" }), "connection-failed"],
    ["only its address is known", settings({ serverName: null }), "connection-failed"],
  ])("gives %s: %s", async (_, tls, expected) => {
    const fetcher = new Fetcher({ port: await tlsServer(), tls });
    expect(code(await fetcher.fetch())).toBe(expected);
    if (expected === "status 200") expect(await fetcher.fetch()).toMatchObject({ body: "x".repeat(100_000) });
  });
});

describe("a client certificate that is not one", () => {
  it("fails the fetch, not the program", async () => {
    const tls = { ca: null, cert: "nonsense", key: "nonsense", serverName: null, insecureSkipVerify: true };
    expect(code(await new Fetcher({ port: 1, tls }).fetch())).toBe("connection-failed");
  });
});

describe("host and port", () => {
  it("have brackets around IPv6", () => {
    expect(hostPort("::1", 80)).toBe("[::1]:80");
    expect(hostPort("10.0.0.1", 80)).toBe("10.0.0.1:80");
  });
});
