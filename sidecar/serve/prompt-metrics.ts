// Metrics and faults of what the sidecar knows of chat templates.
import { transitionName } from "../prompts/program.ts";
import { PROMPT_REASONS } from "../prompts/reasons.ts";
import type { Pool } from "../pool.ts";
import type { Pusher } from "../push/pusher.ts";
import type { Add } from "./metric-adder.ts";

interface Source {
  readonly pools: readonly Pool[];
  readonly pushers: readonly Pusher[];
}

/** Adds the `epp_sidecar_prompt_*` metrics; pools that follow no KV events have none. */
export function addPromptMetrics(add: Add, { pools, pushers }: Source): void {
  add(
    "gauge",
    "epp_sidecar_prompt_program",
    "1 = whether the gateway renders a model's conversations as its engines do, and if not, why.",
    ["pool", "model", "state", "reason"],
    () =>
      pools.flatMap(({ name: pool, prompts }) =>
        (prompts?.models ?? []).map(({ name: model, reason }) => {
          const state = reason === null ? "exact" : "unknown";
          return [{ pool, model, state, reason: reason ?? "" }, 1] as const;
        }),
      ),
  );
  add(
    "gauge",
    "epp_sidecar_prompt_literals_unknown",
    "1 = a text of a base model's template that is not known: prompts with it are not rendered.",
    ["pool", "model", "literal", "reason"],
    () =>
      pools.flatMap(({ name: pool, prompts }) =>
        (prompts?.models ?? [])
          .filter(({ isAdapter }) => !isAdapter)
          .flatMap(({ name: model, unknown }) =>
            [...unknown].map(
              ([index, reason]) => [{ pool, model, literal: transitionName(index), reason }, 1] as const,
            ),
          ),
      ),
  );
  add(
    "counter",
    "epp_sidecar_prompt_probes_total",
    "Looks at replicas' templates, by what came of it.",
    ["pool", "result"],
    () =>
      pools.flatMap(({ name: pool, prompts }) =>
        Object.entries(prompts?.counts ?? {}).map(([result, count]) => [{ pool, result }, count] as const),
      ),
  );
  add(
    "counter",
    "epp_sidecar_prompt_pushes_total",
    "Prompt programs sent, by outcome.",
    ["pool", "result"],
    () =>
      pushers
        .filter(({ pool }) => pool.prompts !== null)
        .flatMap(({ pool, prompts: { counts } }) =>
          (["accepted", "refused", "failed"] as const).map(
            (result) => [{ pool: pool.name, result }, counts[result]] as const,
          ),
        ),
  );
}

/** One sentence if some models' conversations are not rendered: how many, and why, as "dated (1)". */
export function promptFaults({ name, prompts }: Pool): string[] {
  const models = prompts?.models ?? [];
  const reasons = PROMPT_REASONS.map(
    (reason) => [reason, models.filter((model) => model.reason === reason).length] as const,
  ).filter(([, count]) => count > 0);
  if (reasons.length === 0) return [];
  const total = reasons.reduce((sum, [, count]) => sum + count, 0);
  const why = reasons.map(([reason, count]) => `${reason} (${count})`).join(", ");
  return [`pool ${name}: the conversations of ${total} of ${models.length} models are not rendered: ${why}`];
}
