// `epp-wasm init`: what it writes is what is shipped and tested, with the answers in it, and validates.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { FlagError } from "../../cli/commands/errors.ts";
import { answersFrom, type InitFlags } from "../../cli/commands/init/ask.ts";
import { KINDS } from "../../cli/commands/init/kinds.ts";
import { makeFiles, TemplateMismatchError } from "../../cli/commands/init.ts";
import { validateFile } from "../../cli/commands/validate.ts";
import { renderEnvoyConfig } from "../../cli/envoy-config.ts";
import { ROOT } from "../../cli/envoy.ts";
import { bundle, BUNDLES } from "../../scripts/build.mjs";
import { writeFiles } from "../../cli/commands/documents.ts";

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "epp-init-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const IN_KUBERNETES = Object.keys(KINDS).filter((kind) => kind !== "plain");
const filesOf = async (flags: InitFlags): Promise<Map<string, string>> =>
  new Map(makeFiles(await answersFrom(flags, null)).map(({ name, text }) => [name, text]));
const shipped = (path: string): string => readFileSync(join(ROOT, path), "utf8");

describe("plain", () => {
  it.each<[string, string[]]>([
    ["addresses", ["10.1.2.3:9000", "10.1.2.4:9001", "[2001:db8::1]:80"]],
    ["one address", ["10.1.2.3:9000"]],
  ])("is the shipped configuration over %s", async (_, endpoints) => {
    const files = await filesOf({ kind: "plain", pool: "qwen", endpoints: endpoints.join(",") });
    expect([...files.keys()]).toEqual(["envoy.yaml", "sidecar.yaml"]);
    const expected = renderEnvoyConfig(shipped("envoy/plain/envoy.yaml"), { endpoints, poolName: "qwen" });
    const envoy = parse(files.get("envoy.yaml")!);
    // A virtual host's name is free: init gives it the pool's.
    envoy.static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].name =
      "pool";
    expect(envoy).toEqual(parse(expected));
    expect(files.get("envoy.yaml")).toContain("# Envoy's default of 15 s would cut generations short.");
    const [pool] = parse(files.get("sidecar.yaml")!).pools;
    expect(pool.name).toBe("qwen");
    expect(pool.discovery.static.endpoints).toHaveLength(endpoints.length);
  });

  it("over a DNS name asks the same name in both halves", async () => {
    const files = await filesOf({ kind: "plain", endpoints: "vllm.internal:8001" });
    expect(files.get("envoy.yaml")).toContain("address: vllm.internal, port_value: 8001");
    expect(parse(files.get("sidecar.yaml")!).pools[0].discovery).toEqual({
      dns: { host: "vllm.internal", port: 8001 },
    });
  });
});

describe.each(IN_KUBERNETES)("%s", (kind) => {
  const { folder: base } = KINDS[kind]!;

  it("is what is shipped where every answer is the default", async () => {
    for (const [name, text] of await filesOf({ kind })) {
      const documents = (yaml: string): unknown[] =>
        parseAllDocuments(yaml).map((document) => document.toJS());
      expect(documents(text), name).toEqual(documents(shipped(`${base}/${name}`)));
    }
  });

  it("has the answers everywhere, and nothing left of the defaults", async () => {
    const files = await filesOf({
      kind,
      pool: "qwen",
      namespace: "llm",
      selector: "app=qwen,llm-d.ai/role=decode",
      service: "replicas",
      port: "9000",
      sidecarImage: "reg.internal/side:1",
      moduleImage: "reg.internal/epp:1",
    });
    expect([...files.keys()].sort()).toEqual(readdirSync(join(ROOT, base)).sort());
    const text = [...files.values()].join("\n").replace(/#.*$/gm, "");
    expect(text).not.toMatch(
      /namespace: default|default\/llm|vllm|\b8000\b|registry\.example\.com|\bpool: pool\b|"pool":"pool"/,
    );
    expect(text).toContain("replicas.llm.svc.cluster.local");
    expect(text).toContain('selector: { app: "qwen", llm-d.ai/role: "decode" }');
    expect(text).toContain("reg.internal/side:1");
    const { pools } = parse(files.get("sidecar.yaml")!);
    expect(pools[0].name).toBe("qwen");
  });
});

describe("what is written", () => {
  it.each(Object.keys(KINDS))("for %s validates", async (kind) => {
    const out = folder();
    const flags = { kind, pool: "qwen", ...(kind === "plain" ? { endpoints: "10.0.0.9:80" } : {}) };
    writeFiles(out, makeFiles(await answersFrom(flags, null)), false);
    const [sidecar] = await validateFile(join(out, "sidecar.yaml"));
    expect(sidecar).toMatchObject({ kind: "sidecar", errors: [] });
    expect(KINDS[kind]!.nextSteps(await answersFrom(flags, null), out).join("\n")).toContain(
      "epp-wasm doctor",
    );
  });

  it("is not written where a template lacks a place for an answer", async () => {
    const answers = await answersFrom({ kind: "kgateway" }, null);
    const { fillings } = KINDS["kgateway"]!;
    const odd = {
      ...KINDS["kgateway"]!,
      fillings: () => [...fillings(answers), { what: "the moon", pattern: /moon/g, value: "" }],
    };
    const kinds = KINDS as Record<string, (typeof KINDS)[string]>;
    kinds["odd"] = odd;
    onTestFinished(() => void delete kinds["odd"]);
    expect(() => makeFiles({ ...answers, kind: "odd" })).toThrow(TemplateMismatchError);
  });
});

describe("answers", () => {
  it.each<[InitFlags, string]>([
    [{}, "--kind: is missing"],
    [{ kind: "nginx" }, '--kind: "nginx": expected one of plain, '],
    [{ kind: "toString" }, "expected one of"],
    [{ kind: "plain" }, "--endpoints: is missing"],
    [{ kind: "plain", endpoints: "10.0.0.1" }, '--endpoints: "10.0.0.1": expected ip:port'],
    [{ kind: "istio", pool: "A b" }, '--pool: "A b": expected lower-case'],
    [{ kind: "istio", namespace: "x: y" }, "--namespace"],
    [{ kind: "istio", selector: "app" }, '--selector: "app": expected key=value'],
    [{ kind: "istio", port: "0" }, '--port: "0": expected 1 to 65535'],
    [{ kind: "istio", sidecarImage: "a b" }, "--sidecar-image"],
    [{ kind: "istio", discovery: "consul" }, '--discovery: "consul": expected one of dns, service'],
    [{ kind: "istio", inferencePool: "A" }, "--inference-pool"],
  ])("%j are refused", async (flags, message) => {
    const refused = answersFrom(flags, null);
    await expect(refused).rejects.toThrow(FlagError);
    await expect(refused).rejects.toThrow(message);
  });

  it("of several DNS names are refused", async () => {
    const answers = await answersFrom({ kind: "plain", endpoints: "a:1,b:2" }, null);
    expect(() => makeFiles(answers)).toThrow("one DNS name alone");
  });

  it("are asked for on a terminal, with defaults", async () => {
    const [input, output] = [new PassThrough(), new PassThrough()];
    const replies = ["kgateway", "", "qwen", "", "app=qwen", "9000", "service"];
    const questions: string[] = [];
    output.on("data", (bytes: Buffer) => {
      questions.push(bytes.toString());
      input.write(`${replies.shift()!}\n`);
    });
    expect(await answersFrom({}, { input, output })).toMatchObject({
      kind: "kgateway",
      pool: "qwen",
      namespace: "default",
      selector: { app: "qwen" },
      port: 9000,
      discovery: "service",
    });
    expect(questions.join("")).toContain("convert's picker.json [none]: ");
    expect(questions.join("")).toContain("the Gateway's namespace [default]: ");
  });
});

describe("the program", () => {
  const { entry } = BUNDLES.find(({ output }: { output: string }) => output === "build/epp-wasm.mjs")!;
  const program = "build/test-epp-wasm.mjs";
  beforeAll(async () => bundle(await import("esbuild"), entry, program));
  const run = (...args: string[]): { code: number; text: string } => {
    try {
      return {
        code: 0,
        text: execFileSync(process.execPath, [join(ROOT, program), ...args], {
          encoding: "utf8",
          stdio: "pipe",
        }),
      };
    } catch (error) {
      const { status, stdout, stderr } = error as { status: number; stdout: string; stderr: string };
      return { code: status, text: stdout + stderr };
    }
  };

  it("writes, validates, and ends with 0, 1 or 2", () => {
    const out = folder();
    const made = run("init", "--kind", "plain", "--endpoints", "10.0.0.1:80", "--out", out);
    expect(made).toMatchObject({ code: 0, text: expect.stringContaining("npx epp-wasm doctor") });
    expect(run("validate", join(out, "sidecar.yaml"))).toMatchObject({
      code: 0,
      text: expect.stringContaining("valid"),
    });
    expect(run("validate", join(out, "envoy.yaml")).code).toBe(1);
    expect(run("init", "--kind", "plain", "--endpoints", "10.0.0.1:80", "--out", out)).toMatchObject({
      code: 2,
      text: expect.stringContaining("--force replaces it"),
    });
    expect(run("doctor", "--admin", "http://127.0.0.1:1").code).toBe(2);
    expect(run("fly").code).toBe(2);
    expect(run("--help")).toMatchObject({ code: 0, text: expect.stringContaining("convert") });
  });
});
