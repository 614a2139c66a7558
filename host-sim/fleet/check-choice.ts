// Checks what a gateway chose before anything is done about it.
import { ChoiceError } from "./errors.ts";
import type { Choice, FleetRequest, Gateway, ReplicaSpec } from "./types.ts";

/** Prefill legs of one request: a gateway that goes on after so many failed ones would never end. */
export const PREFILL_LEGS_MAX = 8;

/** A choice, and who made it for which request. */
export interface MadeChoice {
  readonly policy: string;
  readonly gateway: Gateway;
  readonly request: FleetRequest;
  readonly choice: Choice;
  /** Prefill legs that the request has had. */
  readonly legs: number;
}

/** @throws ChoiceError naming the field, its value and what was expected */
export function checkChoice(made: MadeChoice, replicas: readonly ReplicaSpec[]): void {
  const { choice } = made;
  checkIndex(made, replicas, "endpoint", choice.endpoint, -1);
  checkRole(made, replicas, "endpoint", choice.endpoint, "prefill");
  for (const [i, fallback] of (choice.fallbacks ?? []).entries()) {
    checkIndex(made, replicas, `fallbacks[${i}]`, fallback, 0);
    checkRole(made, replicas, `fallbacks[${i}]`, fallback, "prefill");
  }
  if (choice.prefill !== undefined) checkPrefill(made, replicas, choice.prefill);
}

function checkPrefill(made: MadeChoice, replicas: readonly ReplicaSpec[], prefill: number): void {
  const { choice, gateway, legs } = made;
  checkIndex(made, replicas, "prefill", prefill, 0);
  checkRole(made, replicas, "prefill", prefill, "decode");
  if (prefill === choice.endpoint) refuse(made, "prefill", prefill, "another replica than the answering one");
  if (legs >= PREFILL_LEGS_MAX)
    refuse(made, "prefill", prefill, `none after ${PREFILL_LEGS_MAX} prefill legs`);
  if (choice.prefillBy === "gateway") {
    if (gateway.prefillEnded === undefined) {
      refuse(made, "prefillBy", "gateway", '"decoder", as the gateway has no prefillEnded');
    }
  } else if (choice.endpoint < 0) {
    refuse(made, "endpoint", choice.endpoint, "a replica, whose sidecar sends the prefill leg");
  }
}

function checkIndex(
  made: MadeChoice,
  replicas: readonly ReplicaSpec[],
  field: string,
  value: number,
  from: number,
): void {
  if (Number.isInteger(value) && value >= from && value < replicas.length) return;
  refuse(made, field, value, `a whole number from ${from} to ${replicas.length - 1}`);
}

// A replica of one role does not do the other role's part; decoders do compute prompts of their own.
function checkRole(
  made: MadeChoice,
  replicas: readonly ReplicaSpec[],
  field: string,
  replica: number,
  unfit: "prefill" | "decode",
): void {
  if (replica < 0 || replicas[replica]!.role !== unfit) return;
  refuse(made, field, replica, `none of role ${unfit}`);
}

function refuse({ policy, request }: MadeChoice, field: string, value: unknown, expected: string): never {
  throw new ChoiceError(policy, request.index, field, value, expected);
}
