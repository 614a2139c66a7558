// The pool policy in the filter: what is refused and how it is named, which rule counts, and who goes where.
import { beforeAll, describe, expect, it } from "vitest";
import * as wire from "../../assembly/wire/policy.ts";
import { emptyPolicy, type PoolPolicy, type RewriteRule } from "../../sidecar/policy.ts";
import { encodePolicy } from "../../sidecar/policy-encoder.ts";
import { snapshotChecksum } from "../../sidecar/snapshot-encoder.ts";
import { compileHarness, instantiateHarness } from "./support/harness.ts";
import { random } from "./support/random.ts";

let compiled: WebAssembly.Module;
beforeAll(async () => {
  compiled = await compileHarness("policy");
});

// biome-ignore lint/suspicious/noExplicitAny: every export of the harness by its name
type Exports = Record<string, any>;

const POOL = 3;

class Policies {
  private readonly h = instantiateHarness<Exports>(compiled);
  private put(bytes: Uint8Array, at = 0): number {
    const ptr = this.h["scratchPtr"]() + at;
    new Uint8Array(this.h["memory"].buffer, ptr, bytes.length).set(bytes);
    return ptr;
  }
  private text(ptr: number, length: number): string {
    return Buffer.from(this.h["memory"].buffer, ptr, length).toString("utf8");
  }
  /** "field: message", or "" when the policy is good. */
  fault(bytes: Uint8Array): string {
    const { h } = this;
    if (h["policyCheck"](this.put(bytes), bytes.length)) return "";
    const field = this.text(h["faultField"](), h["faultFieldBytes"]());
    return `${field}: ${this.text(h["faultMessage"](), h["faultMessageBytes"]())}`;
  }
  take(policy: PoolPolicy, sequence = 1n): this {
    const { bytes } = encodePolicy(policy);
    expect(this.fault(bytes)).toBe("");
    this.h["policyTake"](POOL, this.put(bytes), bytes.length, sequence, 1_000);
    return this;
  }
  priority(name: string): number | null {
    const bytes = Buffer.from(name);
    const found = this.h["policyObjective"](POOL, this.put(bytes), bytes.length);
    return found === 0 ? null : this.h["objectivePriority"](found);
  }
  /** The target of a request for `model` with this key; null = no rule counts. */
  target(model: string, key = 1n): string | null {
    const { h } = this;
    const bytes = Buffer.from(model);
    const rule = h["policyRule"](POOL, this.put(bytes), bytes.length);
    if (rule === 0) return null;
    const target = h["ruleTarget"](POOL, rule, key);
    return this.text(h["targetModelPtr"](POOL, target), h["targetModelBytes"](target));
  }
  get exports(): Exports {
    return this.h;
  }
}

const rule = (model: string | null, ...targets: [model: string, weight: number][]): RewriteRule => ({
  source: "r",
  model,
  targets: targets.map(([name, weight]) => ({ model: name, weight })),
});
const policyOf = (rewrites: RewriteRule[], objectives: PoolPolicy["objectives"] = []): PoolPolicy => ({
  ...emptyPolicy("p"),
  objectives,
  rewrites,
});

const GOOD = policyOf(
  [rule("a", ["b", 70], ["c", 30]), rule("z", ["y", 1]), rule(null, ["d", 1])],
  [
    { name: "high", priority: 9 },
    { name: "low", priority: -9 },
  ],
);
const OBJECTIVE = wire.POLICY_HEADER_BYTES;
const RULE = OBJECTIVE + 2 * wire.POLICY_RECORD_BYTES;
const TARGET = RULE + 3 * wire.POLICY_RECORD_BYTES;

function spoilt(spoil: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.from(encodePolicy(GOOD).bytes);
  spoil(bytes);
  bytes.writeUInt32LE(snapshotChecksum(bytes), wire.POLICY_AT_CHECKSUM);
  return bytes;
}
const u32 = (at: number, value: number): Buffer => spoilt((bytes) => bytes.writeUInt32LE(value, at));

describe("a policy's check", () => {
  it.each<[string, () => Uint8Array, string]>([
    ["no header", () => Buffer.from("EPL1"), "totalBytes: 4: expected at least the 64-byte header"],
    [
      "too many bytes",
      () => Buffer.alloc(wire.POLICY_BYTES_MAX + 1),
      "totalBytes: 98305: expected at most 98304",
    ],
    ["another magic", () => u32(0, 0x31535045), 'magic: 827543621: expected 827084869, "EPL1"'],
    [
      "the next version",
      () => spoilt((bytes) => bytes.writeUInt16LE(2, wire.POLICY_AT_VERSION)),
      "version: 2: expected 1, the version this filter reads",
    ],
    [
      "a longer header",
      () => spoilt((bytes) => bytes.writeUInt16LE(72, wire.POLICY_AT_HEADER_BYTES)),
      "headerBytes: 72: expected 64",
    ],
    ["fewer bytes than said", () => encodePolicy(GOOD).bytes.subarray(0, -1), "totalBytes"],
    [
      "too many objectives",
      () => u32(wire.POLICY_AT_OBJECTIVES, 1_025),
      "objectives: 1025: expected at most 1024",
    ],
    ["too many rules", () => u32(wire.POLICY_AT_RULES, 257), "rules: 257: expected at most 256"],
    ["too many targets", () => u32(wire.POLICY_AT_TARGETS, 49), "targets: 49: expected at most 16 a rule"],
    ["more records than bytes", () => u32(wire.POLICY_AT_OBJECTIVES, 1_000), "room for all records"],
    [
      "a flipped bit",
      () => {
        const bytes = Buffer.from(encodePolicy(GOOD).bytes);
        bytes[bytes.length - 1]! ^= 1;
        return bytes;
      },
      "checksum",
    ],
    ["no id", () => spoilt((bytes) => bytes.writeBigUInt64LE(0n, wire.POLICY_AT_ID)), "id: 0: expected 1 to"],
    [
      "an id that JSON cannot keep",
      () => spoilt((bytes) => bytes.writeBigUInt64LE(1n << 48n, wire.POLICY_AT_ID)),
      "id: 281474976710656: expected 1 to 281474976710655",
    ],
    ["an empty objective", () => u32(OBJECTIVE + 4, 0), "objectives[0].name: 0: expected 1 to 253 bytes"],
    ["a long objective", () => u32(OBJECTIVE + 4, 254), "objectives[0].name: 254: expected 1 to 253 bytes"],
    ["a name outside", () => u32(OBJECTIVE, 1e6), "objectives[0].name: 1000000: expected an offset inside"],
    [
      "one name twice",
      () => spoilt((bytes) => bytes.copyWithin(OBJECTIVE + 16, OBJECTIVE, OBJECTIVE + 8)),
      'objectives[1].name: "high": expected each once, in ascending order',
    ],
    [
      "models in the wrong order",
      () =>
        spoilt((bytes) => {
          const first = Buffer.from(bytes.subarray(RULE, RULE + 8));
          bytes.copyWithin(RULE, RULE + 16, RULE + 24);
          first.copy(bytes, RULE + 16);
        }),
      'rules[1].model: "a": expected each once, in ascending order',
    ],
    [
      "a rule for any model that is not the last",
      () => u32(RULE + 4, 0),
      "rules[0].model: 0: expected 1 to 256 bytes: the rule for any model is the last",
    ],
    ["a long model", () => u32(RULE + 4, 257), "rules[0].model: 257: expected"],
    [
      "targets of another rule",
      () => u32(RULE + 16 + 8, 1),
      "rules[1].firstTarget: 1: expected the one behind",
    ],
    ["no targets", () => u32(RULE + 12, 0), "rules[0].targets: 0: expected 1 to 16, no more than there are"],
    ["17 targets", () => u32(RULE + 12, 17), "rules[0].targets: 17: expected 1 to 16"],
    ["targets that are not there", () => u32(RULE + 12, 5), "rules[0].targets: 5: expected"],
    [
      "targets of no rule",
      () =>
        spoilt((bytes) => {
          bytes.writeUInt32LE(1, RULE + 12);
          for (const i of [1, 2]) bytes.writeUInt32LE(i, RULE + 16 * i + wire.RULE_AT_FIRST_TARGET);
        }),
      "targets: 4: expected as many as the rules have",
    ],
    ["an empty target", () => u32(TARGET + 4, 0), "targets[0].model: 0: expected 1 to 256 bytes"],
    ["a weight of 0", () => u32(TARGET + 16 + 8, 0), "targets[1].weight: 0: expected 1 to 1000000"],
    [
      "a weight beyond the limit",
      () => u32(TARGET + 8, 1_000_001),
      "targets[0].weight: 1000001: expected 1 to",
    ],
    ["something where nothing is", () => u32(OBJECTIVE + 12, 7), "objectives[0].reserved: 7: expected 0"],
  ])("refuses %s and names it", (_, bytes, fault) => {
    expect(new Policies().fault(bytes())).toContain(fault);
  });

  it("takes what is at its limits", () => {
    const policies = new Policies();
    const many = policyOf(
      Array.from({ length: 256 }, (_, i) =>
        rule(
          i === 255 ? null : `m${i}`,
          ...Array.from({ length: 16 }, (__, k): [string, number] => [`t${k}`, 1_000_000]),
        ),
      ),
      Array.from({ length: 1_024 }, (_, i) => ({ name: `o${i}`, priority: i - 512 })),
    );
    policies.take(many);
    expect(policies.priority("o1023")).toBe(511);
    expect(policies.target("m254")).toMatch(/^t\d+$/);
    const long = policyOf(
      [rule("m".repeat(256), ["t".repeat(256), 1])],
      [{ name: "o".repeat(253), priority: 1 }],
    );
    expect(policies.take(long).target("m".repeat(256))).toBe("t".repeat(256));
    expect(policies.take(emptyPolicy("p")).target("m0")).toBeNull();
  });

  it("survives any damaged byte without reading outside", () => {
    const { seed, next } = random();
    const policies = new Policies();
    const good = encodePolicy(GOOD).bytes;
    for (let i = 0; i < 3_000; i++) {
      const bytes = Buffer.from(good);
      for (let k = 0; k < 3; k++) bytes[16 + Math.floor(next() * (bytes.length - 16))] = next() * 256;
      bytes.writeUInt32LE(snapshotChecksum(bytes), wire.POLICY_AT_CHECKSUM);
      if (policies.fault(bytes) !== "") continue;
      const { exports: h } = policies;
      h["policyTake"](POOL, h["scratchPtr"](), bytes.length, BigInt(i), 0);
      expect(
        () => [policies.priority("high"), policies.target("a"), policies.target("")],
        `seed ${seed}`,
      ).not.toThrow();
    }
  });
});

describe("a policy in force", () => {
  it("tells the priority of an objective, and of no other name", () => {
    const policies = new Policies();
    expect([policies.exports["policyKnown"](POOL), policies.priority("high")]).toEqual([0, null]);
    policies.take(GOOD);
    expect(["high", "low", "", "hig", "highe", "HIGH"].map((name) => policies.priority(name))).toEqual([
      9,
      -9,
      null,
      null,
      null,
      null,
    ]);
  });

  it("takes the rule for exactly the model, else the one for any model, else none", () => {
    const policies = new Policies().take(GOOD);
    expect(policies.target("z")).toBe("y");
    expect(["b", "c"]).toContain(policies.target("a"));
    for (const other of ["A", "aa", "", "y", "zz"]) expect(policies.target(other)).toBe("d");
    policies.take(policyOf([rule("a", ["b", 1])]), 2n);
    expect([policies.target("a"), policies.target("z"), policies.target("")]).toEqual(["b", null, null]);
  });

  it("finds every rule and objective among many", () => {
    const { seed, next } = random();
    const names = [...new Set(Array.from({ length: 250 }, () => Math.floor(next() * 1e9).toString(36)))];
    const policies = new Policies().take(
      policyOf(
        names.map((name) => rule(name, [`to-${name}`, 1])),
        names.map((name, priority) => ({ name, priority })),
      ),
    );
    for (const [i, name] of names.entries()) {
      expect(policies.target(name), `seed ${seed}`).toBe(`to-${name}`);
      expect(policies.priority(name), `seed ${seed}`).toBe(i);
      expect(policies.target(`${name}!`), `seed ${seed}`).toBeNull();
    }
  });

  it("is known by its id and sequence, one pool apart from the other, and skips what was bad", () => {
    const { exports: h } = new Policies().take(GOOD, 7n);
    expect(h["policyId"](POOL)).toBe(BigInt(encodePolicy(GOOD).id));
    expect([h["policySequence"](POOL), h["policyReceivedMs"](POOL)]).toEqual([7n, 1_000]);
    expect([h["policyObjectives"](POOL), h["policyRules"](POOL)]).toEqual([2, 3]);
    expect([h["policyId"](0), h["policyRules"](0)]).toEqual([0n, 0]);
    h["policySkip"](POOL, 8n);
    expect([h["policySequence"](POOL), h["policyRules"](POOL)]).toEqual([8n, 3]);
  });
});

describe("a split", () => {
  const KEYS = 20_000;
  /** Targets of keys 1…KEYS, spread over 64 bits. */
  function draw(targets: [string, number][]): string[] {
    const policies = new Policies().take(policyOf([rule("m", ...targets)]));
    return Array.from({ length: KEYS }, (_, i) =>
      policies.target("m", BigInt.asUintN(64, BigInt(i + 1) * 0x9e3779b97f4a7c15n))!,
    );
  }
  const share = (drawn: string[], name: string): number => drawn.filter((one) => one === name).length / KEYS;

  it.each<[string, [string, number][]]>([
    [
      "70 : 30",
      [
        ["a", 70],
        ["b", 30],
      ],
    ],
    [
      "1 : 999,999",
      [
        ["a", 1],
        ["b", 999_999],
      ],
    ],
    [
      "equal thirds",
      [
        ["a", 1],
        ["b", 1],
        ["c", 1],
      ],
    ],
    [
      "90 : 9 : 1",
      [
        ["a", 90],
        ["b", 9],
        ["c", 1],
      ],
    ],
  ])("of %s gives each target its share", (_, targets) => {
    const drawn = draw(targets);
    const sum = targets.reduce((total, [, weight]) => total + weight, 0);
    for (const [name, weight] of targets) {
      const p = weight / sum;
      // Five standard deviations of a binomial count; the keys are fixed, so this never changes.
      const slack = 5 * Math.sqrt((p * (1 - p)) / KEYS);
      expect(Math.abs(share(drawn, name) - p), name).toBeLessThanOrEqual(slack);
    }
  });

  it("gives a key the same target always, and moves only what a new weight must move", () => {
    const before = draw([
      ["a", 90],
      ["b", 10],
    ]);
    expect(
      draw([
        ["a", 90],
        ["b", 10],
      ]),
    ).toEqual(before);
    expect(
      draw([
        ["b", 10],
        ["a", 90],
      ]),
    ).toEqual(before);
    const after = draw([
      ["a", 80],
      ["b", 20],
    ]);
    expect(before.filter((name, i) => name === "b" && after[i] === "a")).toEqual([]);
    const added = draw([
      ["a", 90],
      ["b", 10],
      ["c", 10],
    ]);
    expect(added.filter((name, i) => name !== before[i] && name !== "c")).toEqual([]);
  });

  it("adds up the shares of a model that is named twice", () => {
    expect(
      share(
        draw([
          ["a", 1],
          ["b", 2],
          ["a", 1],
        ]),
        "a",
      ),
    ).toBeCloseTo(0.5, 1);
  });
});
