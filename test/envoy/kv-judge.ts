// Holds what the picker predicted against what the engine then found in its cache.
import type { Bootstrap } from "../../cli/envoy-config.ts";
import type { Reply } from "./clients.ts";
import { inference } from "./support.ts";

/** The picker's decision on a request, shown as a response header. */
const DECISION = "x-decision";

/** One request. */
export interface Judgement {
  /** Which requests it belongs to, for messages. */
  readonly scenario: string;
  readonly endpoint: string;
  /** The index that the prediction came from. */
  readonly index: string;
  readonly predicted: number;
  /** By the engine's own count, `usage.prompt_tokens_details.cached_tokens`. */
  readonly cached: number;
  readonly prompt: number;
}

/** Has every response say what the filter decided. */
export function showDecision(bootstrap: Bootstrap): void {
  for (const host of inference(bootstrap).route_config.virtual_hosts) {
    Object.assign(host, {
      response_headers_to_add: [
        { header: { key: DECISION, value: "%FILTER_STATE(wasm.epp_decision:PLAIN)%" } },
      ],
    });
  }
}

/** Reads a whole answer and its decision. @throws if the answer is none, or says nothing of either */
export function judge(scenario: string, reply: Reply): Judgement {
  const decision = String(reply.headers[DECISION]);
  const field = (name: string): string | undefined => new RegExp(`\\b${name}=(\\S+)`).exec(decision)?.[1];
  const [endpoint, index, matched] = ["endpoint", "index", "matched_tokens"].map(field);
  if (reply.status !== 200 || endpoint === undefined || index === undefined || matched === undefined) {
    throw new Error(
      `${scenario}: status ${reply.status}, decision "${decision}": ${reply.text.slice(0, 400)}`,
    );
  }
  const { usage } = JSON.parse(reply.text) as {
    usage: { prompt_tokens: number; prompt_tokens_details: { cached_tokens: number } };
  };
  return {
    scenario,
    endpoint,
    index,
    predicted: Number(matched),
    cached: usage.prompt_tokens_details.cached_tokens,
    prompt: usage.prompt_tokens,
  };
}

/** What came of many requests. */
export interface Verdict {
  /** Requests of which a block was cached or was predicted to be. */
  readonly warm: number;
  /** Share of those, 0 to 1, whose prediction came from the exact index and is within one block. */
  readonly share: number;
  /** Those that are not, in words. */
  readonly wrong: readonly string[];
}

/** Judges predictions of engines with blocks of so many tokens. */
export function verdictOf(judgements: readonly Judgement[], blockTokens: number): Verdict {
  const warm = judgements.filter(({ cached, predicted }) => cached > 0 || predicted >= blockTokens);
  const wrong = warm.filter(
    ({ cached, predicted, index }) => index !== "exact" || Math.abs(cached - predicted) > blockTokens,
  );
  return {
    warm: warm.length,
    share: warm.length === 0 ? 0 : 1 - wrong.length / warm.length,
    wrong: wrong.map(
      ({ scenario, endpoint, index, predicted, cached, prompt }) =>
        `${scenario}: ${endpoint} ${index} predicted ${predicted}, cached ${cached} of ${prompt}`,
    ),
  };
}
