// The override cases on real Envoys: what host-sim's data plane is held against.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { attemptLine, CaseHosts, expectedOutcome, playCase } from "../host/case-hosts.ts";
import { OVERRIDE_CASES, OVERRIDE_LISTENERS } from "../host/override-cases.ts";
import { ENVOY_VERSIONS, until } from "./harness.ts";
import { ProbeEnvoy } from "./probe-envoy.ts";

describe.each(ENVOY_VERSIONS)("Envoy %s", (version) => {
  let hosts: CaseHosts;
  let envoy: ProbeEnvoy;

  beforeAll(async () => {
    hosts = await CaseHosts.start();
    envoy = await ProbeEnvoy.start(version, OVERRIDE_LISTENERS, [
      { name: "pool", hosts: hosts.pool(), override: true },
      { name: "solo", hosts: [hosts.address("good")], override: true },
    ]);
  });
  afterAll(async () => {
    await envoy?.stop();
    await hosts?.stop();
  });

  for (const [index, one] of OVERRIDE_CASES.entries()) {
    it(one.name, async () => {
      const tag = `case-${index}`;
      expect(await playCase(one, envoy.port(one.listener), tag, hosts)).toEqual(expectedOutcome(one));
      await until(`the log of ${tag}`, () => envoy.lines.includes(attemptLine(tag, one.attempts)));
    });
  }
});
