// What a real Envoy did in every scenario: read by the host tests, written by the conformance test on demand.
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { CALL_SCENARIOS } from "./scenarios-calls.ts";
import { FAILURE_SCENARIOS } from "./scenarios-failure.ts";
import { HTTP2_SCENARIOS } from "./scenarios-http2.ts";
import { REQUEST_SCENARIOS } from "./scenarios-request.ts";
import { RESPONSE_SCENARIOS } from "./scenarios-response.ts";
import type { Scenario, ScenarioOutcome } from "./scenario.ts";
import type { UpdatePhase } from "./update-steps.ts";

const PATH = fileURLToPath(new URL("../fixtures/recorded/streams.json", import.meta.url));

/** Every recorded scenario, in the order in which a real Envoy plays them. */
export const SCENARIOS: readonly Scenario[] = [
  ...REQUEST_SCENARIOS,
  ...RESPONSE_SCENARIOS,
  ...HTTP2_SCENARIOS,
  ...CALL_SCENARIOS,
  ...FAILURE_SCENARIOS,
];

/** Set to 1, the conformance test writes what the newest Envoy did instead of comparing with it. */
export const UPDATING = process.env["UPDATE_RECORDED"] === "1";

/** Root lines of the listener updates in update-steps.ts. */
export interface UpdateOutcome {
  readonly changing: readonly UpdatePhase[];
  readonly staying: readonly string[];
}

const UPDATES_PATH = fileURLToPath(new URL("../fixtures/recorded/updates.json", import.meta.url));

/** What a real Envoy did in the updates. */
export async function readUpdates(): Promise<UpdateOutcome> {
  return JSON.parse(await readFile(UPDATES_PATH, "utf8")) as UpdateOutcome;
}

/** Replaces the recording of the updates. */
export async function writeUpdates(outcome: UpdateOutcome): Promise<void> {
  await writeFile(UPDATES_PATH, `${JSON.stringify(outcome, null, 2)}\n`);
}

/** Outcomes by scenario name. */
export async function readRecorded(): Promise<Record<string, ScenarioOutcome>> {
  return JSON.parse(await readFile(PATH, "utf8")) as Record<string, ScenarioOutcome>;
}

/** Replaces the recording. */
export async function writeRecorded(outcomes: Record<string, ScenarioOutcome>): Promise<void> {
  await writeFile(PATH, `${JSON.stringify(outcomes, null, 2)}\n`);
}
