// lora-affinity-scorer: endpoints that have the adapter loaded, or room for it, score higher.
//
//   adapter active → 1;  active + waiting adapters < max LoRA → 0.8;  adapter waiting → 0.6;  else 0
//
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/scorer/loraaffinity @ ebab6879. No parameters.
import {
  COLUMN_LORA_ACTIVE_COUNT,
  COLUMN_LORA_MAX,
  COLUMN_LORA_WAITING_COUNT,
  loraActiveHashes,
  loraWaitingHashes,
  rowF64,
  rowU32,
} from "../pool/rows";
import { LORAS_MAX } from "../wire/limits";
import { candidateCount, candidateRow, setScore } from "./candidates";
import { requestAdapterHash } from "./request";

/** Scores all candidates. */
export function scoreLoraAffinity(): void {
  const adapter = requestAdapterHash();
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    setScore(i, loraScore(candidateRow(i), adapter));
  }
}

function loraScore(row: u32, adapter: u64): f64 {
  const active = rowU32(COLUMN_LORA_ACTIVE_COUNT, row);
  const waiting = rowU32(COLUMN_LORA_WAITING_COUNT, row);
  if (listHas(loraActiveHashes(row), active, adapter)) return 1;
  if (<f64>(active + waiting) < rowF64(COLUMN_LORA_MAX, row)) return 0.8;
  return listHas(loraWaitingHashes(row), waiting, adapter) ? 0.6 : 0;
}

function listHas(hashes: usize, count: u32, hash: u64): bool {
  for (let i: u32 = 0, end = min<u32>(count, LORAS_MAX); i < end; i++) {
    if (load<u64>(hashes + ((<usize>i) << 3)) == hash) return true;
  }
  return false;
}
