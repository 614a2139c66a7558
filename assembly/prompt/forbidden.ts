// Fields of a body that only the gateway may set: they name a host, and memory of another engine.
//
// kv_transfer_params and ec_transfer_params: vLLM's connectors, of KV and of the encoder's cache; they are also read from
// vllm_xargs and from sampling_params' extra_args (vllm/entrypoints/openai/…/protocol.py, vllm/v1/request.py).
// bootstrap_…: SGLang's disaggregation (bootstrap_host, _port, _room, _pair_key).
import { isWord } from "./fields";
import { AT_BAD, AT_BAD_BYTES, FLAG_CARRIER, FLAG_FORBIDDEN, clearFlag, hasFlag, setFlag } from "./layout";

/** Bytes of the field's name that are kept; its beginning tells it. */
const NAME_BYTES_MAX: u32 = 24;
const PREFIX = "bootstrap_";

/** A member's name of the body: `isOwn` of its own object, else of one deeper down. Notes those that are forbidden. */
export function checkField(record: usize, ptr: usize, bytes: u32, isOwn: bool): void {
  if (isOwn) {
    if (isCarrier(ptr, bytes)) setFlag(record, FLAG_CARRIER);
    else clearFlag(record, FLAG_CARRIER);
  } else if (!hasFlag(record, FLAG_CARRIER)) return;
  if (isForbiddenField(ptr, bytes)) noteForbidden(record, ptr, bytes);
}

// Whether the member's value is handed on to where the engine looks for such fields.
function isCarrier(ptr: usize, bytes: u32): bool {
  return isWord(ptr, bytes, "vllm_xargs") || isWord(ptr, bytes, "sampling_params");
}

function isForbiddenField(ptr: usize, bytes: u32): bool {
  const first = bytes < 11 ? 0 : <u32>load<u8>(ptr);
  if (first == 0x6b) return isWord(ptr, bytes, "kv_transfer_params");
  if (first == 0x65) return isWord(ptr, bytes, "ec_transfer_params");
  return first == 0x62 && bytes <= 48 && isWord(ptr, <u32>PREFIX.length, PREFIX);
}

function noteForbidden(record: usize, ptr: usize, bytes: u32): void {
  if (hasFlag(record, FLAG_FORBIDDEN)) return;
  setFlag(record, FLAG_FORBIDDEN);
  const kept = min(bytes, NAME_BYTES_MAX);
  memory.copy(record + AT_BAD, ptr, kept);
  store<u8>(record, <u8>kept, AT_BAD_BYTES);
}

/** The first one's name, forbiddenBytes() long. */
export function forbiddenPtr(record: usize): usize {
  return record + AT_BAD;
}
/** 0 = there is none. */
export function forbiddenBytes(record: usize): u32 {
  return hasFlag(record, FLAG_FORBIDDEN) ? <u32>load<u8>(record, AT_BAD_BYTES) : 0;
}
