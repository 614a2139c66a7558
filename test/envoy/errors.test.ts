// Refusals: status, headers and body in the shape of the API that was asked, and requests that must not be refused.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PROTOCOLS, send } from "./clients.ts";
import { ENVOY_VERSIONS, type Gateway, startGateway } from "./harness.ts";
import { settled } from "./status.ts";
import { CHAT_PATH, echoOf } from "./support.ts";

const REASON = "x-llm-d-request-dropped-reason";
const MODEL = '"model":"test-model"';

/** [what, path, body, what the message says]: each is answered 400. */
const BAD: readonly [string, string, string, string][] = [
  [
    "text",
    CHAT_PATH,
    "no healthy upstream",
    "error unmarshaling request bodyMap: invalid character 'o' in literal null (expecting 'u')",
  ],
  ["a body cut short", CHAT_PATH, `{${MODEL},"messages":[{"role":"us`, "unexpected end of JSON input"],
  ["an array", CHAT_PATH, "[]", "the body is not a JSON object"],
  [
    "text behind the object",
    CHAT_PATH,
    `{${MODEL},"messages":[{"role":"user","content":"x"}]} x`,
    "invalid character 'x' after top-level value",
  ],
  ["nesting without end", CHAT_PATH, `{${MODEL},"messages":${"[".repeat(100)}`, "max depth"],
  ["no model", CHAT_PATH, '{"messages":[{"role":"user","content":"x"}]}', "model not found in request body"],
  [
    "an empty model",
    CHAT_PATH,
    '{"model":"","messages":[{"role":"user","content":"x"}]}',
    "model not found in request body",
  ],
  [
    "no messages",
    CHAT_PATH,
    `{${MODEL}}`,
    "invalid chat completions request: must have valid messages field",
  ],
  [
    "empty messages",
    CHAT_PATH,
    `{${MODEL},"messages":[]}`,
    "invalid chat completions request: must have valid messages field",
  ],
  ["no prompt", "/v1/completions", `{${MODEL}}`, "invalid completions request: must have prompt field"],
  ["no input", "/v1/responses", `{${MODEL}}`, "invalid responses request: must have input field"],
  ["no input to embed", "/v1/embeddings", `{${MODEL}}`, "invalid embeddings request: must have input field"],
  [
    "no token ids",
    "/inference/v1/generate",
    "{}",
    "invalid generate request: must have non-empty token_ids field",
  ],
  [
    "no message",
    "/v1/messages",
    `{${MODEL},"messages":[]}`,
    "invalid messages request: must have at least one message",
  ],
  ["text to Anthropic", "/v1/messages", "nonsense", "error unmarshaling request body: invalid character"],
];

describe.each(ENVOY_VERSIONS)("refusals on Envoy %s", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  beforeAll(async () => {
    gateway = await startGateway(version);
  });
  afterAll(() => gateway?.stop());

  describe.each(PROTOCOLS)("over %s", (protocol) => {
    it.each(BAD)("answer 400 to %s on %s, in that API's shape", async (_, path, body, said) => {
      const reply = await send(gateway.url, { protocol, path, body });
      expect(reply.status).toBe(400);
      expect(reply.headers["content-type"]).toBe("application/json");
      expect(reply.headers[REASON]).toBeUndefined();
      const message = expect.stringContaining(said) as string;
      expect(JSON.parse(reply.text)).toEqual(
        path === "/v1/messages"
          ? { type: "error", error: { type: "invalid_request_error", message } }
          : { error: { message, type: "BadRequestError", param: null, code: 400 } },
      );
      for (const replica of gateway.replicas) expect(replica.received).toHaveLength(0);
    });
  });

  it("are counted by their reason", async () => {
    expect(await gateway.metric("epp_errors_total", { reason: "bad_body" })).toBe(
      BAD.length * PROTOCOLS.length,
    );
    expect((await settled(gateway)).counters).toMatchObject({
      requestsRefused: BAD.length * PROTOCOLS.length,
      decisions: 0,
    });
  });

  it.each([
    [
      "an unknown field",
      CHAT_PATH,
      `{${MODEL},"messages":[{"role":"user","content":"x"}],"vendor":{"a":[1]}}`,
    ],
    ["token ids for a prompt", "/v1/completions", `{${MODEL},"prompt":[1,2,3]}`],
    ["several prompts of token ids", "/v1/completions", `{${MODEL},"prompt":[[1,2],[3]]}`],
    ["no model where the engine needs none", "/inference/v1/generate", '{"token_ids":[1,2,3]}'],
    ["a body that only the engine reads", "/v1/messages/count_tokens", "nonsense"],
    ["text on a path that is no inference API", "/v2/models/a/infer", "nonsense"],
    [
      "a byte-order of its own",
      CHAT_PATH,
      `\n\t {"messages" : [ {"content":[{"type":"text","text":"x"}] ,"role":"user"}], ${MODEL} }\r\n`,
    ],
  ])("are not given to %s", async (_, path, body) => {
    const reply = await send(gateway.url, { path, body });
    expect(reply.status).toBe(200);
    expect(echoOf(reply)).toMatchObject({ path, text: body });
  });

  it.each([
    ["OpenAI", CHAT_PATH, { error: { type: "ServiceUnavailableError", param: null, code: 503 } }],
    ["Anthropic", "/v1/messages", { type: "error", error: { type: "overloaded_error" } }],
    ["a GET", "/v1/models", { error: { code: 503 } }],
  ])("say 503 and why when no endpoint is ready, to %s", async (what, path, shape) => {
    await gateway.push({ flags: 0 });
    const body = `{${MODEL},"max_tokens":1,"messages":[{"role":"user","content":"x"}]}`;
    const reply = await send(gateway.url, { path, ...(what === "a GET" ? {} : { body }) });
    expect(reply.status).toBe(503);
    expect(reply.headers[REASON]).toBe("rejected-no-endpoints");
    expect(JSON.parse(reply.text)).toMatchObject(shape);
    await gateway.push();
  });

  it("leave the connection good for the next request", async () => {
    const { Client } = await import("undici");
    const client = new Client(gateway.url);
    try {
      for (let round = 0; round < 3; round++) {
        const bad = await client.request({ method: "POST", path: CHAT_PATH, body: "{" });
        expect(bad.statusCode).toBe(400);
        await bad.body.dump();
        const good = `{${MODEL},"messages":[{"role":"user","content":"x"}]}`;
        const reply = await client.request({ method: "POST", path: CHAT_PATH, body: good });
        expect(reply.statusCode).toBe(200);
        await reply.body.dump();
      }
    } finally {
      await client.destroy();
    }
  });
});
