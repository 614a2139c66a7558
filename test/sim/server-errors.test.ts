// Errors have the status, type and message that vLLM 0.32.0 was seen to answer.
import { describe, expect, it } from "vitest";
import { send, startReplica } from "./support/replica.ts";

const CHAT = "/v1/chat/completions";
const USER = [{ role: "user", content: "x" }];

interface Row {
  readonly name: string;
  readonly path?: string;
  readonly body: unknown;
  readonly status?: number;
  readonly type: string;
  readonly param: string | null;
  readonly message: string | RegExp;
}

const ROWS: readonly Row[] = [
  {
    name: "JSON that ends early",
    body: '{"messages":',
    type: "Bad Request",
    param: "body.12",
    message:
      "1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.12', 'msg': 'JSON decode error', " +
      "'input': '<dict of 0 items>', 'ctx': {'error': 'Expecting value'}}",
  },
  {
    name: "an empty body",
    body: "",
    type: "Bad Request",
    param: "body",
    message:
      "1 validation error:\n  {'type': 'missing', 'loc': 'body', 'msg': 'Field required', 'input': 'None'}",
  },
  {
    name: "a body that is a list",
    body: "[]",
    type: "Bad Request",
    param: "body",
    message: /model_attributes_type.*<list of 0 items>/,
  },
  {
    name: "no messages",
    body: { model: "tiny" },
    type: "Bad Request",
    param: "body.messages",
    message:
      "1 validation error:\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', " +
      "'input': '<dict of 1 items>'}",
  },
  {
    name: "messages that are text",
    body: { messages: "x" },
    type: "Bad Request",
    param: "body.messages",
    message:
      "1 validation error:\n  {'type': 'list_type', 'loc': 'body.messages', " +
      "'msg': 'Input should be a valid list', 'input': 'x'}",
  },
  {
    name: "an empty conversation",
    body: { messages: [] },
    type: "BadRequestError",
    param: null,
    message: "Cannot apply chat template to an empty conversation. Provide at least one message.",
  },
  {
    name: "a limit below one",
    body: { messages: USER, max_tokens: 0 },
    type: "BadRequestError",
    param: "max_tokens",
    message: "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)",
  },
  {
    name: "a limit above the context",
    body: { messages: USER, max_tokens: 5000 },
    type: "BadRequestError",
    param: "max_tokens",
    message:
      "max_tokens=5000 cannot be greater than max_model_len=4096. Please request fewer output tokens. " +
      "(parameter=max_tokens, value=5000)",
  },
  {
    name: "a negative temperature",
    body: { messages: USER, temperature: -1 },
    type: "BadRequestError",
    param: "temperature",
    message: "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)",
  },
  {
    name: "stream options without a stream",
    body: { messages: USER, stream_options: { include_usage: true } },
    type: "BadRequestError",
    param: "stream_options",
    message: "Stream options can only be defined when `stream=True`. (parameter=stream_options)",
  },
  {
    name: "an unknown model",
    body: { model: "nope", messages: USER },
    status: 404,
    type: "NotFoundError",
    param: "model",
    message: "The model `nope` does not exist. Valid aliases: tiny.",
  },
  {
    name: "a completion without a prompt",
    path: "/v1/completions",
    body: {},
    type: "BadRequestError",
    param: "prompt",
    message: "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)",
  },
  {
    name: "an empty list of prompts",
    path: "/v1/completions",
    body: { prompt: [] },
    type: "BadRequestError",
    param: null,
    message: "You must pass at least one prompt",
  },
  {
    name: "a token id that does not exist",
    path: "/v1/completions",
    body: { prompt: [99_999] },
    type: "BadRequestError",
    param: null,
    message: "Token id 99999 is out of vocabulary",
  },
  {
    name: "a prompt beyond the context",
    path: "/v1/completions",
    body: { prompt: "word ".repeat(6000), max_tokens: 1 },
    type: "BadRequestError",
    param: "input_tokens",
    message:
      "This model's maximum context length is 4096 tokens. However, your prompt contains at least 4097 input tokens, " +
      "which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. " +
      "(parameter=input_tokens, value=4097)",
  },
  {
    name: "token ids beyond the context",
    path: "/v1/completions",
    body: { prompt: Array.from({ length: 4196 }, () => 300), max_tokens: 1 },
    type: "BadRequestError",
    param: "input_tokens",
    message: /your prompt contains 4196 input tokens.*value=4196\)$/,
  },
  {
    name: "a prompt that leaves no room for an answer",
    path: "/v1/completions",
    body: { prompt: Array.from({ length: 4096 }, () => 300), max_tokens: 1 },
    type: "BadRequestError",
    param: "max_tokens",
    message: "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)",
  },
  {
    name: "a message request without its limit",
    path: "/v1/messages",
    body: { messages: USER },
    type: "Bad Request",
    param: "body.max_tokens",
    message: /'loc': 'body\.max_tokens', 'msg': 'Field required'/,
  },
];

describe("errors", () => {
  it.each(ROWS.map((row) => [row.name, row] as const))("%s", async (_, row) => {
    const replica = await startReplica();
    const { status, text } = await send(replica, row.path ?? CHAT, row.body);
    const { error } = JSON.parse(text);
    expect(status).toBe(row.status ?? 400);
    expect(error).toMatchObject({ type: row.type, param: row.param, code: row.status ?? 400 });
    if (typeof row.message === "string") expect(error.message).toBe(row.message);
    else expect(error.message).toMatch(row.message);
  });

  it("have Anthropic's shape on /v1/messages, but for validation", async () => {
    const replica = await startReplica();
    const { text } = await send(replica, "/v1/messages", { model: "nope", max_tokens: 1, messages: USER });
    expect(JSON.parse(text)).toEqual({
      type: "error",
      error: { type: "NotFoundError", message: "The model `nope` does not exist. Valid aliases: tiny." },
    });
    expect(JSON.parse((await send(replica, "/v1/messages", '{"messages":')).text).error.code).toBe(400);
  });

  it.each([
    ["an unknown path", "GET", "/nope", 404, '{"detail":"Not Found"}', null],
    ["a GET of an API", "GET", CHAT, 405, '{"detail":"Method Not Allowed"}', "POST"],
    ["a DELETE of a page", "DELETE", "/health", 405, '{"detail":"Method Not Allowed"}', "GET"],
  ])("%s", async (_, method, path, status, body, allow) => {
    const replica = await startReplica();
    const response = await fetch(replica.url + path, { method });
    expect([response.status, await response.text(), response.headers.get("allow")]).toEqual([
      status,
      body,
      allow,
    ]);
  });

  it("a body that is not declared as JSON", async () => {
    const replica = await startReplica();
    const { status, text } = await send(replica, CHAT, { messages: USER }, { "content-type": "text/plain" });
    expect([status, JSON.parse(text).error.message]).toEqual([
      400,
      "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed",
    ]);
  });

  it("pooling APIs do not exist where they are off", async () => {
    const replica = await startReplica({ poolingApis: false });
    expect((await send(replica, "/v1/embeddings", { input: "x" })).status).toBe(404);
  });

  it("503 when too many requests are in flight, streams too, without Retry-After", async () => {
    const replica = await startReplica({ requestsMax: 2 }, {});
    // A step takes longer than what is done meanwhile, on any machine.
    replica.inject({ slowdown: 1_000 });
    const held = [1, 2].map(() =>
      send(replica, "/v1/completions", { prompt: "a", max_tokens: 5, ignore_eos: true }),
    );
    while (replica.generation.inFlight < 2) await new Promise((resolve) => setTimeout(resolve, 1));
    for (const path of [CHAT, "/v1/messages"]) {
      const { status, headers, text } = await send(replica, path, {
        max_tokens: 2,
        messages: USER,
        stream: true,
      });
      expect([status, headers.get("retry-after")]).toEqual([503, null]);
      expect(JSON.parse(text).error.type).toBe("Service Unavailable");
    }
    expect(replica.generation.rejections).toBe(2);
    replica.inject({ slowdown: 1 });
    expect((await Promise.all(held)).map(({ status }) => status)).toEqual([200, 200]);
  });
});
