// `epp-wasm convert` on the command line: a picker's flags as they are written, the files, and what to do with them.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { parse, stringify } from "yaml";
import { addConvert, convert, nextCommand } from "../../cli/commands/convert.ts";
import { parseFlags } from "../../cli/commands/convert/flags.ts";
import { writeFiles } from "../../cli/commands/documents.ts";
import { FileExistsError } from "../../cli/commands/errors.ts";
import { addInit } from "../../cli/commands/init.ts";
import { validateFile } from "../../cli/commands/validate.ts";
import { documentsOf, GATEWAY_MODE } from "./deployments.ts";

describe("flags", () => {
  it.each<[string[], Record<string, string>]>([
    [["--pool-name", "a", "--v=4"], { "pool-name": "a", v: "4" }],
    [["-poolName", "a", "-grpcPort", "9002"], { "pool-name": "a", "grpc-port": "9002" }],
    [["--enable-pprof", "--v", "2"], { "enable-pprof": "true", v: "2" }],
    [["--config-text=a: b=c"], { "config-text": "a: b=c" }],
    [["/epp", "--x"], { x: "true" }],
  ])("%j are read", (args, expected) => {
    expect(Object.fromEntries(parseFlags(args))).toEqual(expected);
  });

  it("that are not known are reported", async () => {
    const { outcomes } = await convert(documentsOf("kind: Service"), {
      args: "--pool-name=a --novel=1 --zap-encoder=json",
    });
    expect(outcomes).toEqual(
      expect.arrayContaining([
        { verdict: "dropped", what: "--novel=1", why: "a flag that is not known" },
        expect.objectContaining({ verdict: "not-needed", what: "--zap-encoder=json" }),
      ]),
    );
  });
});

describe("the command", () => {
  afterEach(() => {
    process.exitCode = undefined;
  });

  it("writes files that validate, and never over others", async () => {
    const folder = mkdtempSync(join(tmpdir(), "epp-convert-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    writeFiles(folder, [{ name: "in.yaml", text: GATEWAY_MODE }], false);
    const out = join(folder, "out");
    const run = () => {
      const program = new Command().exitOverride();
      addConvert(program);
      return program.parseAsync(["convert", join(folder, "in.yaml"), "--out", out], { from: "user" });
    };
    const output = vi.spyOn(process.stdout, "write").mockReturnValue(true);
    onTestFinished(() => output.mockRestore());
    await run();
    const printed = String(output.mock.calls[0]![0]);
    expect(printed).toContain("Wrote ");
    expect(printed).toContain(
      `--picker ${join(out, "picker.json")} --sidecar-config ${join(out, "sidecar.yaml")}`,
    );
    expect(process.exitCode).toBe(1);
    for (const name of ["picker.json", "sidecar.yaml"]) {
      const [result] = await validateFile(join(out, name));
      expect(result!.errors, name).toEqual([]);
    }
    expect(parse(readFileSync(join(out, "sidecar.yaml"), "utf8"))).toHaveProperty("pools");
    await expect(run()).rejects.toThrow(FileExistsError);
  });

  it("prints a line with which init writes manifests that hold what it wrote", async () => {
    const folder = mkdtempSync(join(tmpdir(), "epp-convert-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const conversion = await convert(documentsOf(GATEWAY_MODE), {});
    writeFiles(
      folder,
      [
        { name: "picker.json", text: JSON.stringify(conversion.picker) },
        { name: "sidecar.yaml", text: stringify(conversion.sidecar) },
      ],
      false,
    );
    const words = nextCommand(conversion, folder).split(" ").slice(2);
    const output = vi.spyOn(process.stdout, "write").mockReturnValue(true);
    onTestFinished(() => output.mockRestore());
    const program = new Command().exitOverride();
    addInit(program);
    await program.parseAsync([...words, "--kind", "istio"], { from: "user" });
    const tree = join(folder, "gateway");
    const written = join(tree, "istio/overlays/inference-pool/sidecar.yaml");
    expect(parse(readFileSync(written, "utf8"))).toEqual(conversion.sidecar);
    expect(readFileSync(join(tree, "istio/base/picker-filter.yaml"), "utf8")).toContain(
      JSON.stringify(conversion.picker),
    );
    expect(String(output.mock.calls[0]![0])).toContain(
      `kubectl apply -k ${tree}/istio/overlays/inference-pool`,
    );
  });
});
