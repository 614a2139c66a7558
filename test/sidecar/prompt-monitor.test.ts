// Which replicas' templates are looked at when, and what a pool makes of them.
import { describe, expect, it, onTestFinished } from "vitest";
import * as wire from "../../assembly/wire/prompt-programs.ts";
import { ConnectionError, TokenizerError } from "../../sidecar/errors.ts";
import { makeLogger } from "../../sidecar/log.ts";
import { PromptMonitor } from "../../sidecar/prompts/monitor.ts";
import { renderChat } from "../../sidecar/prompts/program.ts";
import type { PromptReason } from "../../sidecar/prompts/reasons.ts";
import type { PromptReplica } from "../../sidecar/prompts/replica-prompts.ts";
import { type Template, TemplateRenderer, TEMPLATES } from "./chat-templates.ts";
import { decodePrompts } from "./prompts-decoder.ts";
import { seeded, seedOf } from "./seeds.ts";
import { eventually } from "./servers.ts";

const SEED = seedOf();
const HOUR_MS = 3_600_000;

/** Replicas with a template each, and a clock that the test moves. */
class Pool {
  nowMs = 0;
  changes = 0;
  log: Record<string, unknown>[] = [];
  /** By address, or by address and model where an adapter has its own. */
  readonly renderers = new Map<string, TemplateRenderer>();
  readonly monitor: PromptMonitor;
  private replicas: PromptReplica[] = [];

  constructor() {
    this.monitor = new PromptMonitor({
      checkMs: HOUR_MS,
      rendererOf: (address, model) =>
        this.renderers.get(`${address} ${model}`) ?? this.renderers.get(address)!,
      random: seeded(SEED),
      log: makeLogger("debug", { write: (line: string) => void this.log.push(JSON.parse(line)) }),
      now: () => this.nowMs,
      wallNow: () => Date.UTC(2026, 10, 21),
      changed: () => (this.changes += 1),
    });
    onTestFinished(() => this.monitor.stop());
  }

  add(address: string, template: Template, more: Partial<PromptReplica> = {}): TemplateRenderer {
    const renderer = new TemplateRenderer(template);
    this.renderers.set(address, renderer);
    this.replicas.push({ address, generation: 1, models: ["m"], adapters: new Map(), ...more });
    this.update();
    return renderer;
  }

  restart(address: string): void {
    this.replicas = this.replicas.map((replica) =>
      replica.address === address ? { ...replica, generation: replica.generation + 1 } : replica,
    );
    this.update();
  }

  remove(address: string): void {
    this.replicas = this.replicas.filter((replica) => replica.address !== address);
    this.update();
  }

  /** `down` are known, and do not answer. */
  update(down: readonly string[] = []): void {
    const up = this.replicas.filter(({ address }) => !down.includes(address));
    this.monitor.update(up, (address) => this.replicas.some((replica) => replica.address === address));
  }

  /** An hour passes. The monitor's timer goes by real time: a replica of another model wakes it. */
  passPeriod(): void {
    this.nowMs += HOUR_MS;
    this.add(`wake-${this.nowMs}`, TEMPLATES.chatml, { models: ["woken"] });
  }

  async is(model: string, reason: PromptReason | null): Promise<void> {
    await eventually(`${model} was ${reason}, seed ${SEED}`, () => {
      return this.monitor.models.some((one) => one.name === model && one.reason === reason);
    });
  }

  names(): string[] {
    const { models } = decodePrompts(this.monitor.document!.bytes);
    return models.map(({ name, isAdapter }) => `${name}${isAdapter ? "+" : ""}`);
  }
}

describe("a pool's prompts", () => {
  it("are learnt from the first replica and held against the others", async () => {
    const pool = new Pool();
    expect(pool.monitor.document).toBeNull();
    const first = pool.add("a", TEMPLATES.qwen25);
    await pool.is("m", null);
    const learning = first.asked;
    const second = pool.add("b", TEMPLATES.qwen25);
    await eventually("it held", () => pool.monitor.counts.held === 1);
    expect(second.asked).toBeLessThan(learning / 2);
    expect([pool.changes, pool.names(), pool.monitor.counts]).toEqual([
      1,
      ["m"],
      { held: 1, learnt: 1, failed: 0 },
    ]);
    const program = decodePrompts(pool.monitor.document!.bytes).programs[0]!;
    const text = renderChat(program, [{ role: "user", content: "x" }]);
    expect(text!.toString()).toBe(TEMPLATES.qwen25([{ role: "user", content: "x" }]));
  });

  it("are not rendered while two replicas differ, and again when one of them is gone", async () => {
    const pool = new Pool();
    pool.add("a", TEMPLATES.chatml);
    await pool.is("m", null);
    pool.add("b", TEMPLATES.qwen25);
    await pool.is("m", "replicas-differ");
    expect([pool.names(), pool.changes]).toEqual([[], 2]);
    pool.remove("a");
    await pool.is("m", null);
    expect([pool.names(), pool.changes]).toEqual([["m"], 3]);
    pool.remove("b");
    expect(pool.monitor.models).toEqual([]);
  });

  it("are rendered as far as replicas that know different parts agree", async () => {
    const pool = new Pool();
    pool.add("a", TEMPLATES.gemma);
    await pool.is("m", null);
    const withoutTurns = (turns: Parameters<Template>[0]): string => {
      if (turns.length > 1) throw new Error("one message");
      return TEMPLATES.gemma(turns);
    };
    const refuses = pool.add("b", TEMPLATES.gemma);
    refuses.chat = async (messages) => {
      return messages.length > 1 ? null : new TemplateRenderer(withoutTurns).chat(messages);
    };
    await eventually("both were looked at", () => pool.monitor.counts.held === 1);
    await pool.is("m", null);
  });

  it("follow a replica that restarted with another template", async () => {
    const pool = new Pool();
    const renderer = pool.add("a", TEMPLATES.chatml);
    await pool.is("m", null);
    const before = pool.monitor.document!.id;
    renderer.template = TEMPLATES.qwen25;
    pool.restart("a");
    await eventually("it was learnt anew", () => pool.monitor.document!.id !== before);
    await pool.is("m", null);
  });

  it("of a server that renders another text without a restart are given up until it restarts", async () => {
    const pool = new Pool();
    const renderer = pool.add("a", TEMPLATES.chatml);
    await pool.is("m", null);
    renderer.template = TEMPLATES.qwen25;
    pool.passPeriod();
    await pool.is("m", "changing");
    expect(pool.names()).toEqual(["woken"]);
    renderer.template = TEMPLATES.chatml;
    pool.passPeriod();
    await eventually("others were looked at", () => pool.monitor.counts.held >= 2);
    await pool.is("m", "changing");
    pool.restart("a");
    await pool.is("m", null);
  });

  it("are looked at again on a period, and stay", async () => {
    const pool = new Pool();
    const renderer = pool.add("a", TEMPLATES.llama31);
    await pool.is("m", null);
    const asked = renderer.asked;
    pool.passPeriod();
    await eventually("it was asked again", () => renderer.asked > asked && pool.monitor.counts.held > 0);
    await pool.is("m", null);
    expect(renderer.asked - asked).toBeLessThan(asked / 2);
  });

  it("stay while a replica does not answer, and are told why where none ever did", async () => {
    const pool = new Pool();
    const renderer = pool.add("a", TEMPLATES.chatml);
    await pool.is("m", null);
    const { chat } = renderer;
    renderer.chat = async () => {
      throw new ConnectionError("a", "gone");
    };
    pool.restart("a");
    await eventually("it failed", () => pool.monitor.counts.failed === 1);
    await pool.is("m", null);
    pool.update(["a"]);
    expect(pool.names()).toEqual(["m"]);
    const other = pool.add("b", TEMPLATES.chatml, { models: ["n"] });
    other.chat = async () => {
      throw new TokenizerError("b", "/tokenize tokens", "tokens whose bytes are known");
    };
    await pool.is("n", "unreachable");
    renderer.chat = chat;
    pool.remove("a");
    pool.restart("b");
    await pool.is("n", "unknown-token");
    const said = pool.log.filter(({ level, endpoint }) => level === 40 && endpoint === "b");
    expect(said[0]).toMatchObject({ code: "tokenizer-invalid" });
  });

  it("of adapters are those of their base, unless one is rendered otherwise", async () => {
    const pool = new Pool();
    const models = ["m", "n", "x", "y"];
    const adapters = new Map([
      ["x", "m"],
      ["y", "m"],
    ]);
    pool.add("a", TEMPLATES.chatml, { models, adapters });
    await pool.is("y", null);
    expect(pool.names()).toEqual(["m", "n", "x+", "y+"]);
    pool.renderers.set("a x", new TemplateRenderer(TEMPLATES.qwen25));
    pool.renderers.set("a y", new TemplateRenderer(TEMPLATES.qwen25));
    pool.passPeriod();
    await pool.is("y", "adapters-differ");
    expect(pool.names()).toEqual(["m", "n", "woken"]);
  });

  it("say what does not reduce, in the log too, and keep text prompts", async () => {
    const pool = new Pool();
    pool.add(
      "a",
      TEMPLATES.llama32(() => Date.UTC(2026, 10, 21)),
    );
    await pool.is("m", "dated");
    expect(pool.log.at(-1)).toMatchObject({ level: 40, model: "m", reason: "dated" });
    const [program] = decodePrompts(pool.monitor.document!.bytes).programs;
    expect(program!.literals[wire.PROMPT_COMPLETION]).toHaveLength(0);
    expect(renderChat(program!, [{ role: "user", content: "x" }])).toBeNull();
  });

  it("leave out names that do not fit", async () => {
    const pool = new Pool();
    const adapters = new Map(Array.from({ length: 70 }, (_, i) => [`x${10 + i}`, "m"]));
    pool.add("a", TEMPLATES.chatml, { models: ["m", ...adapters.keys()], adapters });
    await pool.is("x79", "no-room");
    await pool.is("x10", null);
    expect(pool.monitor.document).toMatchObject({ models: 64, programs: 1 });
  });
});
