// decode-filter, prefill-filter, encode-filter: keep the endpoints that play a role.
//
// The roles of an endpoint are bits that the snapshot carries, made from its label llm-d.ai/role:
//   decode: decode, prefill-decode, both, encode-prefill-decode, no label
//   prefill: prefill, prefill-decode, both, encode-prefill, encode-prefill-decode
//   encode: encode, encode-prefill, encode-prefill-decode
//
// Parameters: mode = the ROLE_* bit (wire/snapshot.ts).
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/filter/bylabel/roles.go @ ebab6879.
import { COLUMN_ROLES, rowU32 } from "../pool/rows";
import { candidateCount, candidateRow, candidateSet, candidatesKeep } from "./candidates";
import { INSTANCE_AT_MODE } from "./plan";

/** Keeps the candidates that have the instance's role. */
export function filterRole(instance: usize): void {
  const role = <u32>load<u8>(instance, INSTANCE_AT_MODE);
  let kept: u32 = 0;
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    const row = candidateRow(i);
    if ((rowU32(COLUMN_ROLES, row) & role) != 0) candidateSet(kept++, row);
  }
  candidatesKeep(kept);
}
