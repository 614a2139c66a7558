// The whole of it: simulated replicas, the sidecar and the filter in a real Envoy, as `npm start` puts them together.
import { describe, expect, it, onTestFinished } from "vitest";
import { ROOT } from "../../cli/envoy.ts";
import { startGateway } from "../../cli/gateway.ts";
import { Supervisor } from "../../cli/processes.ts";
import { startReplicas } from "../../cli/replicas.ts";
import { conversationStickiness } from "../../host-sim/workload/stickiness.ts";
import { venvEnvoy } from "../../scripts/find-envoy.mjs";
import { ENVOY_VERSIONS, EnvoyMissingError } from "./harness.ts";

const MODEL = "meta-llama/Llama-3.3-70B-Instruct";

async function envoyPathOf(version: string): Promise<string> {
  const path = await venvEnvoy(ROOT, version);
  if (path === undefined) throw new EnvoyMissingError(version);
  return path;
}

describe.each(ENVOY_VERSIONS)("a fleet behind Envoy %s with four workers", (version) => {
  it("keeps a conversation on its replica though every turn comes on a connection of its own", async () => {
    const supervisor = new Supervisor();
    onTestFinished(() => supervisor.stopAll());
    const { addresses } = await startReplicas(supervisor, 4);
    const gateway = await startGateway({
      supervisor,
      dataPlane: { envoyPath: await envoyPathOf(version) },
      policy: "epp",
      addresses,
      port: 0,
      concurrency: 4,
    });
    onTestFinished(() => gateway.stop());
    const report = await conversationStickiness({
      url: gateway.url,
      seed: 3,
      requests: 75,
      ratePerSecond: 5,
      model: MODEL,
    });
    expect(report.failures).toBe(0);
    expect(report.laterTurns).toBeGreaterThan(25);
    expect(report.replicas).toBe(4);
    // A turn may move when its replica is busy; by chance a quarter would stay.
    expect(report.stayedShare).toBeGreaterThan(0.85);
  });
});
