// The policies that ours is compared with.
import type { Policy } from "../types.ts";
import { CHWBL } from "./chwbl.ts";
import { DYNAMO, DYNAMO_EVENTS } from "./dynamo.ts";
import { LEAST_REQUEST } from "./least-request.ts";
import { LLM_D_PD } from "./llm-d-pd.ts";
import { LLM_D } from "./llm-d.ts";
import { LMETRIC } from "./lmetric.ts";
import { MOONCAKE } from "./mooncake.ts";
import { ORACLE } from "./oracle.ts";
import { POWER_OF_TWO } from "./power-of-two.ts";
import { PREBLE } from "./preble.ts";
import { PRICED_PD } from "./priced-pd.ts";
import { RANDOM } from "./random.ts";
import { ROUND_ROBIN } from "./round-robin.ts";
import { SGLANG } from "./sglang.ts";

/** All of them: by load alone, by prefix and load, on true caches. */
export const POLICIES: readonly Policy[] = [
  RANDOM,
  ROUND_ROBIN,
  LEAST_REQUEST,
  POWER_OF_TWO,
  CHWBL,
  SGLANG,
  LLM_D,
  LMETRIC,
  DYNAMO,
  PREBLE,
  MOONCAKE,
  DYNAMO_EVENTS,
  ORACLE,
];

/** Those that compute prompts on other replicas than the answering one; on a fleet of one role they serve too. */
export const PD_POLICIES: readonly Policy[] = [LLM_D_PD, PRICED_PD];
