// Reads the list of models a server offers (/v1/models of the OpenAI API): base models and LoRA adapters.
import { MODELS_MAX } from "../../assembly/wire/limits.ts";
import { ModelsListError } from "../errors.ts";
import { MODEL_NAME_BYTES_MAX } from "../limits.ts";

/** What a server offers. */
export interface ServedModels {
  /** Base models first, then adapters, in the server's order. */
  readonly names: readonly string[];
  /** Adapter → its base model. */
  readonly adapters: ReadonlyMap<string, string>;
  /** Names left out: too long, or more than MODELS_MAX. */
  readonly dropped: number;
}

/**
 * Parses `{"data": [{"id", "parent"?}, …]}`; vLLM gives an adapter its base model as `parent`.
 * @throws ModelsListError when it is something else
 */
export function parseModels(page: Buffer): ServedModels {
  let document: unknown;
  try {
    document = JSON.parse(page.toString("utf8"));
  } catch (error) {
    throw new ModelsListError(`model list is not JSON: ${(error as Error).message}`);
  }
  const data = (document as { data?: unknown } | null)?.data;
  if (!Array.isArray(data)) throw new ModelsListError("model list has no array `data`");
  const bases = new Set<string>();
  const adapters = new Map<string, string>();
  let dropped = 0;
  for (const entry of data as unknown[]) {
    const { id, parent } = (entry ?? {}) as { id?: unknown; parent?: unknown };
    if (typeof id !== "string" || id === "" || Buffer.byteLength(id) > MODEL_NAME_BYTES_MAX) {
      dropped += 1;
    } else if (typeof parent === "string" && parent !== "") {
      adapters.set(id, parent);
    } else {
      bases.add(id);
    }
  }
  for (const name of bases) adapters.delete(name);
  const names = [...bases, ...adapters.keys()];
  dropped += Math.max(0, names.length - MODELS_MAX);
  return { names: names.slice(0, MODELS_MAX), adapters, dropped };
}
