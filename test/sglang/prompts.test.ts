// SGLang's own /tokenize and /detokenize: what the sidecar learns of them, and the prompts that it renders by that.
import { createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TokenLearner } from "../../sidecar/kv-events/token-learner.ts";
import { HttpTokenServer } from "../../sidecar/kv-events/token-server.ts";
import { UNKNOWN_TOKEN } from "../../sidecar/kv-events/token-table.ts";
import { readTokenizer } from "../../sidecar/kv-events/tokenizer-file.ts";
import { learnProgram } from "../../sidecar/prompts/learn.ts";
import { ProbeTexts } from "../../sidecar/prompts/probe-texts.ts";
import { type Message, renderChat, renderCompletion } from "../../sidecar/prompts/program.ts";
import { HttpRenderer } from "../../sidecar/prompts/render-server.ts";
import { SILENT } from "../sidecar/kv-events-support.ts";
import { seeded, seedOf } from "../sidecar/seeds.ts";
import { MODEL_FOLDER, startPython } from "./process.ts";

const SEED = seedOf();
const NO_CREDENTIALS = { tls: null, token: null };
const START_POLL_MS = 250;
const textOf = (bytes: Uint8Array | null): string => Buffer.from(bytes ?? []).toString();
const table = readTokenizer(MODEL_FOLDER);
let server: ReturnType<typeof startPython>;
let address: string;

beforeAll(async () => {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as { port: number };
  await new Promise((resolve) => probe.close(resolve));
  address = `127.0.0.1:${port}`;
  server = startPython("tokens.py", [String(port), MODEL_FOLDER]);
  const api = new HttpTokenServer(address, () => NO_CREDENTIALS);
  for (;;) {
    if (server.exitCode !== null) throw new Error("tokens.py ended");
    const isThere = await api.tokenize("a").then(
      () => true,
      () => false,
    );
    if (isThere) return;
    await new Promise((resolve) => setTimeout(resolve, START_POLL_MS));
  }
});
afterAll(() => void server.kill("SIGKILL"));

describe("the chat template", () => {
  it("is learnt by /tokenize, and renders conversations as the server does", async () => {
    const renderer = new HttpRenderer(
      address,
      "tiny",
      () => NO_CREDENTIALS,
      async (tokens) => table.render(tokens),
    );
    const random = seeded(SEED);
    const { program, reason } = await learnProgram(renderer, { random, now: Date.now });
    expect(reason).toBeNull();
    const texts = new ProbeTexts(random);
    const shapes: Message["role"][][] = [
      ["user"],
      ["system", "user"],
      ["system", "user", "assistant", "user"],
      ["user", "assistant", "user", "assistant", "user"],
    ];
    let rendered = 0;
    for (let round = 0; round < 40; round++) {
      const messages = texts.conversation(shapes[round % shapes.length]!, ["plain", "edges", "long"]);
      const ours = renderChat(program, messages);
      if (ours === null) continue;
      expect(textOf(ours)).toBe(textOf(await renderer.chat(messages)));
      rendered += 1;
    }
    expect(rendered).toBeGreaterThan(30);
    const prompt = "Once upon a time, 日本語 😀";
    expect(textOf(renderCompletion(program, prompt))).toBe(textOf(await renderer.completion(prompt)));
  });
});

describe("the tokens", () => {
  it("are learnt, special ones and parts of characters too", async () => {
    const api = new HttpTokenServer(address, () => NO_CREDENTIALS);
    const learner = new TokenLearner(SILENT);
    const { tokens } = await api.tokenize(
      "<|im_start|>user\nThe quick brown fox, isn't it?<|im_end|>\n日本語 😀",
    );
    await learner.learn(api, [tokens]);
    const bytes = (of: typeof table, id: number): string | null =>
      of.lengthOf(id) === UNKNOWN_TOKEN ? null : Buffer.from(of.bytesOf(id)).toString("latin1");
    expect(tokens.map((id) => bytes(learner.table, id))).toEqual(tokens.map((id) => bytes(table, id)));
    expect([tokens.length > 20, learner.failures]).toEqual([true, 0]);
  });
});
