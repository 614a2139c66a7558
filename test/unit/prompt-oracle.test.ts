// Request and response bodies against llm-d's own answers (fixtures/oracles/parsers.json).
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { API, PromptReader } from "./support/prompt-reader.ts";

interface Case {
  readonly source: string;
  readonly op: string;
  readonly parser?: string;
  readonly name: string;
  readonly input: {
    readonly headers?: Readonly<Record<string, string>> | null;
    readonly body?: string | null;
    readonly path?: string;
  };
  readonly expect: {
    readonly error?: string;
    readonly kind?: string;
    readonly model?: string;
    readonly stream?: boolean;
    readonly maxOutputTokens?: number;
    readonly cacheSalt?: string;
    readonly messages?: readonly unknown[];
    readonly parsed?: { readonly TokenIDs?: readonly number[]; readonly CacheSalt?: string };
    readonly prompt?: { readonly TokenIDs?: readonly number[] };
    readonly usage?: Readonly<Record<string, number>> | null;
    readonly streamedEvents?: number;
  };
}

const { cases } = JSON.parse(
  readFileSync(new URL("../fixtures/oracles/parsers.json", import.meta.url), "utf8"),
) as { cases: Case[] };

/** llm-d's name for what a path asks. */
const KINDS: Readonly<Record<number, string>> = {
  [API.other]: "",
  [API.chat]: "chat_completions",
  [API.completions]: "completions",
  [API.responses]: "responses",
  [API.conversations]: "conversations",
  [API.embeddings]: "embeddings",
  [API.images]: "images",
  [API.messages]: "messages",
  [API.countTokens]: "",
  [API.vllmGenerate]: "generate",
  [API.sglangGenerate]: "generate",
  [API.chatRender]: "chat_completions",
  [API.completionsRender]: "completions",
};

/** Where we answer otherwise, and why. `part` is found in the case's name. */
const DEVIATIONS: readonly { readonly part: string; readonly why: string; readonly served: boolean }[] = [
  {
    part: "text without input ids",
    why: "SGLang serves text prompts on /generate; most of its clients send them",
    served: true,
  },
  {
    part: "input embeds without input ids",
    why: "SGLang serves embeddings as the prompt; they are hashed whole",
    served: true,
  },
  {
    part: "batched input_ids are rejected",
    why: "SGLang serves batches of token-id prompts",
    served: true,
  },
];

/**
 * The peer's parser was asked about a path that is another parser's. Here the path alone names the API, so there is
 * no such question; the answer is that of the path.
 */
const OTHER_PARSERS_PATH = /^unsupported (path|API endpoint): /;

let reader: PromptReader;
beforeAll(async () => {
  reader = await PromptReader.start();
});

const byOp = (op: string) => cases.filter((one) => one.op === op);
const pathOf = ({ headers }: Case["input"]) =>
  headers?.[":path"] || headers?.["x-original-path"] || "/v1/completions";
const deviationOf = (one: Case) => DEVIATIONS.find(({ part }) => one.name.includes(part));

describe("requests", () => {
  const requests = byOp("parseRequest").filter(({ parser }) => parser !== "passthrough-parser");
  it("are all there", () => expect(requests.length).toBeGreaterThan(140));

  for (const one of requests) {
    const deviation = deviationOf(one);
    it(`${one.parser}: ${one.name}${deviation === undefined ? "" : ` (ours: ${deviation.why})`}`, () => {
      const api = reader.api(pathOf(one.input));
      const body = Buffer.from(one.input.body ?? "null");
      for (const chunk of [Math.max(body.length, 1), 1, 7]) {
        const got = reader.read(api, body, chunk);
        if (deviation !== undefined) {
          expect(got.error === undefined).toBe(deviation.served);
        } else if (one.expect.error !== undefined) {
          if (OTHER_PARSERS_PATH.test(one.expect.error)) expect(api).not.toBe(API.sglangGenerate);
          else expect(got.error).toBe(one.expect.error);
        } else {
          compare(api, got, one.expect);
        }
      }
    });
  }

  it("deviate only where the table says so", () => {
    for (const { part } of DEVIATIONS)
      expect(requests.filter(({ name }) => name.includes(part))).toHaveLength(1);
  });
});

function compare(api: number, got: ReturnType<PromptReader["read"]>, expected: Case["expect"]): void {
  expect(got.error).toBeUndefined();
  expect(KINDS[api]).toBe(expected.kind);
  if (api === API.countTokens) return;
  expect(got.model).toBe(expected.model);
  expect(got.stream).toBe(expected.stream);
  expect(got.maxTokens).toBe(expected.maxOutputTokens);
  expect(got.messages).toBe(expected.messages?.length ?? got.messages);
  const ids = expected.parsed?.TokenIDs ?? expected.prompt?.TokenIDs;
  if (ids !== undefined) expect(got.tokenIds).toBe(ids.length);
  expect(got.salt !== 0n).toBe((expected.cacheSalt ?? expected.parsed?.CacheSalt) !== undefined);
}

describe("bodies that only the passthrough parser takes", () => {
  for (const one of byOp("parseRequest").filter(({ parser }) => parser === "passthrough-parser")) {
    it(one.name, () =>
      expect(reader.read(reader.api("/unknown/path"), one.input.body ?? "").error).toBeUndefined(),
    );
  }
});

describe("paths", () => {
  /** Which parser of llm-d takes the path, in our words. */
  const EXPECTED: Readonly<Record<string, number>> = {
    "/v1/chat/completions": API.chat,
    "/v1/messages": API.messages,
    "/v1/messages/": API.messages,
    "/v1/completions": API.completions,
    "/inference/v1/generate": API.vllmGenerate,
    "/generate": API.sglangGenerate,
    "/unknown/path": API.other,
    // Vertex AI's gRPC method names: no JSON, so a pick by load.
    "/google.cloud.aiplatform.v1beta1.PredictionService/ChatCompletions": API.other,
    "/google.cloud.aiplatform.v1.PredictionService/ChatCompletions": API.other,
  };
  for (const { name, input } of byOp("resolveParser")) {
    it(name, () => expect(reader.api(input.path!)).toBe(EXPECTED[input.path!]));
  }
});

describe("responses", () => {
  for (const one of byOp("parseResponse")) {
    it(`${one.parser}: ${one.name} (${one.source.split(":").at(-1)})`, () => {
      const headers = Object.entries(one.input.headers ?? {});
      const isEventStream = headers.some(
        ([name, value]) => name.toLowerCase() === "content-type" && value.includes("text/event-stream"),
      );
      const body = Buffer.from(one.input.body ?? "");
      const expected = one.expect.usage ?? null;
      // The peer reports Anthropic's `input_tokens` as the prompt. They leave out what the cache held: vLLM answers 9 for
      // a prompt of 41 tokens of which 32 were cached. Ours is the whole prompt.
      const leftOut = one.parser === "anthropic-parser" ? (expected?.["cached_tokens"] ?? 0) : 0;
      for (let chunk = Math.max(body.length, 1); chunk > 0; chunk = chunk > 64 ? chunk >> 1 : chunk - 1) {
        const { usage } = reader.usage(body, isEventStream, chunk);
        expect(usage, `chunks of ${chunk}`).toEqual(
          expected && {
            prompt: expected["prompt_tokens"]! + leftOut,
            completion: expected["completion_tokens"],
            cached: expected["cached_tokens"],
          },
        );
      }
    });
  }
});
