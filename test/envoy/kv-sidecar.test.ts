// The sidecar's exact index in a real Envoy: what engines publish arrives, over restarts of Envoy, sidecar and engines.
import { describe, expect, it } from "vitest";
import { send as sendTo } from "../sim/support/replica.ts";
import { ENVOY_VERSIONS, until } from "./harness.ts";
import { ask, cellsOf, setUp } from "./kv-sidecars.ts";

const text = (topic: string): string => `${topic}: the picker knows what each engine holds. `.repeat(40);
const CELLS_MIN = Math.floor(Buffer.byteLength(text("a")) / 64) - 2;

describe.each(ENVOY_VERSIONS)("the exact index in Envoy %s", (version) => {
  it("is what the sidecar has, and again after restarts of each of them", async () => {
    const { replicas, envoy, sidecar, settled } = await setUp(version);
    const first = await envoy();
    const running = await sidecar();
    await ask(first, text("a"));
    for (const topic of ["b", "c"])
      await sendTo(replicas[0], "/v1/completions", { prompt: text(topic), max_tokens: 1 });
    await until("three prompts were told", () => cellsOf(running) >= 3 * CELLS_MIN);
    const entries = await settled(first, running);
    expect(entries).toBeGreaterThanOrEqual(3 * CELLS_MIN);

    await first.stop();
    const second = await envoy();
    expect(await settled(second, running)).toBe(entries);
    expect(running.kvPushes[0]!.counts.sessions).toBe(2);

    await running.stop();
    const next = await sidecar();
    await until("it knew the engines again", () =>
      [...next.kvPushes[0]!.index.endpoints.values()].every(({ shownReason }) => shownReason === null),
    );
    expect(await settled(second, next)).toBe(entries);

    await replicas[0].restart();
    const { endpoints } = next.kvPushes[0]!.index;
    await until("the restart was seen", () => endpoints.get(replicas[0].address)?.entries === 0);
    expect(await settled(second, next)).toBeLessThan(entries);
  });
});
