// `epp-wasm init`: the manifests that attach the picker to a gateway, filled in.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { ROOT } from "../envoy.ts";
import { type OutputFile, writeFiles } from "./documents.ts";
import { answersFrom, type InitFlags } from "./init/ask.ts";
import { type Filling, replacedText } from "./init/fillings.ts";
import { type Answers, KINDS } from "./init/kinds.ts";
import { DISCOVERIES } from "./init/converted.ts";

const FOLDER_DEFAULT = "epp-wasm";

/** A shipped file has not what is to be filled in: the two are of different versions. */
export class TemplateMismatchError extends Error {
  readonly code = "template_mismatch";
  constructor(
    readonly folder: string,
    readonly what: string,
  ) {
    super(`${folder} has no place for ${what}`);
  }
}

/** The files for a gateway. @throws TemplateMismatchError */
export function makeFiles(answers: Answers): OutputFile[] {
  const kind = KINDS[answers.kind]!;
  const folder = join(ROOT, kind.folder);
  const fillings = kind.fillings(answers);
  const missing = new Set(fillings);
  const files = Object.entries(kind.files(answers)).map(([name, source]) => {
    const text = fill(readFileSync(join(folder, source), "utf8"), fillings, missing);
    return { name, text: replacedText(name, answers) ?? text };
  });
  for (const { what } of missing) throw new TemplateMismatchError(kind.folder, what);
  return files;
}

function fill(text: string, fillings: readonly Filling[], missing: Set<Filling>): string {
  return fillings.reduce((filled, filling) => {
    if (filled.search(filling.pattern) >= 0) missing.delete(filling);
    return filled.replace(filling.pattern, filling.value);
  }, text);
}

interface Flags extends InitFlags {
  readonly out: string;
  readonly force?: boolean;
}

/** Adds the command. */
export function addInit(program: Command): void {
  program
    .command("init")
    .description("writes the manifests that attach the picker to a gateway; asks for what flags leave open")
    .option("--kind <kind>", `the gateway: ${Object.keys(KINDS).join(", ")}`)
    .option("--pool <name>", 'the pool\'s name (default: "pool")')
    .option("--namespace <name>", 'the Gateway\'s namespace (default: "default")')
    .option("--selector <labels>", 'labels of the replicas\' pods as key=value,… (default: "app=vllm")')
    .option("--service <name>", 'the headless Service that is written for them (default: "vllm")')
    .option(
      "--discovery <way>",
      `how the sidecar finds the replicas: ${DISCOVERIES.join(", ")} (default: "dns")`,
    )
    .option("--inference-pool <name>", "with --discovery inference-pool: its name (default: the pool's)")
    .option("--picker <file>", "convert's picker.json, for the filter")
    .option("--sidecar-config <file>", "convert's sidecar.yaml, for the sidecar")
    .option("--port <number>", "the replicas' port (default: 8000)")
    .option("--endpoints <list>", "plain: the replicas as ip:port,ip:port, or one name:port")
    .option("--module-image <image>", "envoy-gateway: your copy of the module's image")
    .option("--sidecar-image <image>", "your copy of the sidecar's image")
    .option("--out <folder>", "where the files are written", FOLDER_DEFAULT)
    .option("--force", "replace files that are there")
    .action(async ({ out, force, ...flags }: Flags) => {
      const terminal = process.stdin.isTTY ? { input: process.stdin, output: process.stderr } : null;
      const answers = await answersFrom(flags, terminal);
      const written = writeFiles(out, makeFiles(answers), force === true);
      const steps = KINDS[answers.kind]!.nextSteps(answers, out).map(
        (step, index) => `  ${index + 1}. ${step}`,
      );
      process.stdout.write(`Wrote ${written.join(", ")}.\nThen:\n${steps.join("\n")}\n`);
    });
}
