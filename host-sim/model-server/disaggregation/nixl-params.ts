// `kv_transfer_params` of vLLM's NixlConnector: what a request says, and what a prefill answers.
import { type JsonObject, optionalObject } from "../body.ts";
import { badRequest } from "../errors.ts";
import type { DisaggregationRole } from "./config.ts";
import type { LegRequest } from "./leg.ts";
import { memberText } from "./raw-json.ts";

/** Name of the field in requests and answers. */
export const PARAMS = "kv_transfer_params";

/** A request that ends with its prefill and holds its blocks. */
export interface PrefillParams {
  readonly kind: "prefill";
}

/** A request whose prompt another replica has computed. */
export interface DecodeParams {
  readonly kind: "decode";
  /** The parameters as they came. */
  readonly text: string;
  readonly engineId: string;
  readonly requestId: string;
  /** "host:port" of the prefiller's side channel. */
  readonly address: string;
  /** Blocks named, or −1 if the field has another form. */
  readonly blockCount: number;
  /** The prefiller's prefix cache hits, if it said so. */
  readonly prefillCachedTokens: number | undefined;
  /** Fields of the four that a transfer needs which are missing: such a request waits for ever in vLLM 0.32.0. */
  readonly missing: readonly string[];
}

/** What a prefill answers. */
export interface IssuedParams {
  readonly blocks: readonly number[];
  readonly engineId: string;
  readonly requestId: string;
  readonly host: string;
  readonly port: number;
  /** Tokens in the blocks. */
  readonly tokens: number;
  /** Undefined when the prefill generated more than one token: vLLM leaves the field out then. */
  readonly cachedTokens: number | undefined;
  /** An integer beyond 2^53 that must come back unchanged; undefined: none is added. */
  readonly check: bigint | undefined;
}

const NEEDED = ["remote_engine_id", "remote_request_id", "remote_host", "remote_port"] as const;

/** Fields of a prefill leg that are null until the prefill is done. */
const REMOTE_FIELDS = ["remote_engine_id", "remote_block_ids", "remote_host", "remote_port"] as const;

/**
 * The leg that a request asks for; undefined: neither.
 * @throws ApiError 400 if the field is no object
 */
export function readParams({ body, text }: LegRequest): PrefillParams | DecodeParams | undefined {
  const params = optionalObject(body, PARAMS);
  if (params === undefined) return undefined;
  if (params["do_remote_decode"] === true) return { kind: "prefill" };
  if (params["do_remote_prefill"] !== true) return undefined;
  const cached = params["remote_prefill_cached_tokens"];
  return {
    kind: "decode",
    text: memberText(text, PARAMS)!,
    engineId: String(params["remote_engine_id"]),
    requestId: String(params["remote_request_id"]),
    address: `${String(params["remote_host"])}:${String(params["remote_port"])}`,
    blockCount: countBlocks(params["remote_block_ids"]),
    prefillCachedTokens: Number.isInteger(cached) ? (cached as number) : undefined,
    missing: NEEDED.filter((name) => params[name] === undefined),
  };
}

// One list a KV cache group; models with one kind of attention have one group.
function countBlocks(value: unknown): number {
  const group: unknown = Array.isArray(value) ? value[0] : undefined;
  return Array.isArray(group) ? group.length : -1;
}

/**
 * Checks what a real server does not: that a leg is built as a router should build it, and fits the role.
 * @throws ApiError 400 with the field, its value and what was expected
 */
export function checkLeg(
  request: LegRequest,
  params: PrefillParams | DecodeParams | undefined,
  role: DisaggregationRole,
): void {
  const kind = params?.kind ?? "ordinary";
  if (role === "prefill" && kind !== "prefill")
    refuse("role", role, `prefill legs only, not ${kind} requests`);
  if (role === "decode" && kind === "prefill") refuse("role", role, "decode legs and ordinary requests");
  if (params?.kind === "prefill") checkPrefillLeg(request);
  if (params?.kind === "decode") checkDecodeLeg(request, params);
}

function checkPrefillLeg({ body, call }: LegRequest): void {
  const params = body[PARAMS] as JsonObject;
  if (call.stream) refuse("stream", true, "false in a prefill leg: a stream tells no kv_transfer_params");
  if (call.maxTokens !== 1) refuse(call.maxTokensName, call.maxTokens, "1 in a prefill leg");
  if (body["min_tokens"] !== undefined)
    refuse("min_tokens", body["min_tokens"], "no such field in a prefill leg");
  checkOneSequence(call.prompts.length, call.choices);
  if (params["do_remote_prefill"] !== false) {
    refuse(`${PARAMS}.do_remote_prefill`, params["do_remote_prefill"], "false in a prefill leg");
  }
  for (const name of REMOTE_FIELDS) {
    if (params[name] !== null) refuse(`${PARAMS}.${name}`, params[name], "null in a prefill leg");
  }
}

function checkDecodeLeg({ body, call }: LegRequest, { missing, blockCount }: DecodeParams): void {
  const params = body[PARAMS] as JsonObject;
  if (missing.length > 0) refuse(`${PARAMS}.${missing[0]}`, undefined, "what the prefill leg answered");
  if (blockCount < 1) {
    refuse(`${PARAMS}.remote_block_ids`, params["remote_block_ids"], "one list of block ids in a list");
  }
  checkOneSequence(call.prompts.length, call.choices);
}

function checkOneSequence(prompts: number, choices: number): void {
  if (prompts !== 1) refuse("prompt", `${prompts} prompts`, "1: kv_transfer_params belong to one sequence");
  if (choices !== 1) refuse("n", choices, "1: kv_transfer_params belong to one sequence");
}

function refuse(field: string, value: unknown, expected: string): never {
  throw badRequest(`${field} is ${JSON.stringify(value) ?? "absent"}, expected ${expected}`);
}

/**
 * Text of the answer's `kv_transfer_params`, fields and order as vLLM 0.32.0 gives them (measured; see
 * nixl/pull_scheduler.py, request_finished).
 */
export function writeParams(issued: IssuedParams): string {
  const text = JSON.stringify({
    do_remote_prefill: true,
    do_remote_decode: false,
    remote_block_ids: [issued.blocks],
    remote_engine_id: issued.engineId,
    remote_request_id: issued.requestId,
    remote_host: issued.host,
    remote_port: issued.port,
    tp_size: 1,
    dcp_size: 1,
    pp_size: 1,
    remote_num_tokens: issued.tokens,
    remote_blocks_expiry_time: null,
    transfer_mode: "pull",
    ...(issued.cachedTokens === undefined ? {} : { remote_prefill_cached_tokens: issued.cachedTokens }),
  });
  return issued.check === undefined ? text : `${text.slice(0, -1)},"check":${issued.check}}`;
}

/** Puts the parameters' text, unchanged, where an answer has `"kv_transfer_params":null`. */
export function spliceParams(answer: object, params: string | null): string {
  const text = JSON.stringify(answer);
  if (params === null) return text;
  // In a JSON string the quotes would be escaped: this is the field and nothing else.
  const field = `"${PARAMS}":null`;
  const at = text.lastIndexOf(field);
  return `${text.slice(0, at)}"${PARAMS}":${params}${text.slice(at + field.length)}`;
}
