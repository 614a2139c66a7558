// Turns zod's findings into lines of "field: value: expectation".
import { z } from "zod";

/** Longest quotation of an offending value, characters. */
const QUOTED_MAX = 80;

/** An object that has no other fields than these; one too many is answered with their names. */
export function fields<T extends z.core.$ZodLooseShape>(shape: T): z.ZodObject<T, z.core.$strict> {
  const names = Object.keys(shape).join(", ");
  return z.strictObject(shape, {
    error: ({ code }) => (code === "unrecognized_keys" ? `expected one of ${names}` : undefined),
  });
}

/** One line an issue: the path of the field, its value, what is expected. */
export function issueLines(error: z.ZodError, input: unknown, prefix = ""): string[] {
  return flatten(error.issues, []).map(({ issue, path }) => {
    const field = `${prefix}${pathText(path)}`.replace(/\.$/, "") || "document";
    if (issue.code === "unrecognized_keys")
      return `${field}: unknown field ${issue.keys.map(quote).join(", ")}: ${issue.message}`;
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
    if (issue.message !== "Invalid input") return [{ issue, path }];
    // An alternative of another type than the value's was not meant, if there is one of its type.
    const sameType = issue.errors.filter((list) => list[0]!.code !== "invalid_type");
    const meant = sameType.length > 0 ? sameType : issue.errors;
    const expected = meant.map((list) => expectation(list[0]!)).join(", or ");
    return [{ issue: { ...issue, message: expected }, path }];
  });
}

/** What a value of a type is called in YAML's own words. */
const TYPE_NAMES: Readonly<Record<string, string>> = {
  object: "a mapping",
  record: "a mapping",
  array: "a list",
  string: "a text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
};

/** What was expected: the schema's own words, or ours in the place of zod's. */
function expectation(issue: z.core.$ZodIssue): string {
  if (issue.message.startsWith("expected ")) return issue.message;
  switch (issue.code) {
    case "invalid_type":
      return `expected ${TYPE_NAMES[issue.expected] ?? issue.expected}`;
    case "invalid_value":
      return `expected ${issue.values.map(quote).join(" or ")}`;
    case "too_small":
      return `expected at least ${issue.minimum}${unitOf(issue.origin)}`;
    case "too_big":
      return `expected at most ${issue.maximum}${unitOf(issue.origin)}`;
    default:
      return issue.message;
  }
}

function unitOf(origin: string): string {
  return origin === "array" ? " entries" : origin === "string" ? " characters" : "";
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
