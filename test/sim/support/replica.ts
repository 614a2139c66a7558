// Starts simulated replicas for tests and ends them with the test.
import { onTestFinished } from "vitest";
import { defaultEngineConfig } from "../../../host-sim/model-server/engine.ts";
import { type ReplicaConfig, replicaConfig } from "../../../host-sim/model-server/replica-types.ts";
import { SimulatedReplica } from "../../../host-sim/model-server/server.ts";
import type { EngineConfig } from "../../../host-sim/model-server/engine-types.ts";
import type { EngineRates } from "../../../host-sim/model-server/rates.ts";

/** Fast enough that a test does not wait: a step takes 2 ms. */
export const FAST_RATES: EngineRates = {
  description: "fast",
  overheadMs: 1,
  weightsMs: 1,
  prefillMsPerToken: 0.001,
  decodeMsPerSequence: 0,
  contextMsPerToken: 0,
};

/** A started replica called "tiny" with a context of 4,096 tokens. */
export async function startReplica(
  overrides: Partial<ReplicaConfig> = {},
  engine: Partial<EngineConfig> = {},
): Promise<SimulatedReplica> {
  const replica = new SimulatedReplica(
    replicaConfig({
      modelName: "tiny",
      modelTokensMax: 4096,
      engine: { ...defaultEngineConfig(), blockCount: 1025, rates: FAST_RATES, ...engine },
      ...overrides,
    }),
  );
  await replica.start();
  onTestFinished(() => replica.stop());
  return replica;
}

/** Sends JSON (or text as it stands) and returns status, headers and text. */
export async function send(
  replica: SimulatedReplica,
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<{ status: number; headers: Headers; text: string }> {
  const response = await fetch(replica.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** JSON of a GET. */
export async function get(replica: SimulatedReplica, path: string): Promise<string> {
  const response = await fetch(replica.url + path);
  return response.text();
}

/** Data of each event of a stream's text, comments left out. */
export function eventsOf(text: string): string[] {
  const events = text.split("\n\n").filter((event) => event !== "" && !event.startsWith(":"));
  return events.map((event) => event.replace(/^event: .*\n/, "").replace(/^data: /, ""));
}

/** Waits until a condition holds; the test's own timeout is the limit. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}
