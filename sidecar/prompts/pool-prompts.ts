// Joins what a pool knows of its endpoints with the looks at their chat templates.
import type { Credentials } from "../config/credentials.ts";
import type { EndpointMonitor } from "../endpoint-monitor.ts";
import type { KvEventsMonitor } from "../kv-events/monitor.ts";
import type { Logger } from "../log.ts";
import type { Ticker } from "../scrape/ticker.ts";
import type { SlotTable } from "../slot-table.ts";
import { PromptMonitor } from "./monitor.ts";
import { HttpRenderer } from "./render-server.ts";
import type { PromptReplica } from "./replica-prompts.ts";

/** What a pool lends its prompts. */
export interface PoolParts {
  readonly checkMs: number;
  readonly kvEvents: KvEventsMonitor;
  readonly credentials: () => Credentials;
  readonly ticker: Ticker;
  readonly random: () => number;
  readonly log: Logger;
  /** What the gateway is to hold is another one. */
  readonly changed: () => void;
}

/** Asks the endpoints' own API, and reads tokens by the table that their KV events are read by. */
export function makePrompts({ kvEvents, credentials, ticker, ...rest }: PoolParts): PromptMonitor {
  return new PromptMonitor({
    ...rest,
    rendererOf: (address, model) =>
      new HttpRenderer(address, model, credentials, (tokens) => kvEvents.textOf(address, tokens)),
    now: () => ticker.now(),
    wallNow: Date.now,
  });
}

/** Tells which endpoints answer now, with what; one that does not keeps what is known of it. */
export function updatePrompts(
  prompts: PromptMonitor,
  monitors: ReadonlyMap<string, EndpointMonitor>,
  slots: SlotTable,
): void {
  const replicas: PromptReplica[] = [];
  for (const [address, { usable, models, adapters }] of monitors) {
    const slot = slots.get(address);
    if (!usable || models.length === 0 || slot === undefined) continue;
    replicas.push({ address, generation: slot.generation, models, adapters });
  }
  prompts.update(replicas, (address) => monitors.has(address));
}
