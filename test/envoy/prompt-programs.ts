// Prompt programs for tests on a real gateway: pushed as a sidecar does, with what the replicas are told to hold.
import { setTimeout as sleep } from "node:timers/promises";
import * as hash from "../../sidecar/kv-index/hash64.ts";
import { encodePrompts, type PromptModel } from "../../sidecar/prompts/encode.ts";
import type { KvSource } from "./kv-batches.ts";
import { type ControlReply, type Gateway, POOL, until } from "./harness.ts";
import type { Reply } from "./clients.ts";
import type { EndpointStatus, PoolStatus, Status } from "./status.ts";
import { text } from "./support.ts";

/** Workers go by what they read up to 2 ms ago (FRESH_MS in assembly/filter/pools.ts). */
const KNOWN_AFTER_MS = 5;

/** Pushes programs for these models and waits until every worker goes by them; returns the control listener's answer. */
export async function pushPrompts(gateway: Gateway, models: readonly PromptModel[]): Promise<ControlReply> {
  const reply = await gateway.control("POST", `/v1/pools/${POOL}/prompts`, encodePrompts(models).bytes);
  await sleep(KNOWN_AFTER_MS);
  return reply;
}

/** Root of the keys of an adapter's prompts, or of salted ones. */
export function rootOf(adapter: string | null, salt: string | null = null): bigint {
  const { high, low } = hash.hashRoot(adapter, salt);
  return BigInt.asUintN(64, (BigInt(high) << 32n) | BigInt(low >>> 0));
}

/** What /status says of prompt programs and of the exact index. */
export interface IndexStatus extends PoolStatus {
  readonly promptProgramsId: number;
  readonly promptProgramsAgeMs: number | null;
  readonly promptPrograms: number;
  readonly promptModels: number;
  readonly kvIndex: { readonly sequence: number; readonly appliedSequence: number };
  readonly endpoints: readonly (EndpointStatus & { readonly kv: "exact" | "degraded" | "unknown" })[];
}

export async function indexStatus(gateway: Gateway): Promise<IndexStatus> {
  const { pools } = await gateway.status<Omit<Status, "pools"> & { pools: IndexStatus[] }>();
  return pools.find(({ name }) => name === POOL)!;
}

/** Tells the gateway what the source has for it, and waits until all workers have it and know each replica as `kv` says. */
export async function tell(
  gateway: Gateway,
  source: KvSource,
  kv: readonly ("exact" | "degraded" | "unknown")[],
): Promise<void> {
  for (const batch of source.batches()) {
    const { status, text } = await gateway.control("POST", `/v1/pools/${POOL}/kv`, batch);
    if (status !== 200) throw new Error(`the control listener answered ${status} to a batch: ${text}`);
  }
  await until(`endpoints ${kv.join(", ")}`, async () => {
    const { endpoints, kvIndex } = await indexStatus(gateway);
    if (kvIndex.appliedSequence !== source.sequence) return false;
    return kv.every((state, slot) => endpoints[slot]?.kv === state);
  });
}

/** What x-epp-explain says. */
export interface Explained {
  readonly choice: string;
  readonly prompt: number;
  /** By address. */
  readonly match: Readonly<Record<string, number>>;
  readonly index: Readonly<Record<string, string>>;
}

export function explained(reply: Reply): Explained {
  const [head, ...candidates] = (reply.headers["x-epp-explain"] as string).split("; ");
  const figure = (part: string, name: string): string => new RegExp(`${name}=(\\S+)`).exec(part)?.[1] ?? "";
  const byAddress = candidates.map((part) => [part.split(" ")[0]!, part] as const);
  return {
    choice: figure(head!, "choice"),
    prompt: Number(figure(head!, "prompt")),
    match: Object.fromEntries(byAddress.map(([address, part]) => [address, Number(figure(part, "match"))])),
    index: Object.fromEntries(byAddress.map(([address, part]) => [address, figure(part, "index")])),
  };
}

/** Conversations whose prefix a replica holds; each its own text. */
export const talk = (seed: string) => [
  { role: "system" as const, content: text(`rules of ${seed}`, 1_000) },
  { role: "user" as const, content: ` ${text(`question ${seed}`, 2_000)} \n` },
];
