// `epp-wasm --version`, of the bundle that is handed out.
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { ROOT } from "../../cli/envoy.ts";
import { bundle } from "../../scripts/build.mjs";

it.each(["--version", "-V"])(
  "%s tells package.json's version on its first line, and the wire formats",
  async (flag) => {
    const output = join("build", "test", "version-epp-wasm.mjs");
    await bundle(await import("esbuild"), "cli/epp-wasm.ts", output);
    const { stdout } = await promisify(execFile)(process.execPath, [join(ROOT, output), flag]);
    const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
    const [release, wire] = stdout.trim().split("\n");
    expect(release).toBe(version);
    expect(wire).toMatch(/^wire formats: snapshot \d+, policy \d+, index changes \d+, prompt programs \d+$/);
  },
);
