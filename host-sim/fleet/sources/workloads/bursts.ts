// Chats whose users come in waves.
import type { Random } from "../../../workload/random.ts";
import type { Stretch } from "../arrivals.ts";
import { chats } from "./chats.ts";
import type { Generator } from "./workload.ts";

/** Times as many arrivals in a burst as between bursts. */
export const BURST_INTENSITY = 10;
const BURSTS = 8;

/** Bursts of random length with random pauses, about one part of burst to five of pause. */
function bursts(random: Random): Stretch[] {
  return Array.from({ length: BURSTS }, () => [
    { length: 0.5 + random.exponential(4.5), intensity: 1 },
    { length: 0.25 + random.exponential(0.75), intensity: BURST_INTENSITY },
  ]).flat();
}

export const BURSTS_OF_CHATS: Generator = {
  name: "bursts",
  summary: "Chats that arrive in bursts of ten times the rate in between: queues build up and drain.",
  requests: 10_000,
  ratePerSecond: 75,
  warmUpMs: 300_000,
  profile: bursts,
  source: chats,
};
