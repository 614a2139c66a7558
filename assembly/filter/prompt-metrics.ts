// Counts which prompts were rendered for the exact index, and why others were not.
import { METRIC_COUNTER } from "../abi/constants";
import { incrementMetric } from "../abi/host";
import {
  RENDER_API,
  RENDER_CHANGED,
  RENDER_CONTENT,
  RENDER_FIELD,
  RENDER_MEMBER,
  RENDER_MODEL,
  RENDER_ORDER,
  RENDER_REASONS,
  RENDER_ROLE,
  RENDER_SALT,
  RENDER_SEVERAL,
  RENDER_THINKING,
  RENDER_TOKEN_IDS,
  RENDER_UNREAD,
  RENDER_WHITE_SPACE,
} from "../prompt/render-layout";
import { ascii } from "../text/text";
import { COUNT_PROMPTS_NOT_RENDERED, COUNT_PROMPTS_RENDERED, countUp } from "./counters";
import { POOL_PLACES, define, perPool } from "./metrics";

// By RENDER_*; the place of 0 is that of rendered prompts, which have a metric of their own.
const reasons: usize = memory.data(15 * 4, 4);
if (RENDER_REASONS != 15) unreachable();
function name(reason: u32, literal: string): void {
  store<u32>(reasons + ((<usize>reason) << 2), <u32>ascii(literal));
}
name(RENDER_API, "api");
name(RENDER_MODEL, "model");
name(RENDER_ROLE, "role");
name(RENDER_ORDER, "order");
name(RENDER_MEMBER, "member");
name(RENDER_CONTENT, "content");
name(RENDER_THINKING, "thinking");
name(RENDER_WHITE_SPACE, "white-space");
name(RENDER_FIELD, "field");
name(RENDER_SALT, "salt");
name(RENDER_SEVERAL, "several");
name(RENDER_TOKEN_IDS, "token-ids");
name(RENDER_CHANGED, "changed");
name(RENDER_UNREAD, "unread");

const renderedIds: usize = memory.data(17 * 4, 4);
const notRenderedIds: usize = memory.data(17 * 15 * 4, 4);

/** Counts a prompt of a pool with prompt programs; `reason`: RENDER_*, 0 = it was rendered. */
export function meterRendered(pool: u32, reason: u32): void {
  const place = min(pool, POOL_PLACES - 1);
  if (reason == 0) {
    countUp(COUNT_PROMPTS_RENDERED);
    incrementMetric(perPool(renderedIds, METRIC_COUNTER, "epp_prompts_rendered_total", place), 1);
    return;
  }
  countUp(COUNT_PROMPTS_NOT_RENDERED);
  const at = notRenderedIds + ((<usize>(place * RENDER_REASONS + reason)) << 2);
  if (load<u32>(at) == 0) {
    const label = load<u32>(reasons + ((<usize>reason) << 2));
    store<u32>(at, define(METRIC_COUNTER, "epp_prompts_not_rendered_total", place, "reason", label) + 1);
  }
  incrementMetric(load<u32>(at) - 1, 1);
}
