// `epp-wasm validate`: would Envoy load this configuration, and would the sidecar?
//
// The filter's half is judged by the filter (filter-check.ts), the sidecar's by the sidecar's own reader.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { loadSettings } from "../../sidecar/config/load.ts";
import { isPickerConfig, readPickerConfig } from "../../sidecar/config/picker-config.ts";
import { ConfigError, FileReadError } from "../../sidecar/errors.ts";
import { fleetFaults, fleetNotes } from "../fleet-config.ts";
import { at, type Fields, isFields, parseDocuments, readDocuments } from "./documents.ts";
import { InputFileError } from "./errors.ts";
import { FilterCheck } from "./filter-check.ts";

/** What a document is. */
export type DocumentKind = "EndpointPickerConfig" | "sidecar" | "fleet" | "unknown";

/** The judgement of one document. */
export interface Validation {
  /** File, and the entry of a ConfigMap or the number of a document where it has several. */
  readonly source: string;
  readonly kind: DocumentKind;
  /** "path: value — expectation"; empty = it will be taken. */
  readonly errors: readonly string[];
  /** What will be taken and have no effect. */
  readonly notes: readonly string[];
}

const UNKNOWN =
  "document: expected an EndpointPickerConfig (kind), a sidecar's configuration (pools), a fleet file " +
  "(endpoints), or a ConfigMap that holds one";

/** Judges every document of a file. @throws InputFileError, WasmMissingError */
export async function validateFile(path: string): Promise<Validation[]> {
  const documents = readDocuments(path);
  if (documents.length === 0) throw new InputFileError(path, "it is empty");
  const check = new FilterCheck();
  try {
    const results: Validation[] = [];
    for (const [index, document] of documents.entries()) {
      const source = documents.length === 1 ? path : `${path} (document ${index + 1})`;
      results.push(...(await validateDocument(document, source, check)));
    }
    return results;
  } finally {
    check.close();
  }
}

/** Judges one parsed document; a ConfigMap's entries each for themselves. */
export async function validateDocument(
  document: unknown,
  source: string,
  check: FilterCheck,
): Promise<Validation[]> {
  if (isFields(document) && document["kind"] === "ConfigMap") return validateEntries(document, source, check);
  switch (kindOf(document)) {
    case "EndpointPickerConfig":
      return [{ source, kind: "EndpointPickerConfig", ...(await validatePicker(document, source, check)) }];
    case "sidecar":
      return [{ source, kind: "sidecar", ...validateSidecar(document as Fields) }];
    case "fleet":
      return [{ source, kind: "fleet", ...(await validateFleet(document as Fields, check)) }];
    default:
      return [{ source, kind: "unknown", errors: [UNKNOWN], notes: [] }];
  }
}

/** What a parsed document is taken for. */
export function kindOf(document: unknown): DocumentKind {
  if (!isFields(document)) return "unknown";
  if (isPickerConfig(document) || "plugins" in document || "schedulingProfiles" in document)
    return "EndpointPickerConfig";
  if ("pools" in document || "control" in document) return "sidecar";
  return "endpoints" in document ? "fleet" : "unknown";
}

async function validateEntries(map: Fields, source: string, check: FilterCheck): Promise<Validation[]> {
  const entries = Object.entries(isFields(map["data"]) ? map["data"] : {});
  const results: Validation[] = [];
  for (const [name, value] of entries) {
    const where = `${source} data[${JSON.stringify(name)}]`;
    if (typeof value !== "string") continue;
    let documents: unknown[];
    try {
      documents = parseDocuments(where, value);
    } catch (error) {
      if (/\.(ya?ml|json)$/.test(name))
        results.push({ source: where, kind: "unknown", errors: [(error as Error).message], notes: [] });
      continue;
    }
    for (const document of documents) {
      if (kindOf(document) !== "unknown") results.push(...(await validateDocument(document, where, check)));
    }
  }
  return results.length > 0 ? results : [{ source, kind: "unknown", errors: [UNKNOWN], notes: [] }];
}

type Judgement = Pick<Validation, "errors" | "notes">;

async function validatePicker(document: unknown, source: string, check: FilterCheck): Promise<Judgement> {
  const filter = await check.document(document);
  const sidecar = pickerForSidecar(document, source);
  return {
    errors: [...filter.errors, ...sidecar.errors.filter((fault) => !saysTheSame(fault, filter.errors))],
    notes: [...filter.notes, ...sidecar.notes.filter((note) => !saysTheSame(note, filter.notes))],
  };
}

/** Where endpoints come from may stand elsewhere: a document without discovery is whole. */
function pickerForSidecar(document: unknown, source: string): Judgement {
  const noDiscovery =
    at(document, "dataLayer", "discovery") === undefined ? { kind: "static" as const, endpoints: [] } : null;
  try {
    return { errors: [], notes: readPickerConfig(document, source, "pool", noDiscovery).notes };
  } catch (error) {
    if (error instanceof ConfigError) return { errors: error.issues, notes: [] };
    throw error;
  }
}

/** Both readers check the data layer: of two faults at one path the filter's wording stays. */
function saysTheSame(line: string, others: readonly string[]): boolean {
  const path = pathOf(line);
  return others.some((other) => pathOf(other) === path);
}

function pathOf(line: string): string {
  return line.split(/[: ]/, 1)[0]!;
}

/** Judges a sidecar's document by the sidecar's own loader, which reads files. */
export function validateSidecar(document: Fields): Judgement {
  const notes: string[] = [];
  const hasControl = document["control"] !== undefined;
  if (!hasControl) notes.push("control: not in the document: start the sidecar with --control");
  // The token is needed where the sidecar runs, not where its document is checked.
  const tokenEnv = String(at(document, "control", "tokenEnv") ?? "EPP_CONTROL_TOKEN");
  const environment = { ...process.env, [tokenEnv]: process.env[tokenEnv] || "unread" };
  const folder = mkdtempSync(join(tmpdir(), "epp-validate-"));
  try {
    const config = join(folder, "sidecar.json");
    writeFileSync(config, JSON.stringify(document));
    const settings = loadSettings(
      { config, ...(hasControl ? {} : { control: "control.sock" }) },
      environment,
    );
    return { errors: [], notes: [...notes, ...settings.notes] };
  } catch (error) {
    if (error instanceof ConfigError) return { errors: error.issues, notes };
    if (error instanceof FileReadError) return { errors: [error.message], notes };
    throw error;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function validateFleet(document: Fields, check: FilterCheck): Promise<Judgement> {
  let faults = fleetFaults(document);
  const notes = faults.length === 0 ? fleetNotes(document) : [];
  if (faults.length === 0 && isFields(document["sidecar"])) faults = sidecarSection(document["sidecar"]);
  const picker = document["picker"];
  if (!isFields(picker)) return { errors: faults, notes };
  const verdict = await check.document(picker);
  return {
    errors: [...faults, ...verdict.errors.map((fault) => `picker.${fault}`)],
    notes: [...notes, ...verdict.notes.map((note) => `picker.${note}`)],
  };
}

/** A fleet's `sidecar` is the part of a pool that does not say where its endpoints are. */
function sidecarSection(section: Fields): string[] {
  const pool = { name: "pool", discovery: { static: { endpoints: [] } }, ...section };
  const { errors } = validateSidecar({ control: { socket: "control.sock" }, pools: [pool] });
  return errors.map((error) => error.replace(/^pools\[0\]/, "sidecar"));
}

/** The judgement as lines for people. */
export function describeValidation({ source, kind, errors, notes }: Validation): string {
  const what = kind === "unknown" ? "" : ` (${kind})`;
  const verdict = errors.length === 0 ? "valid" : `${errors.length} error${errors.length > 1 ? "s" : ""}`;
  return [
    `${source}${what}: ${verdict}`,
    ...errors.map((error) => `  error  ${error}`),
    ...notes.map((note) => `  note   ${note}`),
  ].join("\n");
}

/** Adds the command; it ends the process with 1 when a document is refused. */
export function addValidate(program: Command): void {
  program
    .command("validate")
    .description(
      "tells whether Envoy and the sidecar would load these configurations, and what has no effect",
    )
    .argument(
      "<file...>",
      "YAML or JSON: EndpointPickerConfig, sidecar or fleet configuration, ConfigMap; - reads standard input",
    )
    .option("--json", "print the judgement as JSON")
    .action(async (files: string[], { json }: { json?: boolean }) => {
      const results: Validation[] = [];
      for (const file of files) results.push(...(await validateFile(file)));
      const text =
        json === true ? JSON.stringify(results, null, 2) : results.map(describeValidation).join("\n");
      process.stdout.write(`${text}\n`);
      process.exitCode = results.every(({ errors }) => errors.length === 0) ? 0 : 1;
    });
}
