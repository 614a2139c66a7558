// Draws a workload: Poisson arrivals of chat turns, agent steps, questions about documents, and one-off
// prompts.
import { answerSeed, answerText } from "../model-server/answer.ts";
import { readChatCall } from "../model-server/calls.ts";
import { SIMULATED_MODEL } from "../model-server/text-model.ts";
import { Random } from "./random.ts";
import { AgentSource, ChatSource, DocumentSource, OneOffSource, type Turn } from "./sessions.ts";
import { type PlannedRequest, REQUEST_KINDS, type RequestKind, type WorkloadOptions } from "./types.ts";

/** Requests of one plan; more would be held in memory at once. */
export const PLANNED_REQUESTS_MAX = 100_000;

/** The options cannot give a workload. */
export class WorkloadOptionsError extends RangeError {
  readonly code = "bad_workload_options";
}

/** A mix in which most tokens are shared with an earlier request, as production traces have it. */
export function defaultWorkload(overrides: Partial<WorkloadOptions> = {}): WorkloadOptions {
  return {
    seed: 1,
    requests: 600,
    ratePerSecond: 26,
    model: "meta-llama/Llama-3.3-70B-Instruct",
    shares: { chat: 0.4, agent: 0.3, document: 0.2, "one-off": 0.1 },
    ...overrides,
  };
}

/**
 * The requests of a workload in order of arrival. Equal options give equal requests, byte for byte.
 *
 * Arrivals are one Poisson process; what arrives is drawn by share. A chat or agent arrival continues the
 * session that has waited longest since its user's think time (or its tool's run time) was over, or starts a
 * new one. A turn carries the whole conversation, the model's earlier answers included: those are known
 * beforehand because the simulated model decodes greedily, so no arrival has to wait for an answer.
 */
export function generateWorkload(options: WorkloadOptions): PlannedRequest[] {
  checkOptions(options);
  const random = new Random(options.seed);
  const sources = {
    chat: new ChatSource(random.fork()),
    agent: new AgentSource(random.fork()),
    document: new DocumentSource(random.fork()),
    "one-off": new OneOffSource(random.fork()),
  };
  const arrivals = random.fork();
  const planned: PlannedRequest[] = [];
  let atMs = 0;
  for (let index = 0; index < options.requests; index++) {
    atMs += arrivals.exponential(1000 / options.ratePerSecond);
    const kind = pickKind(arrivals, options.shares);
    planned.push(plan(sources[kind].next(atMs), { index, atMs, kind }, options.model));
  }
  return planned;
}

function plan(
  turn: Turn,
  place: Pick<PlannedRequest, "index" | "atMs" | "kind">,
  model: string,
): PlannedRequest {
  // The order of OpenAI's Python client: messages before model, what it does not know at the end.
  const body = {
    messages: turn.messages,
    model,
    max_tokens: turn.outputTokens,
    stream: true,
    stream_options: { include_usage: true },
    ...(turn.tools.length > 0 ? { tools: turn.tools } : {}),
    ignore_eos: true,
  };
  const prompt = readChatCall(body, SIMULATED_MODEL).prompts[0]!;
  const answer = answerText(answerSeed(prompt, 0), turn.outputTokens);
  turn.answered(answer);
  return {
    ...place,
    session: turn.session,
    turn: turn.number,
    path: "/v1/chat/completions",
    body: JSON.stringify(body),
    promptTokens: prompt.length,
    outputTokens: turn.outputTokens,
    answer,
  };
}

function pickKind(random: Random, shares: WorkloadOptions["shares"]): RequestKind {
  let left = random.uniform();
  for (const kind of REQUEST_KINDS) {
    left -= shares[kind];
    if (left < 0) return kind;
  }
  return "one-off";
}

function checkOptions({ requests, ratePerSecond, shares }: WorkloadOptions): void {
  if (!Number.isInteger(requests) || requests < 1 || requests > PLANNED_REQUESTS_MAX) {
    throw new WorkloadOptionsError(`requests is ${requests}, expected 1 to ${PLANNED_REQUESTS_MAX}`);
  }
  if (!(ratePerSecond > 0)) throw new WorkloadOptionsError(`ratePerSecond is ${ratePerSecond}, expected > 0`);
  const total = REQUEST_KINDS.reduce((sum, kind) => sum + shares[kind], 0);
  if (Math.abs(total - 1) > 1e-9) throw new WorkloadOptionsError(`shares add up to ${total}, expected 1`);
}
