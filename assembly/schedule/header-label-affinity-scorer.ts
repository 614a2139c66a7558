// header-label-affinity-scorer: endpoints whose label equals a request header's value are preferred.
//
//   header sent and label = header → 1;  else 0
//
// Parameters: header = headerName, text = labelKey; both are required.
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/scorer/headerlabelaffinity @ ebab6879.
import { labelFind, labelValueLen, labelValuePtr } from "../pool/labels";
import { candidateCount, candidateRow, scoreAll, setScore } from "./candidates";
import { INSTANCE_AT_HEADER, INSTANCE_AT_TEXT, INSTANCE_AT_TEXT_BYTES } from "./plan";
import { requestHeaderLen, requestHeaderPtr } from "./request";

/** Scores all candidates. */
export function scoreHeaderLabelAffinity(instance: usize): void {
  const header = <u32>load<u8>(instance, INSTANCE_AT_HEADER);
  const bytes = requestHeaderLen(header);
  if (bytes == 0) return scoreAll(0);
  const value = requestHeaderPtr(header);
  const key = <usize>load<u32>(instance, INSTANCE_AT_TEXT);
  const keyBytes = load<u32>(instance, INSTANCE_AT_TEXT_BYTES);
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    const same =
      labelFind(candidateRow(i), key, keyBytes) &&
      labelValueLen() == bytes &&
      memory.compare(labelValuePtr(), value, bytes) == 0;
    setScore(i, same ? 1 : 0);
  }
}
