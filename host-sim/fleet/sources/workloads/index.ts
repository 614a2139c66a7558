// The built-in workloads.
import { CHATS } from "./chats.ts";
import { RAG, RAG_SHUFFLED } from "./rag.ts";
import type { Generator } from "./workload.ts";

export const GENERATORS: readonly Generator[] = [CHATS, RAG, RAG_SHUFFLED];
