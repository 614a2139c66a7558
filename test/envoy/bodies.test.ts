// Bodies of every size and framing: routed before they end, passed on whole, and refused where they must be.
import { createHash, randomFillSync } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open, type Protocol, PROTOCOLS, send } from "./clients.ts";
import { ENVOY_VERSIONS, type Gateway, POOL, startGateway, until } from "./harness.ts";
import { settled } from "./status.ts";
import { CHAT_PATH, echoOf, showDestination, text } from "./support.ts";

const MIB = 1_048_576;
const BODY_BYTES_MAX = 16 * MIB;
const PIECE_BYTES = 32_768;

const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

/** A chat request of exactly `bytes` bytes; the model's name comes first or, as OpenAI's Python client sends it, last. */
function bodyOf(bytes: number, modelAt: "first" | "last" = "last"): Buffer {
  const [head, tail] =
    modelAt === "first"
      ? ['{"model":"test-model","messages":[{"role":"user","content":"', '"}]}']
      : ['{"messages":[{"role":"user","content":"', '"}],"model":"test-model"}'];
  const random = randomFillSync(Buffer.alloc(Math.ceil(bytes / 2))).toString("hex");
  return Buffer.from(head + random.slice(0, bytes - head!.length - tail!.length) + tail);
}

type Framing = "content-length" | "unknown length";
const FRAMINGS: readonly Framing[] = ["content-length", "unknown length"];

function headersFor(body: Buffer, framing: Framing): Record<string, string> {
  return {
    "content-type": "application/json",
    ...(framing === "content-length" ? { "content-length": String(body.length) } : {}),
  };
}

describe.each(ENVOY_VERSIONS)("request bodies on Envoy %s", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  beforeAll(async () => {
    gateway = await startGateway(version, { replicas: 2, edit: showDestination });
  });
  afterAll(() => gateway?.stop());

  const arrivals = (): number => gateway.replicas.reduce((sum, { received }) => sum + received.length, 0);
  const decisions = (): Promise<number> => gateway.metric("epp_decisions_total", { pool: POOL });
  const forget = (): void => {
    for (const replica of gateway.replicas) replica.forget();
  };

  describe.each(PROTOCOLS)("over %s", (protocol) => {
    describe.each(FRAMINGS)("with %s", (framing) => {
      it.each(["first", "last"] as const)(
        "routes a slow 3 MB upload long before it ends, model %s",
        async (modelAt) => {
          const body = bodyOf(3 * MIB, modelAt);
          forget();
          const exchange = open(gateway.url, {
            protocol,
            path: CHAT_PATH,
            headers: headersFor(body, framing),
          });
          let sent = 0;
          while (arrivals() === 0 && sent < MIB) {
            await exchange.write(body.subarray(sent, sent + PIECE_BYTES));
            sent += PIECE_BYTES;
            await new Promise((settle) => setTimeout(settle, 10));
          }
          // Two thirds are still to come, and do not before the replica has heard of it.
          await until("the replica hears of it", () => arrivals() > 0);
          exchange.end(body.subarray(sent));
          expect(echoOf(await exchange.reply)).toMatchObject({
            bodyBytes: body.length,
            sha256: sha256(body),
          });
        },
      );

      it.each([80, 4_096, 65_535, 65_536, 65_537, MIB, BODY_BYTES_MAX])(
        "passes %i bytes on as they are",
        async (bytes) => {
          const body = bodyOf(bytes);
          const before = await decisions();
          const exchange = open(gateway.url, {
            protocol,
            path: CHAT_PATH,
            headers: headersFor(body, framing),
          });
          exchange.end(body);
          expect(echoOf(await exchange.reply)).toMatchObject({
            bodyBytes: body.length,
            sha256: sha256(body),
          });
          expect(await decisions()).toBe(before + 1);
        },
      );

      it("takes a body byte by byte", async () => {
        const body = Buffer.from(
          JSON.stringify({ messages: [{ role: "user", content: "é☕\u{1f600}\n" }], model: "m" }),
        );
        const exchange = open(gateway.url, { protocol, path: CHAT_PATH, headers: headersFor(body, framing) });
        for (const byte of body) await exchange.write(Buffer.of(byte));
        exchange.end();
        expect(echoOf(await exchange.reply)).toMatchObject({ text: body.toString() });
      });
    });

    it("decides at a last chunk that is empty", async () => {
      const body = bodyOf(500);
      const exchange = open(gateway.url, { protocol, path: CHAT_PATH });
      await exchange.write(body);
      await new Promise((settle) => setTimeout(settle, 20));
      exchange.end();
      expect(echoOf(await exchange.reply)).toMatchObject({ sha256: sha256(body) });
    });

    it("decides when trailers end the body", async () => {
      const body = bodyOf(500);
      const headers = protocol === "http1" ? { trailer: "x-end", "transfer-encoding": "chunked" } : {};
      const exchange = open(gateway.url, { protocol, path: CHAT_PATH, headers, trailers: true });
      exchange.end(body, { "x-end": "1" });
      expect(echoOf(await exchange.reply)).toMatchObject({ sha256: sha256(body) });
    });

    it("picks by load for a body that ends without a byte in it", async () => {
      const before = await gateway.metric("epp_decisions_total", { pool: POOL, kind: "load" });
      const exchange = open(gateway.url, { protocol, path: CHAT_PATH });
      exchange.end();
      expect(echoOf(await exchange.reply)).toMatchObject({ bodyBytes: 0 });
      expect(await gateway.metric("epp_decisions_total", { pool: POOL, kind: "load" })).toBe(before + 1);
    });

    it.each([
      ["OpenAI", CHAT_PATH, { error: { type: "BadRequestError", param: null, code: 413 } }],
      ["Anthropic", "/v1/messages", { type: "error", error: { type: "request_too_large" } }],
    ])(
      "answers 413 in %s's shape to a content-length beyond the limit, before any body",
      async (_, path, shape) => {
        forget();
        const headers = { "content-length": String(BODY_BYTES_MAX + 1) };
        const exchange = open(gateway.url, { protocol, path, headers });
        const { status } = await exchange.head;
        await until("the whole answer", () => exchange.received().endsWith("}"));
        exchange.abort();
        exchange.reply.catch(() => {});
        expect(status).toBe(413);
        expect(JSON.parse(exchange.received())).toMatchObject(shape);
        expect(exchange.received()).toContain(String(BODY_BYTES_MAX));
        expect(arrivals()).toBe(0);
      },
    );
  });

  it("holds nothing afterwards", async () => {
    const { counters } = await settled(gateway);
    expect(counters["decisionsEarly"]).toBeGreaterThanOrEqual(FRAMINGS.length * PROTOCOLS.length * 4);
  });
});

describe.each(ENVOY_VERSIONS)("many uploads at once on Envoy %s", (version) => {
  it("come through whole, whatever their framing", async () => {
    const gateway = await startGateway(version, { replicas: 3, concurrency: 2 });
    try {
      const kinds = PROTOCOLS.flatMap((protocol) =>
        FRAMINGS.map((framing): [Protocol, Framing] => [protocol, framing]),
      );
      const uploads = Array.from({ length: 40 }, async (_, i) => {
        const [protocol, framing] = kinds[i % kinds.length]!;
        const body = bodyOf(100 + i * 20_011);
        const exchange = open(gateway.url, { protocol, path: CHAT_PATH, headers: headersFor(body, framing) });
        for (let at = 0; at < body.length; at += 50_000) await exchange.write(body.subarray(at, at + 50_000));
        exchange.end();
        return echoOf(await exchange.reply).sha256 === sha256(body);
      });
      expect(await Promise.all(uploads)).toEqual(uploads.map(() => true));
      await settled(gateway);
    } finally {
      await gateway.stop();
    }
  });

  it("leave the gateway's other paths alone", async () => {
    const gateway = await startGateway(version, { replicas: 1 });
    try {
      const upload = Buffer.from(text("bytes of an audio file", 2 * MIB));
      const reply = await send(gateway.url, { path: "/v1/audio/transcriptions", body: upload });
      expect(echoOf(reply)).toMatchObject({ bodyBytes: upload.length, sha256: sha256(upload) });
    } finally {
      await gateway.stop();
    }
  });
});
