// The policies that ours is compared with.
import type { Policy } from "../types.ts";
import { CHWBL } from "./chwbl.ts";
import { LEAST_REQUEST } from "./least-request.ts";
import { POWER_OF_TWO } from "./power-of-two.ts";
import { RANDOM } from "./random.ts";
import { ROUND_ROBIN } from "./round-robin.ts";

/** All of them, the simple ones first. */
export const POLICIES: readonly Policy[] = [RANDOM, ROUND_ROBIN, LEAST_REQUEST, POWER_OF_TWO, CHWBL];
