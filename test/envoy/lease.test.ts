// The lease of a pool: which of several sidecars' pushes a real Envoy takes, and from when on another's.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodePolicy } from "../../sidecar/policy-encoder.ts";
import { LEASE_HEADER, LEASE_ID_BYTES_MAX } from "../../assembly/wire/lease.ts";
import { type ControlReply, ENVOY_VERSIONS, type Gateway, startGateway, until } from "./harness.ts";
import { encodeKvBatch } from "./kv-batches.ts";
import { policyOf } from "./policy.ts";
import { encodeSnapshot } from "./snapshot.ts";
import type { Status } from "./status.ts";
import { ask, text } from "./support.ts";

const A = "host-a-1-00000001";
const B = "host-b-2-00000002";
const SNAPSHOT = encodeSnapshot([{ address: "127.0.0.1:9", name: "nine" }]);

describe.each(ENVOY_VERSIONS)("a pool's lease in Envoy %s", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  let pools = 0;
  /** Each test has a pool of its own. */
  const freshPool = (): string => `leased-${++pools}`;
  beforeAll(async () => {
    gateway = await startGateway(version);
    // A worker shows its figures from its first request on.
    await ask(gateway, text("first"));
  });
  afterAll(() => gateway?.stop());

  const push = (
    pool: string,
    sidecar: string | null,
    body = SNAPSHOT,
    kind = "snapshot",
  ): Promise<ControlReply> =>
    gateway.control(
      "POST",
      `/v1/pools/${pool}/${kind}`,
      body,
      sidecar === null ? {} : { [LEASE_HEADER]: sidecar },
    );
  const release = (pool: string, sidecar: string): Promise<ControlReply> =>
    gateway.control("DELETE", `/v1/pools/${pool}/lease`, undefined, { [LEASE_HEADER]: sidecar });
  const shown = async (pool: string): Promise<unknown> =>
    (await gateway.status<Status>()).pools.find(({ name }) => name === pool);

  it("is its first sidecar's: of another nothing is taken, whatever it brings", async () => {
    const pool = freshPool();
    expect((await push(pool, A)).status).toBe(204);
    const before = (await gateway.status<Status>()).counters;
    const others = [
      [encodeSnapshot([]), "snapshot"],
      [encodePolicy(policyOf({ small: "large" })).bytes, "policy"],
      [encodeKvBatch(1n, 1, []), "kv"],
    ] as const;
    for (const [body, kind] of others) {
      const { status, text: answer } = await push(pool, B, body, kind);
      expect(status, kind).toBe(423);
      expect(JSON.parse(answer)).toEqual({ error: { field: LEASE_HEADER, message: A } });
    }
    expect(await shown(pool)).toMatchObject({
      sidecar: A,
      standbySidecar: B,
      policyId: 0,
      kvIndex: { sequence: 0 },
      endpoints: [{ name: "nine" }],
    });
    expect((await push(pool, A)).status).toBe(204);
    await until("the refusals were counted", async () => {
      const { standbyPushes } = (await gateway.status<Status>()).counters;
      return standbyPushes === before["standbyPushes"]! + others.length;
    });
  });

  it("is another's as soon as it is given back, which only its holder can", async () => {
    const pool = freshPool();
    await push(pool, A);
    expect((await release(pool, B)).status).toBe(204);
    expect((await push(pool, B)).status).toBe(423);
    expect((await release(pool, A)).status).toBe(204);
    expect((await push(pool, B)).status).toBe(204);
    expect((await push(pool, A)).status).toBe(423);
    expect(await shown(pool)).toMatchObject({ sidecar: B, standbySidecar: A });
  });

  it("is another's when its holder falls silent, and not before", async () => {
    const pool = freshPool();
    await push(pool, A);
    const answers: number[] = [];
    await until("it was taken over", async () => {
      answers.push((await push(pool, B)).status);
      return answers.at(-1) === 204;
    });
    expect(new Set(answers.slice(0, -1))).toEqual(new Set([423]));
    expect((await push(pool, A)).status).toBe(423);
  });

  it("is not taken by what is refused, nor by a push of nobody's", async () => {
    const pool = freshPool();
    const broken = Buffer.from(SNAPSHOT);
    broken[broken.length - 1]! ^= 1;
    expect((await push(pool, A, broken)).status).toBe(400);
    expect((await push(pool, null)).status).toBe(204);
    expect(await shown(pool)).toMatchObject({ sidecar: null, standbySidecar: null });
    expect((await push(pool, B)).status).toBe(204);
    expect((await push(pool, null)).status).toBe(204);
    expect(await shown(pool)).toMatchObject({ sidecar: B, standbySidecar: null });
  });

  it("has ids of 1 to 64 bytes", async () => {
    const pool = freshPool();
    expect((await push(pool, "x".repeat(LEASE_ID_BYTES_MAX + 1))).status).toBe(400);
    expect((await release(pool, "x".repeat(LEASE_ID_BYTES_MAX + 1))).status).toBe(400);
    expect((await release(pool, "")).status).toBe(400);
    const longest = "x".repeat(LEASE_ID_BYTES_MAX);
    expect((await push(pool, longest)).status).toBe(204);
    expect(await shown(pool)).toMatchObject({ sidecar: longest });
    expect((await gateway.control("POST", `/v1/pools/${pool}/lease`, "x")).status).toBe(404);
  });
});
