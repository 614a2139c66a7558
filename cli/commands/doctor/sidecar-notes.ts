// What doctor tells of several sidecars on one gateway.
import { at, list, text } from "../documents.ts";
import type { Observation } from "./collect.ts";

/** A sentence for each pool that more than one sidecar wants to bring. */
export function sidecarNotes({ status }: Observation): string[] {
  if (status === null || "failure" in status) return [];
  return list(at(status.value, "pools")).flatMap((pool) => {
    const [holder, other] = [text(at(pool, "sidecar")), text(at(pool, "standbySidecar"))];
    if (holder === undefined || other === undefined) return [];
    return [`sidecar ${holder} brings pool ${String(at(pool, "name"))}, and ${other} stands by`];
  });
}
