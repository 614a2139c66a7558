// Listener updates on real Envoys through a watched file: the recording that host-sim is held against.
import { afterEach, describe, expect, it } from "vitest";
import { UPDATING, readUpdates, writeUpdates } from "../host/recorded.ts";
import {
  AFTER,
  BEFORE,
  LAST,
  RELUCTANT,
  STAYING,
  updatePhase,
  type UpdatePhase,
} from "../host/update-steps.ts";
import { ENVOY_VERSIONS, until } from "./harness.ts";
import { ProbeEnvoy } from "./probe-envoy.ts";

describe.each(ENVOY_VERSIONS)("Envoy %s", (version) => {
  let envoy: ProbeEnvoy | undefined;
  afterEach(() => envoy?.stop());

  it("starts the new root first, lets the old one finish, and keeps VM and shared data", async () => {
    envoy = await ProbeEnvoy.start(
      version,
      [BEFORE, STAYING],
      [{ name: "up", hosts: ["127.0.0.1:1"] }],
      true,
    );
    const lines = (root: string, first: number): string[] =>
      envoy!.lines
        .slice(first)
        .filter((line) => line.startsWith(`${root} `))
        .map((line) => line.slice(root.length + 1));
    const changing: UpdatePhase[] = [];
    for (const next of [AFTER, RELUCTANT, LAST]) {
      const first = envoy.lines.length;
      await envoy.update([next, STAYING]);
      // Main thread and worker each let go of the old root once its connections are drained.
      await until("the old roots are gone", () => {
        const gone = lines("root:changing", first).filter((line) => line === "on_delete");
        return gone.length === 2;
      });
      changing.push(updatePhase(lines("root:changing", first)));
    }
    const outcome = { changing, staying: lines("root:staying", 0) };
    if (UPDATING) await writeUpdates(outcome);
    else expect(outcome).toEqual(await readUpdates());
  });
});
