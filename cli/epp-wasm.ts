#!/usr/bin/env node
// `epp-wasm`: what a platform team needs to attach the picker to a gateway, and to see that it works.
import { Command } from "commander";
import { addConvert } from "./commands/convert.ts";
import { addDoctor } from "./commands/doctor.ts";
import { addInit } from "./commands/init.ts";
import { addValidate } from "./commands/validate.ts";
import { versionText } from "./version.ts";

/** Exit code where nothing could be judged: the command line, a file or the network is at fault. */
const EXIT_UNUSABLE = 2;

const program = new Command("epp-wasm")
  .version(versionText(), "-V, --version", "print the release and its wire formats")
  .description("Attaches the LLM endpoint picker to a gateway, checks configurations, finds what is wrong.")
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : EXIT_UNUSABLE));

addInit(program);
addValidate(program);
addConvert(program);
addDoctor(program);

program.parseAsync(process.argv).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = EXIT_UNUSABLE;
});
