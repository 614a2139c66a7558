// Clients' wishes in fleets under the default picker: what a run gains by them, against the same run without.
import { describe, expect, it } from "vitest";
import { eppPolicy } from "../../host-sim/fleet/epp-gateway.ts";
import type { FleetRequest, RequestRecord, RunRecord } from "../../host-sim/fleet/types.ts";
import { Random } from "../../host-sim/workload/random.ts";
import { eppOptions, fastReplicas } from "./support/epp.ts";
import { fleetRequest, run, span } from "./support/fleet.ts";

/** Requests in the order of their arrival, as a test adds them. */
class Script {
  readonly requests: FleetRequest[] = [];
  readonly random: Random;

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  /** @returns the request's index */
  add(atMs: number, promptTokens: number, outputTokens: number, more: Partial<FleetRequest> = {}): number {
    const index = this.requests.length;
    this.requests.push(fleetRequest(index, atMs, promptTokens, outputTokens, more));
    return index;
  }

  /** Traffic from which speeds and paces are learnt: now little of it, now much. */
  warmUp(untilMs: number, gapsMs: readonly number[]): void {
    const { random } = this;
    const gapMs = (atMs: number): number => gapsMs[Math.floor(atMs / 5_000) % gapsMs.length]!;
    for (let atMs = 0; atMs < untilMs; atMs += random.exponential(gapMs(atMs)))
      this.add(atMs, random.integer(500, 6_000), random.integer(10, 100));
  }

  run(replicas: number, wishes: boolean): Promise<RunRecord> {
    const requests = this.requests.map(({ sloTtftMs, sloTpotMs, ...rest }) =>
      wishes ? { ...rest, sloTtftMs, sloTpotMs } : rest,
    ) as FleetRequest[];
    const policy = eppPolicy(eppOptions({ workers: 2, tickMs: 20 }));
    return run({ replicas: fastReplicas(replicas), policy, workload: { name: "wishes", requests } });
  }
}

const ttftMs = ({ firstTokenMs, arrivalMs }: RequestRecord): number => firstTokenMs - arrivalMs;
const tpotMs = ({ endMs, firstTokenMs, outputTokens }: RequestRecord): number =>
  (endMs - firstTokenMs) / (outputTokens - 1);

describe("a wish for the first token", () => {
  const WISH_MS = 300;

  it("moves a request to the replica that meets it, though it costs the fleet more (seed 2)", async () => {
    const script = new Script(2);
    script.warmUp(15_000, [300]);
    // One replica holds half of its KV cache in long answers: new prompts rather go to the other one …
    const long = { spans: [span(1, 32_000), span(2, 100)] };
    for (let i = 0; i < 8; i++) script.add(20_000 + 50 * i, 0, 800, long);
    const wished: number[] = [];
    for (let atMs = 26_000; atMs < 38_000; atMs += 1_500) {
      // … even where a prompt waits there.
      script.add(atMs, 6_000, 4);
      wished.push(script.add(atMs + 10, 2_000, 4, { sloTtftMs: WISH_MS }));
    }
    const metBy = ({ requests }: RunRecord): number =>
      wished.filter((index) => ttftMs(requests[index]!) <= WISH_MS).length;
    expect(metBy(await script.run(2, true))).toBe(wished.length);
    expect(metBy(await script.run(2, false))).toBe(0);
  });
});

describe("a wish for the time between tokens", () => {
  const WISH_MS = 20;

  it.each([1, 2, 3, 4])(
    "of an answer in flight keeps large prompts from its replica (seed %i)",
    async (seed) => {
      const script = new Script(seed);
      script.warmUp(40_000, [600, 80]);
      const answers: number[] = [];
      for (let atMs = 41_000; answers.length < 6; atMs += 1_000) {
        answers.push(script.add(atMs, 200, 300, { sloTpotMs: WISH_MS }));
        for (let i = 0; i < 10; i++) script.add((atMs += script.random.exponential(700)), 8_000, 100);
      }
      const disturbedIn = async (wishes: boolean): Promise<{ share: number; paceMs: number }> => {
        const { requests } = await script.run(4, wishes);
        let beside = 0;
        let all = 0;
        let paceMs = 0;
        for (const index of answers) {
          const answer = requests[index]!;
          const large = requests.filter(
            ({ arrivalMs, promptTokens }) =>
              promptTokens === 8_000 && arrivalMs > answer.firstTokenMs && arrivalMs < answer.endMs,
          );
          all += large.length;
          beside += large.filter(({ endpoint }) => endpoint === answer.endpoint).length;
          paceMs += tpotMs(answer) / answers.length;
        }
        return { share: beside / all, paceMs };
      };
      const [wished, ignored] = [await disturbedIn(true), await disturbedIn(false)];
      expect(ignored.share).toBeGreaterThan(0.1);
      expect(wished.share).toBeLessThan(ignored.share / 2);
      expect(wished.paceMs).toBeLessThan(ignored.paceMs - 1);
    },
  );
});
