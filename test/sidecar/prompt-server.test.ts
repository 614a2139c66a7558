// Asking servers for rendered prompts: which path, which answers, and what is learnt from real tokenizers' templates.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import * as wire from "../../assembly/wire/prompt-programs.ts";
import { TimeoutError } from "../../sidecar/errors.ts";
import type { ReplicaConfig } from "../../host-sim/model-server/replica-types.ts";
import type { TokenTable } from "../../sidecar/kv-events/token-table.ts";
import { TokenLearner } from "../../sidecar/kv-events/token-learner.ts";
import { HttpTokenServer } from "../../sidecar/kv-events/token-server.ts";
import { readTokenizer } from "../../sidecar/kv-events/tokenizer-file.ts";
import { type Learnt, learnProgram } from "../../sidecar/prompts/learn.ts";
import { ProbeTexts } from "../../sidecar/prompts/probe-texts.ts";
import {
  type Message,
  renderChat,
  renderCompletion,
  ROLES,
  transitionName,
} from "../../sidecar/prompts/program.ts";
import { HttpRenderer } from "../../sidecar/prompts/render-server.ts";
import { DATED_TEMPLATE, realModel, type RealModelName, tokenizerPath } from "../sim/support/real-models.ts";
import { startReplica } from "../sim/support/replica.ts";
import { SILENT } from "./kv-events-support.ts";
import { between, seeded, seedOf } from "./seeds.ts";

const SEED = seedOf();
const CREDENTIALS = { tls: null, token: null };

/** Answers by path, and what was asked. */
async function startFake(answers: Record<string, [number, unknown]>): Promise<{
  address: string;
  asked: { path: string; body: Record<string, unknown>; authorization: string | undefined }[];
}> {
  const asked: { path: string; body: Record<string, unknown>; authorization: string | undefined }[] = [];
  const server = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk) => (text += chunk));
    request.on("end", () => {
      const path = request.url!;
      asked.push({ path, body: JSON.parse(text), authorization: request.headers.authorization });
      const [status, answer] = answers[path] ?? [404, {}];
      response.writeHead(status).end(JSON.stringify(answer));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

/** Answers with a byte every 100 ms and never ends. */
async function startDripping(): Promise<string> {
  const server = createServer((_, response) => {
    response.writeHead(200);
    const drip = setInterval(() => response.write(" "), 100);
    response.on("close", () => clearInterval(drip));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => server.closeAllConnections());
  onTestFinished(() => void server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Bytes of ids below 256. */
const bytesOf = async (tokens: readonly number[]): Promise<Uint8Array | null> =>
  tokens.some((id) => id > 255) ? null : Uint8Array.from(tokens);

const USER: Message[] = [{ role: "user", content: "a" }];
const RENDER = "/v1/chat/completions/render";

describe("a server", () => {
  it("that answers byte by byte for ever is not waited for", async () => {
    const renderer = new HttpRenderer(await startDripping(), "m", () => CREDENTIALS, bytesOf);
    await expect(renderer.chat(USER)).rejects.toThrow(TimeoutError);
  });

  it("is asked by the path of its chat where it has that", async () => {
    const { address, asked } = await startFake({ [RENDER]: [200, { token_ids: [65, 66] }] });
    const renderer = new HttpRenderer(address, "m", () => ({ tls: null, token: "secret" }), bytesOf);
    const parts: Message[] = [...USER, { role: "assistant", content: ["x", "y"] }];
    expect(Buffer.from((await renderer.chat(parts))!).toString()).toBe("AB");
    expect(asked).toEqual([
      {
        path: RENDER,
        authorization: "Bearer secret",
        body: {
          model: "m",
          messages: [
            { role: "user", content: "a" },
            {
              role: "assistant",
              content: [
                { type: "text", text: "x" },
                { type: "text", text: "y" },
              ],
            },
          ],
        },
      },
    ]);
  });

  it.each([403, 404, 405, 501])(
    "without it (%d) is asked for tokens, and not for it again",
    async (status) => {
      const { address, asked } = await startFake({
        [RENDER]: [status, {}],
        "/tokenize": [200, { tokens: [65] }],
      });
      const renderer = new HttpRenderer(address, "m", () => CREDENTIALS, bytesOf);
      for (let turn = 0; turn < 2; turn++) expect(await renderer.chat(USER)).toEqual(Uint8Array.of(65));
      await renderer.completion("x");
      expect(asked.map(({ path }) => path)).toEqual([RENDER, "/tokenize", "/tokenize", "/tokenize"]);
      expect(asked[1]!.body).toEqual({ model: "m", messages: USER });
      expect(asked[3]!.body).toEqual({ model: "m", prompt: "x", add_special_tokens: true });
    },
  );

  it.each([400, 404, 422, 500])("that answers %d refuses that prompt", async (status) => {
    const { address } = await startFake({ "/tokenize": [status, {}] });
    const renderer = new HttpRenderer(address, "m", () => CREDENTIALS, bytesOf);
    expect([await renderer.chat(USER), await renderer.completion("x")]).toEqual([null, null]);
    const chat = await startFake({ [RENDER]: [400, {}], "/tokenize": [200, { tokens: [65] }] });
    expect(await new HttpRenderer(chat.address, "m", () => CREDENTIALS, bytesOf).chat(USER)).toBeNull();
  });

  it.each([
    ["status-unexpected", [503, {}]],
    ["status-unexpected", [401, {}]],
    ["tokenizer-invalid", [200, { tokens: ["a"] }]],
    ["tokenizer-invalid", [200, []]],
    ["tokenizer-invalid", [200, { tokens: [65, 256] }]],
  ] as [string, [number, unknown]][])("that cannot be asked is told apart: %s, %j", async (code, answer) => {
    const { address } = await startFake({ "/tokenize": answer });
    const renderer = new HttpRenderer(address, "m", () => CREDENTIALS, bytesOf);
    await expect(renderer.chat(USER)).rejects.toMatchObject({ code });
  });
});

/** A program learnt from a simulated server, and its renderer. */
async function learnFrom(
  overrides: Partial<ReplicaConfig>,
  table: TokenTable | null,
): Promise<{ learnt: Learnt; renderer: HttpRenderer }> {
  const replica = await startReplica({ modelTokensMax: 32_768, ...overrides });
  const learner = new TokenLearner(SILENT);
  const server = new HttpTokenServer(replica.address, () => CREDENTIALS);
  const renderer = new HttpRenderer(
    replica.address,
    "tiny",
    () => CREDENTIALS,
    async (tokens) => {
      if (table !== null) return table.render(tokens);
      await learner.learn(server, [tokens]);
      return learner.table.render(tokens);
    },
  );
  return { learnt: await learnProgram(renderer, { random: seeded(SEED), now: Date.now }), renderer };
}

const CONVERSATIONS = 25;

/** Random conversations come out as the server renders them. @returns how many were rendered */
async function expectEqual({ learnt, renderer }: Awaited<ReturnType<typeof learnFrom>>): Promise<number> {
  const random = seeded(SEED + 1);
  const texts = new ProbeTexts(random);
  let rendered = 0;
  for (let turn = 0; turn < CONVERSATIONS; turn++) {
    const roles = Array.from({ length: between(random, 1, 7) }, (_, at) => {
      return random() < 0.8 ? ROLES[1 + (at % 2)]! : ROLES[between(random, 0, 2)]!;
    });
    const messages = texts.conversation(roles);
    const text = renderChat(learnt.program, messages);
    const truth = text === null ? null : await renderer.chat(messages);
    if (text === null || truth === null) continue;
    rendered += 1;
    expect(text.toString(), JSON.stringify(messages)).toBe(Buffer.from(truth).toString());
    const prompt = texts.content("plain") as string;
    const completion = await renderer.completion(prompt);
    expect(renderCompletion(learnt.program, prompt)!.toString()).toBe(Buffer.from(completion!).toString());
  }
  return rendered;
}

const ways = (name: RealModelName): [RealModelName, string, boolean][] => [
  [name, "its file", true],
  [name, "the server", false],
];

describe(`a program learnt from a simulated server, seed ${SEED}`, () => {
  it("of the simulated model renders what the server does", async () => {
    const result = await learnFrom({}, null);
    expect([result.learnt.reason, result.learnt.program.flags, [...result.learnt.unknown]]).toEqual([
      null,
      0,
      [],
    ]);
    expect(await expectEqual(result)).toBe(CONVERSATIONS);
  });

  it.each([...ways("llama3_1"), ...ways("qwen2_5")])(
    "with the tokenizer and template of %s renders what it does; tokens known from %s",
    async (name, _, hasFile) => {
      const table = hasFile ? readTokenizer(tokenizerPath(name)) : null;
      const result = await learnFrom({ textModel: realModel(name, { cleansUp: !hasFile }) }, table);
      const { learnt } = result;
      expect([learnt.reason, [...learnt.unknown]]).toEqual([null, []]);
      const trims = wire.PROGRAM_TRIMS_SYSTEM | wire.PROGRAM_TRIMS_USER | wire.PROGRAM_TRIMS_ASSISTANT;
      expect(learnt.program.flags).toBe(name === "llama3_1" ? trims : 0);
      const start = Buffer.from(learnt.program.literals[wire.PROMPT_COMPLETION]!).toString();
      expect(start).toBe(name === "llama3_1" ? "<|begin_of_text|>" : "");
      expect(await expectEqual(result)).toBe(CONVERSATIONS);
    },
  );

  it("with Llama 3.1's date lines reduces while the date is a fixed one", async () => {
    const result = await learnFrom({ textModel: realModel("llama3_1", { template: DATED_TEMPLATE }) }, null);
    expect([result.learnt.reason, [...result.learnt.unknown]]).toEqual([null, []]);
    expect(await expectEqual(result)).toBe(CONVERSATIONS);
  });

  it("with today's date does not", async () => {
    const today = new Date().toISOString().slice(0, 10);
    const template = DATED_TEMPLATE.replace("26 Jul 2024", today);
    const { learnt } = await learnFrom({ textModel: realModel("llama3_1", { template }) }, null);
    expect(learnt.reason).toBe("dated");
    expect([...learnt.unknown].map(([index]) => transitionName(index))).toContain("start-user");
  });
});
