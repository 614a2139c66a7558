// Chat templates learnt from real vLLM servers: programs render what the servers do, byte by byte.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as wire from "../../assembly/wire/prompt-programs.ts";
import { TokenLearner } from "../../sidecar/kv-events/token-learner.ts";
import { HttpTokenServer } from "../../sidecar/kv-events/token-server.ts";
import { makeLogger } from "../../sidecar/log.ts";
import { encodePrompts } from "../../sidecar/prompts/encode.ts";
import { type Learnt, learnProgram } from "../../sidecar/prompts/learn.ts";
import { ProbeTexts } from "../../sidecar/prompts/probe-texts.ts";
import {
  type Message,
  renderChat,
  renderCompletion,
  ROLES,
  transitionName,
} from "../../sidecar/prompts/program.ts";
import { programKey } from "../../sidecar/prompts/program.ts";
import { HttpRenderer, type Renderer } from "../../sidecar/prompts/render-server.ts";
import { until } from "../envoy/harness.ts";
import { settings } from "../envoy/support.ts";
import { between, seeded, seedOf } from "../sidecar/seeds.ts";
import { askServer, documents, withFleet } from "./fleet.ts";
import { JINJA } from "./jinja-templates.ts";
import { ADAPTERS, MODEL, startVllms, type Vllm } from "./server.ts";

const CONVERSATIONS = 50;
const SEED = seedOf();

/** One as most are started, and one that renders by the path of its chat and takes templates of requests. */
let servers: Vllm[] = [];
let plain: Vllm;
let open: Vllm;
beforeAll(async () => {
  servers = await startVllms([
    { adapters: true },
    { args: ["--enable-scale-out", "--trust-request-chat-template"] },
  ]);
  [plain, open] = servers as [Vllm, Vllm];
});
afterAll(() => Promise.all(servers.map((server) => server.stop())));

const learner = new TokenLearner(makeLogger("silent"));
const credentials = () => ({ tls: null, token: null });

/** Text of tokens, whose bytes are learnt from a server. */
async function textOf(server: Vllm, tokens: readonly number[]): Promise<Uint8Array | null> {
  await learner.learn(new HttpTokenServer(server.address, credentials), [tokens]);
  return learner.table.render(tokens);
}

function rendererOf(server: Vllm, model: string = MODEL): HttpRenderer {
  return new HttpRenderer(server.address, model, credentials, (tokens) => textOf(server, tokens));
}

/** Renders with a template of the request's; counts what it is asked. */
class TemplateRenderer implements Renderer {
  asked = 0;
  constructor(private readonly template: string) {}

  async chat(messages: readonly Message[]): Promise<Uint8Array | null> {
    this.asked += 1;
    const content = (texts: Message["content"]): unknown =>
      typeof texts === "string" ? texts : texts.map((text) => ({ type: "text", text }));
    const list = messages.map((message) => ({ role: message.role, content: content(message.content) }));
    const fields = { model: MODEL, messages: list, chat_template: this.template };
    const reply = await askServer(open, "/tokenize", fields);
    if (reply.status !== 200) return null;
    return textOf(open, documents(reply)[0]!["tokens"] as number[]);
  }

  completion(prompt: string): Promise<Uint8Array | null> {
    return rendererOf(open).completion(prompt);
  }
}

function learn(renderer: Renderer): Promise<Learnt> {
  return learnProgram(renderer, { random: seeded(SEED), now: Date.now });
}

function unknownOf({ unknown }: Learnt): string[] {
  return [...unknown].map(([index, reason]) => `${transitionName(index)}: ${reason}`).sort();
}

/** Random conversations, most of them in the usual order. @returns how many the program rendered */
async function expectEqual({ program }: Learnt, renderer: Renderer): Promise<number> {
  const random = seeded(SEED + 1);
  const texts = new ProbeTexts(random);
  let rendered = 0;
  for (let turn = 0; turn < CONVERSATIONS; turn++) {
    const usual = random() < 0.8;
    const system = random() < 0.5 ? ["system" as const] : [];
    const turns = Array.from({ length: between(random, 1, 7) }, (_, at) => {
      return usual ? ROLES[1 + (at % 2)]! : ROLES[between(random, 0, 2)]!;
    });
    const messages = texts.conversation([...system, ...turns]);
    const text = renderChat(program, messages);
    const truth = text === null ? null : await renderer.chat(messages);
    if (text === null || truth === null) continue;
    rendered += 1;
    expect(text.toString(), JSON.stringify(messages)).toBe(Buffer.from(truth).toString());
  }
  process.stdout.write(`${rendered} of ${CONVERSATIONS} conversations rendered, all as by the server\n`);
  return rendered;
}

describe(`a program learnt from a real server, seed ${SEED}`, () => {
  it.each(["its tokens", "its own rendering"])("by %s renders what it does", async (way) => {
    const server = way === "its tokens" ? plain : open;
    const { status } = await askServer(server, "/v1/chat/completions/render", {
      messages: [{ role: "user", content: "a" }],
    });
    expect(status).toBe(server === plain ? 403 : 200);
    const learnt = await learn(rendererOf(server));
    expect([learnt.reason, learnt.program.flags, unknownOf(learnt)]).toEqual([null, 0, []]);
    // The server refuses those that are longer than its context.
    expect(await expectEqual(learnt, rendererOf(server))).toBeGreaterThan(0.8 * CONVERSATIONS);
    const random = new ProbeTexts(seeded(SEED + 2));
    for (let turn = 0; turn < 10; turn++) {
      const prompt = random.content("plain") as string;
      const truth = await rendererOf(server).completion(prompt);
      expect(renderCompletion(learnt.program, prompt)!.equals(truth!)).toBe(true);
    }
    // What is rendered is what is computed: as many tokens, and the same.
    const messages: Message[] = [{ role: "user", content: "what is a cache?" }];
    const { tokens } = documents(await askServer(server, "/tokenize", { messages }))[0]!;
    const chat = documents(await askServer(server, "/v1/chat/completions", { messages, max_tokens: 1 }))[0]!;
    expect((chat["usage"] as { prompt_tokens: number }).prompt_tokens).toBe((tokens as number[]).length);
  });

  it("is that of its adapters, too", async () => {
    const keys = [];
    for (const model of [MODEL, ...ADAPTERS])
      keys.push(programKey((await learn(rendererOf(plain, model))).program));
    expect(new Set(keys).size).toBe(1);
  });

  it("of a sidecar is the one that its gateway is given, for the model and its adapters", async () => {
    const options = { pluginConfig: settings({}), pool: { kvEvents: {} } };
    await withFleet([plain], options, async ({ sidecar }) => {
      const { prompts } = sidecar.pools[0]!;
      await until(
        "the template was learnt",
        () => prompts!.models.length === 3 && prompts!.models[0]!.reason === null,
      );
      const { program } = await learn(rendererOf(plain));
      const names = [MODEL, ...ADAPTERS].map((name) => ({ name, isAdapter: name !== MODEL, program }));
      expect(prompts!.document!.id).toBe(encodePrompts(names).id);
      await until("the gateway took it", () => sidecar.pushers[0]!.prompts.counts.accepted > 0);
      expect(sidecar.pushers[0]!.prompts.lastError).toBeNull();
    });
  });
});

describe(`a template in a real server, seed ${SEED}`, () => {
  const TRIMS_TURNS = wire.PROGRAM_TRIMS_USER | wire.PROGRAM_TRIMS_ASSISTANT;
  const ALTERNATING = [
    ...["start-assistant", "user-user", "assistant-assistant", "system-system", "system-end"],
    ...["system-assistant", "user-system", "assistant-system"],
  ].map((name) => `${name}: refused`);

  it.each([
    ["of ChatML", JINJA.chatml, 0, []],
    ["that lists parts", JINJA.parts, 0, []],
    ["with a system prompt of its own", JINJA.defaultSystem, 0, []],
    ["of Llama 3.1", JINJA.llama31, TRIMS_TURNS | wire.PROGRAM_TRIMS_SYSTEM, []],
    ["of Mistral, but for system prompts", JINJA.mistral, 0, [...ALTERNATING, "system-user: reordered"]],
    ["of Gemma 3", JINJA.gemma, TRIMS_TURNS, ALTERNATING],
    [
      "of Qwen 3, but for thoughts and last answers",
      JINJA.thinking,
      wire.PROGRAM_EDITS_THINKING,
      ["assistant-assistant", "assistant-end", "system-assistant"].map(
        (name) => `${name}: position-dependent`,
      ),
    ],
  ] as [string, string, number, string[]][])("%s reduces", async (_, template, flags, unknown) => {
    const renderer = new TemplateRenderer(template);
    const learnt = await learn(renderer);
    process.stdout.write(`${renderer.asked} renderings asked for\n`);
    expect([learnt.reason, learnt.program.flags, unknownOf(learnt)]).toEqual([
      null,
      flags,
      [...unknown].sort(),
    ]);
    expect(await expectEqual(learnt, renderer)).toBeGreaterThan(5);
  });

  it("that says today's date does not", async () => {
    const learnt = await learn(new TemplateRenderer(JINJA.llama32));
    expect(learnt.reason).toBe("dated");
  });

  it("that numbers its messages reduces for single ones", async () => {
    const renderer = new TemplateRenderer(JINJA.numbered);
    const learnt = await learn(renderer);
    expect(learnt.reason).toBeNull();
    expect(unknownOf(learnt)).toContain("assistant-user: position-dependent");
    await expectEqual(learnt, renderer);
  });
});
