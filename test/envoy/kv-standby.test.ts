// Several sidecars on one gateway: one brings the pool, the others stand by and take over when it falls silent or stops.
import { describe, expect, it } from "vitest";
import { KV_CELL_BYTES } from "../../assembly/wire/kv-deltas.ts";
import type { Sidecar } from "../../sidecar/app.ts";
import { send as sendTo } from "../sim/support/replica.ts";
import { ENVOY_VERSIONS, until } from "./harness.ts";
import { ask, cellsOf, setUp } from "./kv-sidecars.ts";

const PROMPT = "one for all ".repeat(100);
/** Cells of it at least, as engines keep whole blocks alone: only with both engines' there are twice as many. */
const CELLS_MIN = Math.floor(Buffer.byteLength(PROMPT) / KV_CELL_BYTES) - 2;

/** Snapshots that were taken, and sessions of the exact index. */
const taken = ({ pushers, kvPushes }: Sidecar): object => ({
  snapshots: pushers[0]!.counts.accepted,
  sessions: kvPushes[0]!.counts.sessions,
});

describe.each(ENVOY_VERSIONS)("two sidecars before Envoy %s", (version) => {
  it("bring the pool one at a time: the second waits, and takes over", async () => {
    const { replicas, envoy, sidecar, settled, status } = await setUp(version);
    const gateway = await envoy();
    const first = await sidecar();
    for (const replica of replicas)
      await sendTo(replica, "/v1/completions", { prompt: PROMPT, max_tokens: 1 });
    await until("both told of their prompts", () => cellsOf(first) >= replicas.length * CELLS_MIN);
    const entries = await settled(gateway, first);

    const second = await sidecar();
    await until("it was told to wait", () => second.pushers[0]!.counts.standby >= 5);
    const before = first.pushers[0]!.counts.accepted;
    await until("the first went on", () => first.pushers[0]!.counts.accepted >= before + 5);
    expect(taken(second)).toEqual({ snapshots: 0, sessions: 0 });
    expect(first.kvPushes[0]!.counts).toMatchObject({ sessions: 1, refused: 0 });
    expect(first.readiness().status).toBe("ready");
    expect(second.readiness()).toMatchObject({ ready: true, status: "standby" });
    expect((await status())!.pools[0]).toMatchObject({ sidecar: first.id, standbySidecar: second.id });

    // Hung, and so without a last word.
    for (const push of [...first.pushers, ...first.kvPushes]) push.stop();
    await until("the second took over", () => second.readiness().status === "ready");
    expect(await settled(gateway, second)).toBe(entries);
    expect(second.kvPushes[0]!.counts).toMatchObject({ sessions: 1, refused: 0 });
    await until("nobody waited any more", async () => (await status())!.pools[0]!.standbySidecar === null);

    const third = await sidecar();
    await until("it was told to wait", () => third.pushers[0]!.counts.standby > 0);
    await second.stop();
    await until("the third took over", () => third.readiness().status === "ready");
    expect(await settled(gateway, third)).toBe(entries);
    expect((await status())!.pools[0]).toMatchObject({ sidecar: third.id, standbySidecar: null });
    await ask(gateway, "still there");
  });
});
