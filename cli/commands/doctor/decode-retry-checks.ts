// Whether a body with KV parameters could go out twice: Envoy adds a route's own retry conditions to the request's.
import { at, type Fields, list, text } from "../documents.ts";
import type { Observation } from "./collect.ts";
import { type Finding, warning } from "./finding.ts";
import { DISAGGREGATION, parameterOf, type RouteUse, splicingPickers } from "./gateway-view.ts";

/** What the filter writes for such a body, and for no other (V_RETRY_UNSENT in assembly/filter/names.ts). */
const UNSENT = "connect-failure";
const RETRY_ON = "x-envoy-retry-on";

/** Routes under `decodeRetry: connect-failure` that repeat a body which an endpoint may have read. */
export function decodeRetryFindings({ view }: Observation): Finding[] {
  const repeating = splicingPickers(view).filter(
    (plugin) => parameterOf(plugin, DISAGGREGATION, "decodeRetry") === UNSENT,
  );
  return repeating.flatMap(({ routes }) =>
    routes
      .filter((route, index) => !isHarmless(route) && !routes.slice(0, index).some(takesFrom(route)))
      .map(({ name, retryPolicy }) =>
        warning(
          "decode-retry",
          `route ${name} retries on ${String(retryPolicy!["retry_on"])} by itself: with decodeRetry ${UNSENT} a body with ` +
            "KV parameters may go out again after an endpoint read it",
          `Put a copy of the route in front that matches ${RETRY_ON} exactly ${UNSENT} and has no retry_on, as ` +
            "docs/DISAGGREGATION.md shows, or leave decodeRetry none.",
        ),
      ),
  );
}

/** It repeats nothing that was sent. */
function isHarmless({ retryPolicy }: RouteUse): boolean {
  const conditions = (text(retryPolicy?.["retry_on"]) ?? "").split(",").map((one) => one.trim());
  return conditions.every((one) => one === "" || one === UNSENT);
}

/** Whether an earlier route takes such bodies of this one, and repeats nothing. */
function takesFrom(route: RouteUse): (earlier: RouteUse) => boolean {
  return (earlier) => {
    if (earlier.virtualHost !== route.virtualHost || !isHarmless(earlier)) return false;
    const others = list(earlier.match["headers"]).filter((header) => !isUnsent(header));
    if (others.length === list(earlier.match["headers"]).length) return false;
    const { headers: _, ...path } = earlier.match;
    const match: Fields = others.length === 0 ? path : { ...path, headers: others };
    return isSame(match, { prefix: "/" }) || isSame(match, route.match);
  };
}

/** A matcher of the header that such bodies have, in today's form or the one before. */
function isUnsent(header: unknown): boolean {
  const value = at(header, "string_match", "exact") ?? at(header, "exact_match");
  const isOther = at(header, "invert_match") === true;
  return String(at(header, "name")).toLowerCase() === RETRY_ON && value === UNSENT && !isOther;
}

function isSame(left: Fields, right: Fields): boolean {
  const sorted = (match: Fields): string => JSON.stringify(Object.entries(match).sort());
  return sorted(left) === sorted(right);
}
