// `epp-wasm convert`: an llm-d endpoint picker's deployment → the filter's configuration and the sidecar's.
import { join } from "node:path";
import type { Command } from "commander";
import { stringify } from "yaml";
import { readDeployment } from "./convert/deployment.ts";
import { parseFlags } from "./convert/flags.ts";
import { type EppDeployment, takeFlags } from "./convert/found.ts";
import { ConversionError, type Outcome, Outcomes, type Verdict } from "./convert/outcome.ts";
import { convertPicker } from "./convert/picker.ts";
import { convertSidecar } from "./convert/sidecar.ts";
import { at, type Fields, isFields, readDocuments, texts, writeFiles } from "./documents.ts";
import { FilterCheck } from "./filter-check.ts";
import { validateSidecar } from "./validate.ts";

export const PICKER_FILE = "picker.json";
export const SIDECAR_FILE = "sidecar.yaml";
const FOLDER_DEFAULT = "epp-wasm";
/** Below the folder, for the manifests. */
const GATEWAY_FOLDER = "gateway";
const POOL_DEFAULT = "pool";
/** Something that worked before does not any more. */
const EXIT_DROPPED = 1;

/** What a deployment was made into. */
export interface Conversion {
  /** EndpointPickerConfig for the filter. */
  readonly picker: Fields;
  readonly sidecar: Fields;
  /** The fate of every part of the input. */
  readonly outcomes: readonly Outcome[];
  /** What `epp-wasm init` is to be told of the deployment: flags and their values. */
  readonly initFlags: readonly (readonly [flag: string, value: string])[];
}

/** What the command line says. */
export interface ConvertOptions {
  /** Further flags of the picker, as on its command line. */
  readonly args?: string | undefined;
  readonly endpoints?: string | undefined;
  /** Name of the pool here; the filter and the sidecar must agree on it. */
  readonly pool?: string | undefined;
  /** Which configuration, where several are found. */
  readonly config?: string | undefined;
}

/** Converts parsed documents. @throws ConversionError, ConfigError, WasmMissingError */
export async function convert(documents: readonly unknown[], options: ConvertOptions): Promise<Conversion> {
  const outcomes = new Outcomes();
  const found = readDeployment(documents, outcomes);
  if (options.args !== undefined) takeFlags(parseFlags(options.args.trim().split(/\s+/)), found, outcomes);
  const config = chooseConfig(found.configs, options.config ?? found.flags.get("config-file"), outcomes);
  const pool = options.pool ?? found.flags.get("pool-name") ?? found.poolName ?? POOL_DEFAULT;
  const { failureMode } = found;
  if (failureMode !== undefined) outcomes.kept(`failureMode ${failureMode}`, "epp-wasm-gateway fail");
  const fail =
    failureMode === undefined ? {} : ({ fail: failureMode === "FailOpen" ? "open" : "closed" } as const);
  const check = new FilterCheck();
  try {
    const { picker, forSidecar, kvEvents } = await convertPicker(config, { pool, ...fail }, check, outcomes);
    const flags = { pool, endpoints: options.endpoints };
    const sidecar = convertSidecar(forSidecar, kvEvents, found, flags, outcomes);
    const { errors } = validateSidecar(sidecar);
    if (errors.length > 0)
      throw new ConversionError(`the sidecar refuses the result:\n  ${errors.join("\n  ")}`);
    return { picker, sidecar, outcomes: outcomes.all, initFlags: initFlags(found, sidecar, pool) };
  } finally {
    check.close();
  }
}

/** The configuration that the picker was started with. A picker without one runs llm-d's defaults, as we do ours. */
function chooseConfig(
  configs: ReadonlyMap<string, Fields>,
  wanted: string | undefined,
  outcomes: Outcomes,
): Fields {
  const base = wanted?.split("/").at(-1);
  const names = [...configs.keys()];
  const chosen =
    (base === undefined ? undefined : names.find((name) => name === base)) ??
    (names.includes("--config-text") ? "--config-text" : names.length === 1 ? names[0] : undefined);
  if (chosen === undefined && names.length === 0) {
    if (base !== undefined)
      throw new ConversionError(`the configuration ${wanted} is not among the documents`);
    outcomes.kept(
      "the default configuration",
      "the filter's default profile, which knows llm-d's scorers and its own",
    );
    return { apiVersion: "llm-d.ai/v1alpha1" };
  }
  if (chosen === undefined) {
    throw new ConversionError(
      `several configurations: ${names.map((name) => name || "a file of its own").join(", ")}: expected --config to name one`,
    );
  }
  for (const name of names) {
    if (name !== chosen) outcomes.notNeeded(`configuration ${name}`, `${chosen} is the one in force`);
  }
  return configs.get(chosen)!;
}

function initFlags(found: EppDeployment, sidecar: Fields, pool: string): (readonly [string, string])[] {
  const kubernetes = at(sidecar, "pools", 0, "discovery", "kubernetes");
  const selector = found.poolSelector ?? at(kubernetes, "selector") ?? found.selector;
  const labels = isFields(selector) ? Object.entries(texts(selector)).map((label) => label.join("=")) : [];
  const port = found.poolPort ?? at(kubernetes, "ports", 0) ?? found.ports[0];
  return [
    ["--pool", pool],
    ...optional("--namespace", at(kubernetes, "namespace")),
    ...optional("--selector", labels.length > 0 ? labels.join(",") : undefined),
    ...optional("--port", port),
  ];
}

function optional(flag: string, value: unknown): [string, string][] {
  return value === undefined ? [] : [[flag, String(value)]];
}

/** The command that makes a gateway's manifests of what was written; the gateway's kind is asked. */
export function nextCommand({ initFlags }: Conversion, out: string): string {
  const flags = [
    ...initFlags,
    ["--picker", join(out, PICKER_FILE)],
    ["--sidecar-config", join(out, SIDECAR_FILE)],
    ["--out", join(out, GATEWAY_FOLDER)],
  ];
  return ["npx epp-wasm init", ...flags.map(([flag, value]) => `${flag} ${shellWord(value!)}`)].join(" ");
}

function shellWord(text: string): string {
  return /^[-\w./=,:@]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

const TITLES: Readonly<Record<Verdict, string>> = {
  dropped: "Dropped, and no longer in effect:",
  "not-needed": "Not needed here:",
  kept: "Kept:",
};

/** The fates as text, what was lost first. */
export function describeOutcomes(outcomes: readonly Outcome[]): string {
  return (["dropped", "not-needed", "kept"] as const)
    .flatMap((verdict) => {
      const group = outcomes.filter((outcome) => outcome.verdict === verdict);
      return group.length === 0
        ? []
        : [TITLES[verdict], ...group.map(({ what, why }) => `  ${what}: ${why}`)];
    })
    .join("\n");
}

interface Flags extends ConvertOptions {
  readonly out: string;
  readonly force?: boolean;
  readonly json?: boolean;
}

/** Adds the command; it ends with 1 when something was dropped that had an effect. */
export function addConvert(program: Command): void {
  program
    .command("convert")
    .description(
      "makes the filter's and the sidecar's configuration of an llm-d endpoint picker's deployment",
    )
    .argument(
      "<file...>",
      "manifests (helm template, kubectl get -o yaml), Helm values, EndpointPickerConfig; - reads standard input",
    )
    .option("--out <folder>", `where ${PICKER_FILE} and ${SIDECAR_FILE} are written`, FOLDER_DEFAULT)
    .option("--args <flags>", "the picker's command line, where no manifest has it")
    .option("--config <name>", "which configuration to take where several are found")
    .option("--endpoints <list>", "ip:port,ip:port: a fixed pool instead of the deployment's")
    .option("--pool <name>", "the pool's name (default: the InferencePool's)")
    .option("--force", "replace files that are there")
    .option("--json", "print the report as JSON")
    .action(async (files: string[], { out, force, json, ...options }: Flags) => {
      const conversion = await convert(files.flatMap(readDocuments), options);
      const { picker, sidecar, outcomes } = conversion;
      const next = nextCommand(conversion, out);
      const written = writeFiles(
        out,
        [
          { name: PICKER_FILE, text: `${JSON.stringify(picker, null, 2)}\n` },
          { name: SIDECAR_FILE, text: stringify(sidecar) },
        ],
        force === true,
      );
      const report =
        json === true
          ? JSON.stringify({ written, outcomes, next }, null, 2)
          : `${describeOutcomes(outcomes)}\nWrote ${written.join(" and ")}.\nThen, for the manifests of your gateway:\n  ${next}`;
      process.stdout.write(`${report}\n`);
      process.exitCode = outcomes.some(({ verdict }) => verdict === "dropped") ? EXIT_DROPPED : 0;
    });
}
