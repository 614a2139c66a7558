// The built-in workloads.
import { AGENTS } from "./agents.ts";
import { BURSTS_OF_CHATS } from "./bursts.ts";
import { CHATS } from "./chats.ts";
import { FAILURES } from "./failures.ts";
import { HETEROGENEOUS } from "./heterogeneous.ts";
import { LONG } from "./long.ts";
import { LORA } from "./lora.ts";
import { MIXED } from "./mixed.ts";
import { MULTI_TENANT } from "./multi-tenant.ts";
import { RAG, RAG_SHUFFLED } from "./rag.ts";
import { DAYS, SHIFTS } from "./shifts.ts";
import { SHORT } from "./short.ts";
import { VIRAL } from "./viral.ts";
import type { Generator } from "./workload.ts";

export const GENERATORS: readonly Generator[] = [
  CHATS,
  AGENTS,
  RAG,
  RAG_SHUFFLED,
  MULTI_TENANT,
  SHORT,
  LONG,
  LORA,
  BURSTS_OF_CHATS,
  VIRAL,
  FAILURES,
  HETEROGENEOUS,
  MIXED,
  SHIFTS,
  DAYS,
];
