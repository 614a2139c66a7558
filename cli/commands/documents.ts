// Reads the YAML and JSON files that the commands are given, and writes the ones that they make.
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseAllDocuments } from "yaml";
import { FileExistsError, InputFileError } from "./errors.ts";

/** Largest file that is read. */
export const FILE_BYTES_MAX = 1_048_576;
/** Documents of one file; `helm template` of a large chart has some dozens. */
const DOCUMENTS_MAX = 512;

/** A mapping of a parsed document. */
export type Fields = Readonly<Record<string, unknown>>;

/** A file to be written, its name below the output folder. */
export interface OutputFile {
  readonly name: string;
  readonly text: string;
}

/**
 * All documents of a file; "-" is standard input. Empty documents are left out; the items of a Kubernetes List
 * stand for themselves.
 * @throws InputFileError
 */
export function readDocuments(path: string): unknown[] {
  const text = readInput(path);
  if (path.endsWith(".json")) checkJson(path, text);
  return parseDocuments(path, text);
}

// YAML allows more than JSON, such as comments and a last comma; who reads a .json file does not.
function checkJson(path: string, text: string): void {
  if (text.trim() === "") return;
  try {
    JSON.parse(text);
  } catch (error) {
    throw new InputFileError(path, `no valid JSON: ${(error as Error).message}`);
  }
}

/** @throws InputFileError */
export function parseDocuments(path: string, text: string): unknown[] {
  const parsed = parseAllDocuments(text);
  if ("empty" in parsed) return [];
  if (parsed.length > DOCUMENTS_MAX)
    throw new InputFileError(path, `${parsed.length} documents: expected at most ${DOCUMENTS_MAX}`);
  return parsed.flatMap((document) => {
    const [error] = document.errors;
    if (error !== undefined) throw new InputFileError(path, `no valid YAML: ${error.message.split("\n")[0]}`);
    let value: unknown;
    try {
      value = document.toJS({ maxAliasCount: 100 });
    } catch (failure) {
      throw new InputFileError(path, (failure as Error).message);
    }
    if (value === null) return [];
    const items = isFields(value) && value["kind"] === "List" ? value["items"] : undefined;
    return Array.isArray(items) ? (items as unknown[]) : [value];
  });
}

function readInput(path: string): string {
  try {
    if (path === "-") return readFileSync(0, "utf8");
    if (statSync(path).size > FILE_BYTES_MAX) throw new Error(`it has more than ${FILE_BYTES_MAX} bytes`);
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new InputFileError(path, (error as Error).message);
  }
}

/**
 * Writes all files or none. @returns their paths
 * @throws FileExistsError unless `force`
 */
export function writeFiles(folder: string, files: readonly OutputFile[], force: boolean): string[] {
  const paths = files.map(({ name }) => join(folder, name));
  const existing = force ? undefined : paths.find((path) => existsSync(path));
  if (existing !== undefined) throw new FileExistsError(existing);
  files.forEach(({ text }, index) => {
    mkdirSync(dirname(paths[index]!), { recursive: true });
    writeFileSync(paths[index]!, text);
  });
  return paths;
}

export function isFields(value: unknown): value is Fields {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/** The value at a path of member names; undefined where there is none. */
export function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (below, name) =>
      below !== null && typeof below === "object" ? (below as Record<string, unknown>)[name] : undefined,
    value,
  );
}

/** The elements of a list; none for anything else. */
export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Every member of a mapping as a text, such as labels. */
export function texts(value: Fields): Record<string, string> {
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, String(member)]));
}

/** A text, or undefined. */
export function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
