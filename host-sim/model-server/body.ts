// Typed access to JSON request bodies, with vLLM's answers to what does not fit.
import { type ApiError, validationError } from "./errors.ts";

/** A parsed JSON object. Unknown fields pass, of duplicate keys the last wins: both as in vLLM. */
export type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Parses a request body into an object.
 * @throws ApiError 400 for an empty body, invalid JSON (with its position) and anything but an object.
 */
export function parseBody(text: string): JsonObject {
  if (text === "") throw validationError("missing", "body", "Field required", "None");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalidJson(text, error as SyntaxError);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    const message = "Input should be a valid dictionary or object to extract fields from";
    throw validationError("model_attributes_type", "body", message, describe(value));
  }
  return value as JsonObject;
}

function invalidJson(text: string, error: SyntaxError): ApiError {
  const position = /position (\d+)/.exec(error.message)?.[1] ?? String(text.length);
  const context = "Expecting value";
  return validationError(
    "json_invalid",
    `body.${position}`,
    "JSON decode error",
    "<dict of 0 items>",
    context,
  );
}

/** Python's view of a value, as validation messages show it. */
function describe(value: unknown): string {
  if (Array.isArray(value)) return `<list of ${value.length} items>`;
  if (value === null || value === undefined) return "None";
  if (typeof value === "object") return `<dict of ${Object.keys(value).length} items>`;
  return String(value);
}

/** The field as an array; absent is an error. */
export function requireList(body: JsonObject, name: string): readonly unknown[] {
  const value = body[name];
  if (value === undefined) throw validationError("missing", `body.${name}`, "Field required", describe(body));
  if (!Array.isArray(value)) {
    throw validationError("list_type", `body.${name}`, "Input should be a valid list", describe(value));
  }
  return value;
}

/** The field as text, undefined if absent or null. */
export function optionalText(body: JsonObject, name: string): string | undefined {
  const value = body[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string") {
    throw validationError("string_type", `body.${name}`, "Input should be a valid string", describe(value));
  }
  return value;
}

/** The field as an integer, undefined if absent or null. Numeric text is accepted, as pydantic does. */
export function optionalInteger(body: JsonObject, name: string): number | undefined {
  const value = body[name];
  if (value === undefined || value === null) return undefined;
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (typeof number !== "number" || !Number.isInteger(number)) {
    const message = "Input should be a valid integer, unable to parse string as an integer";
    throw validationError("int_parsing", `body.${name}`, message, describe(value));
  }
  return number;
}

const TRUE_WORDS = new Set<unknown>([true, 1, "true", "yes", "on", "1", "t", "y"]);
const FALSE_WORDS = new Set<unknown>([false, 0, "false", "no", "off", "0", "f", "n"]);

/** The field as a boolean, false if absent or null; the words that pydantic accepts count. */
export function optionalFlag(body: JsonObject, name: string): boolean {
  const value = body[name];
  if (value === undefined || value === null) return false;
  const word = typeof value === "string" ? value.toLowerCase() : value;
  if (TRUE_WORDS.has(word)) return true;
  if (FALSE_WORDS.has(word)) return false;
  const message = "Input should be a valid boolean, unable to interpret input";
  throw validationError("bool_parsing", `body.${name}`, message, describe(value));
}

/** The field as an object, undefined if absent or null. */
export function optionalObject(body: JsonObject, name: string): JsonObject | undefined {
  const value = body[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "object" || Array.isArray(value)) {
    throw validationError("dict_type", `body.${name}`, "Input should be a valid dictionary", describe(value));
  }
  return value as JsonObject;
}
