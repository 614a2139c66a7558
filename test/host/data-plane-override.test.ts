// The data plane sends every override case where a real Envoy sends it.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startDataPlane, type DataPlane, type DataPlaneOptions } from "../../host-sim/data-plane/index.ts";
import type { LogLine } from "../../host-sim/host/index.ts";
import { attemptLine, CaseHosts, expectedOutcome, playCase } from "./case-hosts.ts";
import { OVERRIDE_CASES, OVERRIDE_LISTENERS } from "./override-cases.ts";
import { probeWasm } from "./probe.ts";

describe("override_host and retries on the data plane", () => {
  const lines: LogLine[] = [];
  const planes = new Map<string, DataPlane>();
  let hosts: CaseHosts;

  beforeAll(async () => {
    hosts = await CaseHosts.start();
    for (const { name, cluster, retry } of OVERRIDE_LISTENERS) {
      const options: DataPlaneOptions = {
        module: await probeWasm(),
        endpoints: cluster === "solo" ? [hosts.address("good")] : hosts.pool(),
        fallback: "round_robin",
        retry: retry ?? null,
        connectTimeoutMs: 1_000,
        onLog: (line) => lines.push(line),
      };
      planes.set(name, await startDataPlane(options));
    }
  });
  afterAll(async () => {
    for (const plane of planes.values()) await plane.stop();
    await hosts.stop();
  });

  for (const [index, one] of OVERRIDE_CASES.entries()) {
    it(one.name, async () => {
      const tag = `case-${index}`;
      const plane = planes.get(one.listener) as DataPlane;
      expect(await playCase(one, plane.port, tag, hosts)).toEqual(expectedOutcome(one));
      expect(lines.map(({ text }) => text)).toContain(attemptLine(tag, one.attempts));
    });
  }
});
