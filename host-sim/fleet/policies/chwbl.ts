// Policy "chwbl": consistent hashing with bounded loads, as KubeAI's PrefixHash.
import { hashText } from "../../model-server/block-hash.ts";
import type { FleetRequest, GatewayContext, Policy } from "../types.ts";
import { PolicyGateway, RETRIES_MAX } from "./gateway.ts";

const NAME = "chwbl";

/** Points of one replica on the ring (`replication`). */
export const POINTS_PER_REPLICA = 256;
/** A replica may have so many times the mean of requests under way (`meanLoadFactor`, 125 %). */
export const LOAD_FACTOR = 1.25;
/** `prefixCharLength`, 100 characters, at four characters a token. */
export const PREFIX_TOKENS = 25;
const SEED = 0x9e3779b9;

/**
 * Hash of what KubeAI hashes: the adapter and the first 100 characters of the first user message. In tokens:
 * the pieces of spans among the first PREFIX_TOKENS tokens of that message.
 */
export function prefixKey({ spans, lora }: Pick<FleetRequest, "spans" | "lora">): number {
  let text = lora ?? "";
  let left = PREFIX_TOKENS;
  const first = spans.findIndex(({ role }) => role === "user");
  for (let i = first; i >= 0 && i < spans.length && left > 0; i++) {
    const { id, tokens, role } = spans[i]!;
    if (role !== "user") break;
    const taken = Math.min(tokens, left);
    text += `/${id}:${taken}`;
    left -= taken;
  }
  return hashText(text, SEED);
}

/** Whether one more request keeps a replica within LOAD_FACTOR times the mean, this request counted in. */
export function loadAllowed(requests: number, total: number, replicas: number): boolean {
  return total === 0 || requests + 1 <= ((total + 1) / replicas) * LOAD_FACTOR;
}

interface RingPoint {
  readonly hash: number;
  readonly replica: number;
}

class ChwblGateway extends PolicyGateway {
  private readonly ring: readonly RingPoint[];

  constructor(context: GatewayContext) {
    super(context, NAME);
    const points = context.replicas.flatMap((_, replica) =>
      Array.from({ length: POINTS_PER_REPLICA }, (_, point) => {
        return { hash: hashText(`replica-${replica}/${point}`, SEED), replica };
      }),
    );
    this.ring = points.sort((a, b) => a.hash - b.hash);
  }

  protected order(request: FleetRequest, ready: readonly number[]): number[] {
    const walk = this.walk(prefixKey(request), ready);
    let total = 0;
    for (const replica of ready) total += this.ownRequests[replica]!;
    const chosen =
      walk.find((replica) => loadAllowed(this.ownRequests[replica]!, total, ready.length)) ?? walk[0]!;
    return [chosen, ...walk.filter((replica) => replica !== chosen)].slice(0, 1 + RETRIES_MAX);
  }

  protected assigned(): undefined {
    return undefined;
  }

  // Ready replicas in the order in which the ring names them from the key on.
  private walk(key: number, ready: readonly number[]): number[] {
    const start = firstAtLeast(this.ring, key);
    const isReady = new Set(ready);
    const seen = new Set<number>();
    for (let i = 0; i < this.ring.length && seen.size < ready.length; i++) {
      const { replica } = this.ring[(start + i) % this.ring.length]!;
      if (isReady.has(replica)) seen.add(replica);
    }
    return [...seen];
  }
}

function firstAtLeast(ring: readonly RingPoint[], hash: number): number {
  let low = 0;
  let high = ring.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ring[middle]!.hash < hash) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * The key's next replica on the ring whose own requests stay within 1.25 × the mean; the next one if none
 * does.
 */
export const CHWBL: Policy = {
  name: NAME,
  source:
    "Consistent hashing with bounded loads over the adapter and the first 100 characters of the first" +
    " user message: KubeAI's PrefixHash (substratusai/kubeai, internal/loadbalancer/balance_chwbl.go at" +
    " 08e69e54, api/openai/v1/chat_completion.go at 03d64a3c, defaults of api/k8s/v1/model_types.go at" +
    " 0c67b3ba); Mirrokni, Thorup, Zadimoghaddam, arXiv 1608.01350.",
  create: (context) => new ChwblGateway(context),
};
