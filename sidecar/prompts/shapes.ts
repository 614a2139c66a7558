// Which conversations are tried, by their roles, and which literal is given up first where a template contradicts itself.
import { type Role, transition, transitionsOf } from "./program.ts";

const ROLE_OF: Readonly<Record<string, Role>> = { s: "system", u: "user", a: "assistant" };

/** Roles of a conversation from their first letters, as "sua". */
export function rolesOf(letters: string): readonly Role[] {
  return [...letters].map((letter) => ROLE_OF[letter]!);
}

/**
 * Tried in this order: what most requests are made of first, so that a literal is what it is there. Each transition
 * comes in a shape whose others come before it, and again in a longer one, for templates that count.
 */
export const SHAPES: readonly (readonly Role[])[] = [
  ...["u", "uau", "uauau", "uauauauau", "su", "suau", "suauau", "ua", "uaua", "sua", "au", "auau", "a"],
  ...["uu", "uuuu", "uauu", "suu", "uaa", "uaau", "ss", "ssu", "sssu", "s", "sa", "sau", "us", "usu", "uasu"],
  ...["suasu", "uas", "uausua"],
].map(rolesOf);

/** The simplest conversations: a template that renders none of them renders no chat. */
export const SIMPLEST: readonly (readonly Role[])[] = ["u", "su"].map(rolesOf);

/** Transitions, those that are given up last first. */
const BY_WORTH: readonly number[] = [
  transition(null, "user"),
  transition("user", null),
  transition("user", "assistant"),
  transition("assistant", "user"),
  transition(null, "system"),
  transition("system", "user"),
  transition("assistant", null),
  transition("user", "user"),
  transition(null, "assistant"),
  transition("assistant", "assistant"),
  transition("system", "system"),
  transition("system", "assistant"),
  transition("system", null),
  transition("user", "system"),
  transition("assistant", "system"),
  transition(null, null),
];

/** Of a conversation's transitions the one that is given up where the conversation does not come out as expected. */
export function leastWorth(roles: readonly Role[]): number {
  return BY_WORTH.findLast((index) => transitionsOf(roles).includes(index))!;
}
