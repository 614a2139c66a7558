// Answer of /v1/models.
import type { ReplicaConfig } from "./replica-types.ts";

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
    permission: [],
  });
  return {
    object: "list",
    data: [entry(modelName, null), ...loraModules.map((name) => entry(name, modelName))],
  };
}
