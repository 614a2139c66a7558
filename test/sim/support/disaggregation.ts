// Prefillers and decoders for tests, and the requests that a router would send them.
import type {
  ConnectorKind,
  DisaggregationConfig,
} from "../../../host-sim/model-server/disaggregation/config.ts";
import { noDisaggregation } from "../../../host-sim/model-server/disaggregation/config.ts";
import type { DisaggregationStatus } from "../../../host-sim/model-server/disaggregation/leg.ts";
import type { EngineConfig } from "../../../host-sim/model-server/engine-types.ts";
import type { ReplicaConfig } from "../../../host-sim/model-server/replica-types.ts";
import type { SimulatedReplica } from "../../../host-sim/model-server/server.ts";
import { send, startReplica } from "./replica.ts";

export const CHAT = "/v1/chat/completions";

/** What a router adds to a prefill leg for vLLM. */
export const PREFILL_PARAMS = {
  do_remote_decode: true,
  do_remote_prefill: false,
  remote_engine_id: null,
  remote_block_ids: null,
  remote_host: null,
  remote_port: null,
};

/** Short names for `pair`. */
export interface PairOptions extends Partial<DisaggregationConfig> {
  readonly replica?: Partial<ReplicaConfig>;
  readonly engine?: Partial<EngineConfig>;
}

/** A started prefiller and a started decoder. */
export async function startPair(
  connector: ConnectorKind,
  options: PairOptions = {},
): Promise<{ prefiller: SimulatedReplica; decoder: SimulatedReplica }> {
  const { replica, engine, ...config } = options;
  const start = (role: "prefill" | "decode"): Promise<SimulatedReplica> => {
    const disaggregation = { ...noDisaggregation(), connector, role, ...config };
    return startReplica({ ...replica, name: role, disaggregation }, engine);
  };
  return { prefiller: await start("prefill"), decoder: await start("decode") };
}

/** A chat of more than 50 tokens; different words share no full block but the first few tokens. */
export function chat(words: string, more: object = {}): Record<string, unknown> {
  const content = `${words} and some more words to fill a few blocks of this prompt `.repeat(4);
  return { messages: [{ role: "user", content }], max_tokens: 8, ignore_eos: true, ...more };
}

/** What tests look at in the answer of a prefill leg. */
export interface PrefillAnswer {
  readonly usage: { readonly prompt_tokens: number };
}

/** Sends a prefill leg. @returns the raw text of the answer's `kv_transfer_params`, and the whole answer */
export async function prefill(
  replica: SimulatedReplica,
  body: object,
  path = CHAT,
): Promise<{ params: string; answer: PrefillAnswer }> {
  const leg = { ...body, max_tokens: 1, kv_transfer_params: PREFILL_PARAMS };
  const { status, text } = await send(replica, path, leg);
  if (status !== 200) throw new Error(`${status} ${text}`);
  const params = /"kv_transfer_params":(\{.*?\})/.exec(text)?.[1] ?? "null";
  return { params, answer: JSON.parse(text) as PrefillAnswer };
}

/** Body of a decode leg: the parameters' text goes in unchanged. */
export function decodeBody(body: object, params: string): string {
  return `${JSON.stringify(body).slice(0, -1)},"kv_transfer_params":${params}}`;
}

/** Message of an error answer. */
export function messageOf(text: string): string {
  return (JSON.parse(text) as { error: { message: string } }).error.message;
}

/** Text of a whole chat answer. */
export function contentOf(text: string): string {
  return (JSON.parse(text) as { choices: { message: { content: string } }[] }).choices[0]!.message.content;
}

/** What a replica's connector tells of itself. */
export function statusOf(replica: SimulatedReplica): DisaggregationStatus {
  return replica.disaggregation!;
}

/** Both legs of a call for vLLM; `change` edits the parameters between them. */
export async function bothLegs(
  { prefiller, decoder }: { prefiller: SimulatedReplica; decoder: SimulatedReplica },
  body: object,
  change: (params: Record<string, unknown>) => object = (params) => params,
): Promise<{ status: number; text: string }> {
  const { params } = await prefill(prefiller, body);
  return send(decoder, CHAT, { ...body, kv_transfer_params: change(JSON.parse(params)) });
}
