// Answer of /v1/models.
import { randomBytes } from "node:crypto";
import type { ReplicaConfig } from "./replica-types.ts";

/** What every entry says of its use; vLLM restricts none. */
function permission(created: number): object {
  return {
    id: `modelperm-${randomBytes(8).toString("hex")}`,
    object: "model_permission",
    created,
    allow_create_engine: false,
    allow_sampling: true,
    allow_logprobs: true,
    allow_search_indices: false,
    allow_view: true,
    allow_fine_tuning: false,
    organization: "*",
    group: null,
    is_blocking: false,
  };
}

/** The served model and its adapters. */
export function modelList({ modelName, loraModules, modelTokensMax }: ReplicaConfig): object {
  const created = Math.floor(Date.now() / 1000);
  const entry = (id: string, parent: string | null): object => ({
    id,
    object: "model",
    created,
    owned_by: "vllm",
    root: id,
    parent,
    max_model_len: parent === null ? modelTokensMax : null,
    permission: [permission(created)],
  });
  return {
    object: "list",
    data: [entry(modelName, null), ...loraModules.map((name) => entry(name, modelName))],
  };
}
