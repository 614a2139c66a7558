// A pool's policy on its way to the gateway: its bytes, when it is pushed, and what a refusal does.
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { POLICY_BYTES_MAX } from "../../assembly/wire/policy.ts";
import { Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import type { DiscoverySink } from "../../sidecar/discovery/endpoint.ts";
import { PolicyTooLargeError } from "../../sidecar/errors.ts";
import { makeLogger } from "../../sidecar/log.ts";
import { emptyPolicy, type PoolPolicy, type RewriteRule } from "../../sidecar/policy.ts";
import { encodePolicy } from "../../sidecar/policy-encoder.ts";
import { decodePolicy } from "./policy-decoder.ts";
import { eventually, FakeControl, temporaryFolder } from "./servers.ts";
import { PATIENT } from "./whole-sidecar.ts";

const rule = (model: string | null, ...targets: [model: string, weight: number][]): RewriteRule => ({
  source: "r",
  model,
  targets: targets.map(([name, weight]) => ({ model: name, weight })),
});
const policyOf = (rewrites: RewriteRule[], priorities: Record<string, number> = {}): PoolPolicy => ({
  ...emptyPolicy("default"),
  objectives: Object.entries(priorities).map(([name, priority]) => ({ name, priority })),
  rewrites,
});

describe("the bytes of a policy", () => {
  it("come back as they were, sorted by UTF-8 bytes, the rule for any model last", () => {
    // In UTF-16 the last name's surrogates sort before U+FFFD; in UTF-8 it sorts behind.
    const policy = policyOf(
      [rule(null, ["d", 1]), rule("\u{1f600}", ["b", 70], ["c", 30]), rule("\ufffd", ["b", 1])],
      {
        zero: 0,
        low: -2_147_483_648,
        high: 2_147_483_647,
      },
    );
    expect(decodePolicy(encodePolicy(policy).bytes)).toMatchObject({
      objectives: [
        { name: "high", priority: 2_147_483_647 },
        { name: "low", priority: -2_147_483_648 },
        { name: "zero", priority: 0 },
      ],
      rewrites: [
        { model: "\ufffd", targets: [{ model: "b", weight: 1 }] },
        {
          model: "\u{1f600}",
          targets: [
            { model: "b", weight: 70 },
            { model: "c", weight: 30 },
          ],
        },
        { model: null, targets: [{ model: "d", weight: 1 }] },
      ],
    });
  });

  it("have an id that stands for the content", () => {
    const idOf = (weight: number): number => encodePolicy(policyOf([rule("a", ["b", weight])])).id;
    expect(idOf(1)).toBe(idOf(1));
    expect(idOf(1)).not.toBe(idOf(2));
    expect(Number.isSafeInteger(idOf(1)) && idOf(1) > 0).toBe(true);
    expect(decodePolicy(encodePolicy(emptyPolicy("p")).bytes).id).toBe(encodePolicy(emptyPolicy("q")).id);
  });

  it("are bounded", () => {
    const names = (count: number): RewriteRule[] =>
      Array.from({ length: count }, (_, i) =>
        rule(
          `${i}`.padStart(256, "m"),
          ...Array.from({ length: 16 }, (_, k): [string, number] => [`${i}-${k}`.padStart(256, "t"), 1]),
        ),
      );
    expect(encodePolicy(policyOf(names(15))).bytes.length).toBeLessThanOrEqual(POLICY_BYTES_MAX);
    expect(() => encodePolicy(policyOf(names(25)))).toThrow(PolicyTooLargeError);
  });
});

interface Setting {
  readonly sidecar: Sidecar;
  readonly control: FakeControl;
  readonly log: Record<string, unknown>[];
  readonly page: (path: string) => Promise<string>;
  /** Makes this the policy of the pool. */
  decide(policy: PoolPolicy): void;
}

/** A sidecar whose pool has no endpoints, and the policy that the test gives it. */
async function start(first: PoolPolicy, control?: FakeControl): Promise<Setting> {
  const listener = control ?? (await new FakeControl(join(temporaryFolder(), "control.sock")).start());
  const log: Record<string, unknown>[] = [];
  let sink: DiscoverySink | undefined;
  const sidecar = new Sidecar(
    loadSettings({ control: listener.socketPath, endpoints: "127.0.0.1:1", listen: "127.0.0.1:0" }, {}),
    {
      ...PATIENT,
      log: makeLogger("debug", { write: (line: string) => void log.push(JSON.parse(line)) }),
      makeDiscovery: () => ({
        kind: "test",
        hasPolicy: true,
        start: (given) => {
          sink = given;
          given.apply([], { duplicates: 0, labels: 0 });
          setTimeout(() => given.policy?.(first, null), 30);
        },
        stop: () => undefined,
      }),
    },
  );
  onTestFinished(() => sidecar.stop());
  await sidecar.start();
  return {
    sidecar,
    control: listener,
    log,
    page: async (path) => (await fetch(`http://127.0.0.1:${sidecar.httpPort}${path}`)).text(),
    decide: (policy) => sink!.policy!(policy, null),
  };
}

const FIRST = policyOf([rule("a", ["b", 1])]);
const SECOND = policyOf([rule("a", ["c", 1])], { critical: 5 });
const beats = async (control: FakeControl, count: number): Promise<void> => {
  const from = control.received.length;
  await eventually(`${count} snapshots came`, () => control.received.length >= from + count);
};

describe("a pool's policy", () => {
  it("reaches the gateway before its first snapshot, and again only when it changes", async () => {
    const { control, decide, page, log } = await start(FIRST);
    await beats(control, 3);
    expect(control.policies).toMatchObject([
      { pool: "default", afterSnapshots: 0, id: encodePolicy(FIRST).id, rewrites: [{ model: "a" }] },
    ]);
    decide({ ...FIRST });
    await beats(control, 2);
    expect(control.policies).toHaveLength(1);
    decide(SECOND);
    await eventually("the second came", () => control.policies.length === 2);
    expect(control.policies[1]).toMatchObject({ id: encodePolicy(SECOND).id, objectives: [{ priority: 5 }] });
    await beats(control, 2);
    expect(control.policies).toHaveLength(2);
    const metrics = await page("/metrics");
    expect(metrics).toContain('epp_sidecar_policy_pushes_total{pool="default",result="accepted"} 2');
    expect(metrics).toMatch(/epp_sidecar_policy_age_seconds\{pool="default"\} \d/);
    expect(log.find(({ msg }) => msg === "gateway took the policy")).toMatchObject({
      objectives: 0,
      rewrites: 1,
    });
  });

  it("is brought again to a gateway that restarted, before the snapshot", async () => {
    const { control, sidecar } = await start(FIRST);
    await beats(control, 1);
    await control.stop();
    control.heldPolicies.clear();
    await eventually("the sidecar noticed", () => sidecar.pushers[0]!.counts.failed > 0);
    const before = control.received.length;
    await control.start();
    await beats(control, 2);
    expect(control.policies).toHaveLength(2);
    expect(control.policies[1]!.afterSnapshots).toBe(before);
  });

  it("is brought again when the gateway says that it lost it, though no push ever failed", async () => {
    const { control } = await start(FIRST);
    await beats(control, 1);
    control.heldPolicies.clear();
    const before = control.received.length;
    await eventually("it came again", () => control.policies.length === 2);
    // Right behind the snapshot whose answer said so.
    expect(control.policies[1]!.afterSnapshots).toBe(before + 1);
    await beats(control, 2);
    expect(control.policies).toHaveLength(2);
  });

  it("is sent once to a gateway that does not say what it has", async () => {
    const control = await new FakeControl(join(temporaryFolder(), "control.sock")).start();
    control.saysHeld = false;
    await start(FIRST, control);
    await beats(control, 3);
    expect(control.policies).toHaveLength(1);
  });

  it("is sent once by a sidecar that began anew and cannot know what the gateway has", async () => {
    const { control, sidecar } = await start(FIRST);
    await beats(control, 1);
    await sidecar.stop();
    await start({ ...FIRST }, control);
    await beats(control, 2);
    expect(control.policies.map(({ id }) => id)).toEqual([encodePolicy(FIRST).id, encodePolicy(FIRST).id]);
    await beats(control, 2);
    expect(control.policies).toHaveLength(2);
  });

  it("that is refused is logged with the field, counted, not repeated; snapshots go on", async () => {
    const control = await new FakeControl(join(temporaryFolder(), "control.sock")).start();
    const answer = { status: 400, body: '{"error":{"field":"rules[0].model","message":"is bad"}}' };
    const { decide, log, page } = await start(FIRST, control);
    await beats(control, 1);
    control.policyAnswer = answer;
    decide(SECOND);
    await eventually("it came", () => control.policies.length === 2);
    await beats(control, 3);
    expect(control.policies).toHaveLength(2);
    const said = log.filter(({ msg }) => String(msg).startsWith("policy refused"));
    expect(said).toHaveLength(1);
    expect(said[0]!["msg"]).toBe(
      "policy refused, the last one stays: control listener answered 400 for field rules[0].model: is bad",
    );
    expect(await page("/readyz")).toContain("its policy was refused, the last good one stays");
    expect(await page("/metrics")).toContain('policy_pushes_total{pool="default",result="refused"} 1');
    control.policyAnswer = { status: 204, body: "" };
    decide(policyOf([]));
    await eventually("the next one is taken", () => control.policies.length === 3);
    await beats(control, 1);
    expect(await page("/readyz")).not.toContain("policy");
  });

  it("that is too large is refused here, and the gateway keeps what it has", async () => {
    const { control, decide, page } = await start(FIRST);
    await beats(control, 1);
    const objectives = Object.fromEntries(
      Array.from({ length: 1_024 }, (_, i) => [`${i}`.padStart(253, "o"), 1] as const),
    );
    decide(policyOf([], objectives));
    const refusal = /policy needs \d+ bytes, the limit is 98304/;
    await eventually("it was refused", async () => refusal.test(await page("/readyz")));
    await beats(control, 2);
    expect(control.policies).toHaveLength(1);
    expect(control.heldPolicies.get("default")).toBe(encodePolicy(FIRST).id);
  });
});
