// However a request ends, nothing of it stays: streams, reservations and prefix keys are all given back.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Bootstrap } from "../../cli/envoy-config.ts";
import { type Exchange, open, PROTOCOLS, type Protocol } from "./clients.ts";
import { chat, ENVOY_VERSIONS, type Gateway, startGateway, until, withEnvoy } from "./harness.ts";
import { HELD, settled, type Status } from "./status.ts";
import { ask, CHAT_PATH, inference, settings, text } from "./support.ts";
import { answer, echo, held, reset, silent, stream } from "./upstream.ts";

const BUFFER_BYTES = 65_536;
const PROMPT = text("a prompt of some length", 20_000);

/** Begins a chat request; `bytes` of its body go out, all of them unless given. */
async function begin(gateway: Gateway, protocol: Protocol, bytes?: number): Promise<Exchange> {
  const body = JSON.stringify(chat(PROMPT));
  const exchange = open(gateway.url, { protocol, path: CHAT_PATH });
  exchange.reply.catch(() => {});
  if (bytes === undefined) exchange.end(body);
  else await exchange.write(body.slice(0, bytes));
  return exchange;
}

function arrived(gateway: Gateway): Promise<boolean> {
  return until("the request at a replica", () =>
    gateway.replicas.some(({ received }) => received.length > 0),
  );
}

/** Each ends its request in another way; `gateway` is fresh, its replicas echo. */
const ENDINGS: readonly [string, (gateway: Gateway, protocol: Protocol) => Promise<void>][] = [
  [
    "the client goes away before a byte of the body",
    async (gateway, protocol) => {
      const exchange = await begin(gateway, protocol, 0);
      await streams(gateway, 1);
      exchange.abort();
    },
  ],
  [
    "the client goes away in the middle of the body, undecided",
    async (gateway, protocol) => {
      const exchange = await begin(gateway, protocol, 9_000);
      await streams(gateway, 1);
      exchange.abort();
    },
  ],
  [
    "the client goes away in the middle of a long body, decided",
    async (gateway, protocol) => {
      const exchange = open(gateway.url, { protocol, path: CHAT_PATH });
      exchange.reply.catch(() => {});
      await exchange.write(JSON.stringify(chat(PROMPT.repeat(100))).slice(0, 1_500_000));
      await arrived(gateway);
      exchange.abort();
    },
  ],
  [
    "the client goes away while the replica computes",
    async (gateway, protocol) => {
      for (const replica of gateway.replicas) replica.behave(silent);
      const exchange = await begin(gateway, protocol);
      await arrived(gateway);
      exchange.abort();
    },
  ],
  [
    "the client goes away in the middle of the answer",
    async (gateway, protocol) => {
      for (const replica of gateway.replicas) replica.behave(stream(Array(1_000).fill("data: {}\n\n"), 5));
      const exchange = await begin(gateway, protocol);
      await until("a piece of the answer", () => exchange.received().includes("data"));
      exchange.abort();
    },
  ],
  [
    "the replica resets in the middle of the answer",
    async (gateway, protocol) => {
      for (const replica of gateway.replicas) replica.behave(reset("answer"));
      await (await begin(gateway, protocol)).reply.catch(() => {});
    },
  ],
  [
    "every replica resets before it answers",
    async (gateway, protocol) => {
      for (const replica of gateway.replicas) replica.behave(reset("body"));
      expect((await (await begin(gateway, protocol)).reply).status).toBe(503);
    },
  ],
  [
    "the answer is shorter than its content-length",
    async (gateway, protocol) => {
      for (const replica of gateway.replicas) {
        replica.behave(async ({ response, socket, bodyRead }) => {
          await bodyRead;
          response.writeHead(200, { "content-length": "1000" });
          response.write("short", () => socket.end());
        });
      }
      await (await begin(gateway, protocol)).reply.catch(() => {});
    },
  ],
  [
    "the answer has no body",
    async (gateway, protocol) => {
      for (const replica of gateway.replicas) replica.behave(answer(204));
      expect((await (await begin(gateway, protocol)).reply).status).toBe(204);
    },
  ],
  [
    "the replica answers before it has read the request",
    async (gateway, protocol) => {
      for (const replica of gateway.replicas) {
        replica.behave(({ response }) => {
          // It stays open: closing with the request unread would reset the connection, and the answer with it.
          response.writeHead(401).end("who are you?");
        });
      }
      const exchange = open(gateway.url, { protocol, path: CHAT_PATH });
      exchange.reply.catch(() => {});
      await exchange.write(JSON.stringify(chat(PROMPT.repeat(100))).slice(0, 1_500_000));
      expect((await exchange.head).status).toBe(401);
      exchange.abort();
    },
  ],
  [
    "the body turns out to be no JSON",
    async (gateway, protocol) => {
      const exchange = await begin(gateway, protocol, 5_000);
      exchange.end("\u0000");
      expect((await exchange.reply).status).toBe(400);
    },
  ],
];

/** Waits until that many streams are held. */
async function streams(gateway: Gateway, count: number): Promise<void> {
  await until("streams held", async () => (await gateway.status<Status>()).counters["streams"] === count);
}

describe.each(ENVOY_VERSIONS)("nothing is held on Envoy %s after", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  beforeAll(async () => {
    gateway = await startGateway(version, { replicas: 2, concurrency: 2 });
    // A worker that has read a body waits for the next one as long as it takes.
    await until("every worker has read a body", async () => {
      await Promise.all(Array.from({ length: 8 }, (_, i) => ask(gateway, text(i))));
      return (await gateway.status<Status>()).workers === 2;
    });
  });
  afterAll(() => gateway?.stop());

  describe.each(PROTOCOLS)("%s:", (protocol) => {
    it.each(ENDINGS)("%s", async (_, end) => {
      for (const replica of gateway.replicas) {
        replica.forget();
        replica.behave(echo);
      }
      // A new generation: what the last ending did to a replica's standing is forgotten.
      const generation = ((await gateway.status<Status>()).pools[0]!.endpoints[0]!.generation % 65_535) + 1;
      await gateway.push({ generation });
      await end(gateway, protocol);
      const { pools, counters } = await settled(gateway);
      for (const name of HELD) expect(counters[name], name).toBe(0);
      for (const endpoint of pools[0]!.endpoints) {
        expect(endpoint).toMatchObject({ inflightRequests: 0, inflightTokens: 0 });
      }
    });
  });

  it("a replica's slot changed hands under requests in flight", async () => {
    const hold = held();
    for (const replica of gateway.replicas) replica.behave(hold.behaviour);
    const generation = (await gateway.status<Status>()).pools[0]!.endpoints[0]!.generation;
    const replies = Array.from({ length: 6 }, (_, i) => ask(gateway, text(`${i} in flight`)));
    await until(
      "requests in flight",
      async () => (await gateway.status<Status>()).counters["inflightRequests"] === 6,
    );
    await gateway.push({ generation: generation + 1 });
    const more = Array.from({ length: 6 }, (_, i) => ask(gateway, text(`${i} after`)));
    await until("more in flight", async () => (await gateway.status<Status>()).counters["streams"] === 12);
    await gateway.pushBytes(Buffer.from("not a snapshot"));
    hold.release();
    for (const reply of await Promise.all([...replies, ...more])) expect(reply.status).toBe(200);
    await settled(gateway);
  });
});

describe.each(ENVOY_VERSIONS)(
  "a body that outgrows Envoy's buffer while it is held on Envoy %s",
  (version) => {
    it.each(PROTOCOLS)("is answered 413 by Envoy, and nothing of it stays, over %s", async (protocol) => {
      const pluginConfig = settings({ decisionBytesMax: 16_777_216 });
      // Over HTTP/2 the larger one of the buffer's limit and the stream's window counts.
      const edit = (bootstrap: Bootstrap): void => {
        inference(bootstrap)["http2_protocol_options"] = { initial_stream_window_size: BUFFER_BYTES };
      };
      await withEnvoy(version, { bufferLimitBytes: BUFFER_BYTES, pluginConfig, edit }, async (gateway) => {
        const exchange = open(gateway.url, { protocol, path: CHAT_PATH });
        exchange.reply.catch(() => {});
        await exchange.write('{"model":"test-model","stop":[');
        let isAnswered = false;
        const answered = exchange.head.finally(() => (isAnswered = true));
        const filler = '"x",'.repeat(4_096);
        while (!isAnswered) await Promise.race([exchange.write(filler), answered]);
        expect((await answered).status).toBe(413);
        exchange.abort();
        expect((await settled(gateway)).counters).toMatchObject({ requests: 1, decisions: 0 });
        for (const replica of gateway.replicas) expect(replica.received).toHaveLength(0);
      });
    });
  },
);

describe.each(ENVOY_VERSIONS)("what is in flight on Envoy %s", (version) => {
  it("is counted while it lasts: a request until its end, its tokens until the first token", async () => {
    await withEnvoy(version, { replicas: 1, concurrency: 2 }, async (gateway) => {
      const [replica] = gateway.replicas;
      const answers: (() => void)[] = [];
      replica!.behave(async ({ response, bodyRead }) => {
        await bodyRead;
        await new Promise<void>((settle) => answers.push(settle));
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write(": keep-alive\n\n");
        await new Promise<void>((settle) => answers.push(settle));
        response.write('data: {"choices":[]}\n\n');
        await new Promise<void>((settle) => answers.push(settle));
        response.end("data: [DONE]\n\n");
      });
      const counted = (what: string, requests: number, hasTokens: boolean): Promise<boolean> =>
        until(what, async () => {
          const { counters, pools } = await gateway.status<Status>();
          const [endpoint] = pools[0]!.endpoints;
          return (
            counters["inflightRequests"] === requests &&
            endpoint!.inflightRequests === requests &&
            counters["inflightTokens"]! > 0 === hasTokens &&
            endpoint!.inflightTokens > 0 === hasTokens
          );
        });
      const exchange = open(gateway.url, { path: CHAT_PATH });
      exchange.end(JSON.stringify(chat(PROMPT, { stream: true })));
      await counted("the request and its tokens", 1, true);
      await until("the replica waits", () => answers.length === 1);
      answers[0]!();
      await until("a comment", () => exchange.received().includes("keep-alive"));
      await counted("a comment is no token", 1, true);
      await until("the replica waits again", () => answers.length === 2);
      answers[1]!();
      await counted("the first token", 1, false);
      await until("the replica waits for the last time", () => answers.length === 3);
      answers[2]!();
      expect((await exchange.reply).text).toContain("[DONE]");
      await counted("the end", 0, false);
      await settled(gateway);
    });
  });
});
