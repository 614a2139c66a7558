// Aborts free what they held; injected faults look to a client as the real ones do.
import { connect } from "node:net";
import { describe, expect, it } from "vitest";
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import { eventsOf, get, send, startReplica, until } from "./support/replica.ts";

const BODY = { prompt: "a few words", max_tokens: 400, ignore_eos: true, stream: true };

/** Error code of a request that gets no answer, or "status" of one that does. */
async function outcome(replica: SimulatedReplica, body: object = BODY): Promise<string> {
  try {
    const { status, text } = await send(replica, "/v1/completions", body);
    return `${status} ${eventsOf(text).at(-1)?.slice(0, 40)}`;
  } catch (error) {
    return ((error as Error).cause as { code?: string }).code ?? String(error);
  }
}

describe("a client that goes away", () => {
  it("frees its request, streamed or not", async () => {
    const replica = await startReplica();
    const { engine } = replica.generation.engines[0]!;
    for (const stream of [true, false]) {
      const abort = new AbortController();
      const request = fetch(`${replica.url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ ...BODY, stream, max_tokens: 3000 }),
        signal: abort.signal,
      });
      await until(() => engine.runningCount === 1);
      abort.abort();
      await Promise.allSettled([request]);
      await until(() => engine.runningCount === 0);
      expect(engine.cache.usage).toBe(0);
      expect(replica.generation.inFlight).toBe(0);
    }
  });

  it("in the middle of its body leaves nothing behind", async () => {
    const replica = await startReplica();
    const port = Number(replica.address.split(":")[1]);
    const socket = connect(port, "127.0.0.1");
    socket.write("POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{");
    await new Promise((resolve) => socket.on("connect", resolve));
    socket.destroy();
    expect(await outcome(replica, { ...BODY, max_tokens: 1 })).toBe("200 [DONE]");
    expect(replica.generation.inFlight).toBe(0);
  });
});

describe("faults", () => {
  it("answers the next n requests with an error", async () => {
    const replica = await startReplica();
    replica.inject({ errors: 2, errorStatus: 502 });
    const statuses = [];
    for (let i = 0; i < 3; i++)
      statuses.push((await outcome(replica, { ...BODY, max_tokens: 1 })).slice(0, 3));
    expect(statuses).toEqual(["502", "502", "200"]);
  });

  it("resets a request as it comes", async () => {
    const replica = await startReplica();
    replica.inject({ resetOnRequest: true });
    expect(["ECONNRESET", "UND_ERR_SOCKET"]).toContain(await outcome(replica));
    expect((await fetch(`${replica.url}/health`)).status).toBe(200);
  });

  it("resets a stream after some tokens and frees the request", async () => {
    const replica = await startReplica();
    replica.inject({ resetAfterTokens: 2 });
    expect(["ECONNRESET", "UND_ERR_SOCKET"]).toContain(await outcome(replica));
    await until(() => replica.generation.inFlight === 0);
  });

  it("holds requests back, and slows its steps", async () => {
    const replica = await startReplica();
    replica.inject({ delayMs: 30, slowdown: 3 });
    expect(await outcome(replica, { ...BODY, max_tokens: 2 })).toBe("200 [DONE]");
    const { engine, metrics } = replica.generation.engines[0]!;
    expect(engine.slowdown).toBe(3);
    expect(metrics.interTokenLatency.sum).toBeCloseTo(0.006, 6);
  });

  it("refuses connections while open ones live on, and accepts again on the same port", async () => {
    const replica = await startReplica();
    const { url } = replica;
    // A step takes longer than what is done meanwhile, on any machine: the connection stays in use.
    replica.inject({ slowdown: 1_000 });
    const stream = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...BODY, max_tokens: 30 }),
    });
    replica.refuseConnections();
    expect(await outcome(replica)).toBe("ECONNREFUSED");
    replica.inject({ slowdown: 1 });
    expect(eventsOf(await stream.text()).at(-1)).toBe("[DONE]");
    await replica.start();
    expect(replica.url).toBe(url);
    expect(await outcome(replica, { ...BODY, max_tokens: 1 })).toBe("200 [DONE]");
  });

  it("dies with all its connections and comes back with empty hands", async () => {
    const replica = await startReplica();
    const long = { ...BODY, prompt: "words to remember ".repeat(20), max_tokens: 2 };
    await outcome(replica, long);
    const held = outcome(replica, { ...long, max_tokens: 3000 });
    await until(() => replica.generation.inFlight === 1);
    await replica.kill();
    expect(["ECONNRESET", "UND_ERR_SOCKET"]).toContain(await held);
    expect(await outcome(replica)).toBe("ECONNREFUSED");
    await replica.restart();
    expect(await get(replica, "/metrics")).toContain(
      'vllm:prompt_tokens_total{engine="0",model_name="tiny"} 0.0',
    );
    const { text } = await send(replica, "/v1/completions", { ...long, stream: false });
    expect(JSON.parse(text).usage.prompt_tokens_details.cached_tokens).toBe(0);
  });

  it("loses its engine: streams end with an error event, the others get 500", async () => {
    const replica = await startReplica();
    replica.inject({ slowdown: 1_000 });
    const stream = send(replica, "/v1/completions", BODY);
    const whole = send(replica, "/v1/completions", { ...BODY, stream: false });
    await until(() => replica.generation.inFlight === 2);
    replica.killEngine();
    const events = eventsOf((await stream).text);
    expect(events.at(-1)).toBe("[DONE]");
    expect(JSON.parse(events.at(-2)!).error.code).toBe(500);
    expect((await whole).status).toBe(500);
    expect((await send(replica, "/v1/completions", BODY)).status).toBe(500);
    expect((await fetch(`${replica.url}/health`)).status).toBe(503);
  });
});
