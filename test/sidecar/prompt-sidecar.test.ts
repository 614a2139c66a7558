// A whole sidecar that learns its replicas' templates: what the gateway is given, when again, and what is said of it.
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { kvEventsConfig } from "../../host-sim/model-server/kv-events/config.ts";
import type { ReplicaConfig } from "../../host-sim/model-server/replica-types.ts";
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import { SIMULATED_MODEL, type TextModel } from "../../host-sim/model-server/text-model.ts";
import { encode } from "../../host-sim/model-server/tokenizer.ts";
import { renderChat } from "../../sidecar/prompts/program.ts";
import { DATED_TEMPLATE, realModel } from "../sim/support/real-models.ts";
import { send, startReplica } from "../sim/support/replica.ts";
import { endpointOf, type SidecarSetting, startSidecar } from "./kv-events-sidecar.ts";
import { eventually, FakeControl, temporaryFolder } from "./servers.ts";

function start(overrides: Partial<ReplicaConfig> = {}): Promise<SimulatedReplica> {
  return startReplica({ modelTokensMax: 32_768, kvEvents: kvEventsConfig(), ...overrides });
}

interface Setting extends SidecarSetting {
  readonly control: FakeControl;
}

async function startPool(replicas: readonly SimulatedReplica[], given?: FakeControl): Promise<Setting> {
  const control = given ?? (await new FakeControl(join(temporaryFolder(), "control.sock")).start());
  const pool = {
    discovery: { static: { endpoints: replicas.map(endpointOf) } },
    kvEvents: { idleCheckMs: 100, replayTimeoutMs: 2_000 },
  };
  return { control, ...(await startSidecar(pool, {}, control)) };
}

/** Waits until the gateway was given programs so many times. */
async function pushes(control: FakeControl, count: number): Promise<void> {
  await eventually(`${count} pushes came`, () => control.prompts.length === count);
}
const beats = async (control: FakeControl, count: number): Promise<void> => {
  const from = control.received.length;
  await eventually(`${count} snapshots came`, () => control.received.length >= from + count);
};

describe("a sidecar that follows KV events", () => {
  it("gives the gateway what renders conversations as its replicas do", async () => {
    const replicas = await Promise.all([start({ loraModules: ["b", "a"] }), start({ loraModules: ["a"] })]);
    const { control, get, log } = await startPool(replicas);
    await eventually("all names came", () => control.prompts.at(-1)?.models.length === 3);
    const { models } = control.prompts.at(-1)!;
    expect(models.map(({ name, isAdapter }) => [name, isAdapter])).toEqual([
      ["a", true],
      ["b", true],
      ["tiny", false],
    ]);
    const messages = [
      { role: "system" as const, content: "Sei kurz. 😀" },
      { role: "user" as const, content: "日本語?" },
      { role: "assistant" as const, content: "はい。" },
      { role: "user" as const, content: "Gut." },
    ];
    const { text } = await send(replicas[0]!, "/tokenize", { messages });
    const { tokens } = JSON.parse(text) as { tokens: number[] };
    const whole = await send(replicas[0]!, "/detokenize", { tokens });
    const { prompt } = JSON.parse(whole.text) as { prompt: string };
    for (const { program } of models) expect(renderChat(program, messages)!.toString()).toBe(prompt);
    // The listener has them before the sidecar knows.
    const metrics = await eventually("the gateway's answer was read", async () => {
      const page = await get("/metrics");
      return /epp_sidecar_prompt_pushes_total\{pool="default",result="accepted"\} [1-9]/.test(page) && page;
    });
    expect(metrics).toContain(
      'epp_sidecar_prompt_program{pool="default",model="tiny",state="exact",reason=""} 1',
    );
    expect(metrics).toMatch(/epp_sidecar_prompt_probes_total\{pool="default",result="learnt"\} 1/);
    expect(await get("/readyz")).not.toContain("rendered");
    expect(log.some(({ msg }) => msg === "gateway took the prompt programs")).toBe(true);
  });

  it("brings them again to a gateway that lost them, and only then", async () => {
    const { control } = await startPool([await start()]);
    await pushes(control, 1);
    await beats(control, 2);
    expect(control.prompts).toHaveLength(1);
    control.heldPrompts.clear();
    await pushes(control, 2);
    expect(control.prompts[1]!.id).toBe(control.prompts[0]!.id);
    await beats(control, 2);
    expect(control.prompts).toHaveLength(2);
  });

  it("says of a refusal which field it was, and goes on with snapshots", async () => {
    const control = await new FakeControl(join(temporaryFolder(), "control.sock")).start();
    control.promptsAnswer = {
      status: 400,
      body: '{"error":{"field":"programs[0].flags","message":"is 64"}}',
    };
    const { get } = await startPool([await start()], control);
    await pushes(control, 1);
    await beats(control, 3);
    expect(control.prompts).toHaveLength(1);
    expect(await get("/readyz")).toContain(
      "its prompt programs were refused, the last good one stays: control listener answered 400 for field programs[0].flags",
    );
    expect(await get("/metrics")).toContain('prompt_pushes_total{pool="default",result="refused"} 1');
  });

  it("takes a program back when a replica comes that renders otherwise", async () => {
    const textModel: TextModel = {
      ...SIMULATED_MODEL,
      render: (...asked) => [...encode("Once upon a time. "), ...SIMULATED_MODEL.render(...asked)],
    };
    const replicas = [await start(), await start({ textModel })];
    const { control, get } = await startPool(replicas);
    await eventually("none is held", () => control.prompts.at(-1)?.models.length === 0);
    expect(await get("/metrics")).toContain(
      'epp_sidecar_prompt_program{pool="default",model="tiny",state="unknown",reason="replicas-differ"} 1',
    );
    expect(await get("/readyz")).toContain(
      "the conversations of 1 of 1 models are not rendered: replicas-differ (1)",
    );
  });

  it("says that a template holds the date, and which literals do", async () => {
    const template = DATED_TEMPLATE.replace("26 Jul 2024", new Date().toISOString().slice(0, 10));
    const { get } = await startPool([await start({ textModel: realModel("llama3_1", { template }) })]);
    const metrics = async (): Promise<string> => get("/metrics");
    await expect
      .poll(metrics, { timeout: 90_000 })
      .toContain('prompt_program{pool="default",model="tiny",state="unknown",reason="dated"} 1');
    expect(await metrics()).toContain(
      'prompt_literals_unknown{pool="default",model="tiny",literal="start-user",reason="dated"} 1',
    );
  });

  it("asks nothing of replicas whose events are not followed", async () => {
    const replica = await start();
    const control = await new FakeControl(join(temporaryFolder(), "control.sock")).start();
    const pool = { discovery: { static: { endpoints: [endpointOf(replica)] } } };
    const { sidecar, get } = await startSidecar(pool, {}, control);
    await beats(control, 3);
    expect([sidecar.pools[0]!.prompts, control.prompts]).toEqual([null, []]);
    expect(await get("/metrics")).not.toContain("epp_sidecar_prompt_program{");
  });
});
