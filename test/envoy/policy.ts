// Pool policies for tests, short: { model: "target" } or { model: { target: weight } }, "*" = any model.
import { setTimeout as sleep } from "node:timers/promises";
import { emptyPolicy, type PoolPolicy } from "../../sidecar/policy.ts";
import { encodePolicy } from "../../sidecar/policy-encoder.ts";
import { type ControlReply, type Gateway, POOL } from "./harness.ts";

export type Rules = Readonly<Record<string, string | Readonly<Record<string, number>>>>;

/** The policy with these rules and priorities by objective name. */
export function policyOf(rules: Rules, objectives: Readonly<Record<string, number>> = {}): PoolPolicy {
  return {
    ...emptyPolicy(POOL),
    objectives: Object.entries(objectives).map(([name, priority]) => ({ name, priority })),
    rewrites: Object.entries(rules).map(([model, targets]) => ({
      source: "test",
      model: model === "*" ? null : model,
      targets: Object.entries(typeof targets === "string" ? { [targets]: 1 } : targets).map(
        ([name, weight]) => ({
          model: name,
          weight,
        }),
      ),
    })),
  };
}

/** Workers go by what they read up to 2 ms ago (FRESH_MS in assembly/filter/pools.ts). */
const KNOWN_AFTER_MS = 5;

/** Pushes a policy and waits until every worker goes by it; returns the control listener's answer. */
export async function pushWhole(gateway: Gateway, policy: PoolPolicy, pool = POOL): Promise<ControlReply> {
  const { bytes } = encodePolicy(policy);
  const reply = await gateway.control("POST", `/v1/pools/${encodeURIComponent(pool)}/policy`, bytes);
  await sleep(KNOWN_AFTER_MS);
  return reply;
}

/** The same with policyOf's short form. */
export function pushPolicy(
  gateway: Gateway,
  rules: Rules,
  objectives: Readonly<Record<string, number>> = {},
  pool = POOL,
): Promise<ControlReply> {
  return pushWhole(gateway, policyOf(rules, objectives), pool);
}
