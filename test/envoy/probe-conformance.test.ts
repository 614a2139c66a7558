// The recorded streams, played on real Envoys: host-sim's recording is what they do.
// UPDATE_RECORDED=1 writes the recording from the newest version instead.
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ROOT } from "../../cli/envoy.ts";
import { ENVOY_NEWEST, venvEnvoy } from "../../scripts/find-envoy.mjs";
import { CLUSTER, DEAD_CLUSTER, EMPTY_CLUSTER, LISTENERS } from "../host/listeners.ts";
import { MODULE_VARIANTS, variantBinary, type ModuleVariant } from "../host/module-variants.ts";
import { SimulatedProxy } from "../host/play.ts";
import { readRecorded, SCENARIOS, UPDATING, writeRecorded } from "../host/recorded.ts";
import type { Scenario, ScenarioOutcome } from "../host/scenario.ts";
import { ENVOY_VERSIONS, EnvoyMissingError, until } from "./harness.ts";
import { ProbeEnvoy, validationConfig } from "./probe-envoy.ts";
import { EnvoyPlayer, ScriptedUpstream } from "./probe-play.ts";
import { refusingAddress } from "./upstream.ts";

/** Pause between two steps, behind Envoy's reading of the first; and on a second try, on a machine under load. */
const GAP_MS = 20;
const SLOW_GAP_MS = 80;
const run = promisify(execFile);

/** An Envoy with its upstream and a player. */
class Rig {
  private constructor(
    readonly player: EnvoyPlayer,
    private readonly envoy: ProbeEnvoy,
    private readonly upstream: ScriptedUpstream,
    private readonly release: () => void,
  ) {}

  static async start(version: string, gapMs: number): Promise<Rig> {
    const upstream = await ScriptedUpstream.start(gapMs);
    const dead = await refusingAddress();
    try {
      const envoy = await ProbeEnvoy.start(version, LISTENERS, [
        { name: CLUSTER, hosts: [`127.0.0.1:${upstream.port}`] },
        { name: DEAD_CLUSTER, hosts: [dead.address] },
        { name: EMPTY_CLUSTER, hosts: [] },
      ]);
      return new Rig(new EnvoyPlayer(envoy, upstream, gapMs), envoy, upstream, () => dead.release());
    } catch (error) {
      await upstream.stop();
      dead.release();
      throw error;
    }
  }

  async stop(): Promise<void> {
    await this.envoy.stop();
    await this.upstream.stop();
    this.release();
  }
}

/** Whether Envoy takes a configuration with this module. */
async function accepts(path: string, variant: ModuleVariant): Promise<boolean> {
  const folder = await mkdtemp(join(tmpdir(), "probe-module-"));
  try {
    const module = join(folder, "module.wasm");
    await writeFile(module, variantBinary(variant));
    const config = join(folder, "envoy.json");
    await writeFile(config, JSON.stringify(validationConfig(module)));
    const args = ["--mode", "validate", "-c", config, "--disable-hot-restart", "--log-level", "off"];
    await run(path, args, { timeout: 30_000 });
    return true;
  } catch {
    return false;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

describe.each(ENVOY_VERSIONS)("Envoy %s", (version) => {
  let rig: Rig;
  let recorded: Record<string, ScenarioOutcome>;
  const fresh: Record<string, ScenarioOutcome> = {};

  beforeAll(async () => {
    recorded = UPDATING ? {} : await readRecorded();
    rig = await Rig.start(version, GAP_MS);
  });
  afterAll(async () => {
    await rig?.stop();
    if (UPDATING && version === ENVOY_NEWEST) await writeRecorded(fresh);
  });

  /** Plays; where ticks or pauses of a scenario were too short for a busy machine, plays again with more time between steps. */
  async function play(scenario: Scenario): Promise<ScenarioOutcome> {
    const expected = recorded[scenario.name];
    const outcome = await rig.player.play(scenario, expected);
    if (UPDATING || JSON.stringify(outcome) === JSON.stringify(expected)) return outcome;
    const slow = await Rig.start(version, SLOW_GAP_MS);
    try {
      return await slow.player.play(scenario, expected);
    } finally {
      await slow.stop();
    }
  }

  it("starts every root in the order canary, main thread, worker", async () => {
    const simulated = await SimulatedProxy.start();
    for (const root of ["root:stop", "root:twin", "root:env", "root:queues"]) {
      const { log } = simulated.rootOutcome(root);
      await until(`the lines of ${root}`, () => rig.player.rootOutcome(root).log.length >= log.length);
      expect(rig.player.rootOutcome(root).log, root).toEqual(log);
    }
  });

  for (const scenario of SCENARIOS) {
    it(scenario.name, async () => {
      const outcome = await play(scenario);
      fresh[scenario.name] = outcome;
      if (!UPDATING) expect(outcome).toEqual(recorded[scenario.name]);
    });
  }

  for (const variant of MODULE_VARIANTS) {
    it(`${variant.accepted ? "takes" : "refuses"} a module: ${variant.name}`, async () => {
      const path = await venvEnvoy(ROOT, version);
      if (path === undefined) throw new EnvoyMissingError(version);
      expect(await accepts(path, variant)).toBe(variant.accepted);
    });
  }
});
