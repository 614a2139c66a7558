// Turns zod's findings into lines of "field: value: expectation".
import type { z } from "zod";

/** Longest quotation of an offending value, characters. */
const QUOTED_MAX = 80;

/** One line an issue: the path of the field, its value, what is expected. */
export function issueLines(error: z.ZodError, input: unknown, prefix = ""): string[] {
  return flatten(error.issues, []).map(({ issue, path }) => {
    const field = `${prefix}${pathText(path)}`.replace(/\.$/, "") || "document";
    if (issue.code === "unrecognized_keys")
      return `${field}: unknown field ${issue.keys.map(quote).join(", ")}`;
    const value = valueAt(input, path);
    if (value === undefined) return `${field}: is missing: ${expectation(issue)}`;
    return `${field}: ${quote(value)}: ${expectation(issue)}`;
  });
}

interface Located {
  readonly issue: z.core.$ZodIssue;
  readonly path: readonly PropertyKey[];
}

/**
 * A union reports one list of issues an alternative: the alternative that got furthest says what was meant.
 */
function flatten(issues: readonly z.core.$ZodIssue[], base: readonly PropertyKey[]): Located[] {
  return issues.flatMap((issue) => {
    const path = [...base, ...issue.path];
    if (issue.code !== "invalid_union" || issue.errors.length === 0) return [{ issue, path }];
    const depth = (list: readonly z.core.$ZodIssue[]): number =>
      Math.max(0, ...list.map((found) => found.path.length));
    const deepest = [...issue.errors].sort((a, b) => depth(b) - depth(a))[0]!;
    if (depth(deepest) > 0) return flatten(deepest, path);
    // An alternative of another type than the value's was not meant, if there is one of its type.
    const sameType = issue.errors.filter((list) => list[0]!.code !== "invalid_type");
    const meant = sameType.length > 0 ? sameType : issue.errors;
    const expected = meant.map((list) => expectation(list[0]!)).join(", or ");
    return [{ issue: { ...issue, message: expected }, path }];
  });
}

function expectation(issue: z.core.$ZodIssue): string {
  return issue.message.replace(/^Invalid input: /, "").replace(/, received undefined$/, "");
}

/** The path as one writes it: `pools[0].scrape.intervalMs`. */
export function pathText(path: readonly PropertyKey[]): string {
  let text = "";
  for (const part of path) {
    if (typeof part === "number") text += `[${part}]`;
    else text += text === "" ? String(part) : `.${String(part)}`;
  }
  return text;
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const part of path) {
    if (value === null || typeof value !== "object") return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}

function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > QUOTED_MAX ? `${text.slice(0, QUOTED_MAX)}…` : text;
}
