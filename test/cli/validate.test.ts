// `epp-wasm validate`: good documents pass, bad ones are named with path, value and expectation.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { stringify } from "yaml";
import { readDocuments } from "../../cli/commands/documents.ts";
import { FilterCheck, WasmMissingError } from "../../cli/commands/filter-check.ts";
import { describeValidation, validateDocument, validateFile } from "../../cli/commands/validate.ts";
import { ACCEPTED, IMPLEMENTED, REFUSED, REQUIRED } from "../unit/support/plugin-types.ts";

const HEAD = { apiVersion: "llm-d.ai/v1alpha1", kind: "EndpointPickerConfig" };

let check: FilterCheck;
beforeAll(() => {
  check = new FilterCheck();
});
afterAll(() => check.close());

const judge = async (document: unknown) => (await validateDocument(document, "test", check))[0]!;
const picker = (...plugins: object[]) => ({ ...HEAD, plugins });

function file(name: string, text: string): string {
  const folder = mkdtempSync(join(tmpdir(), "epp-cli-test-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

describe("an EndpointPickerConfig", () => {
  it.each([...IMPLEMENTED, ...ACCEPTED, "epp-wasm-gateway"])("with %s is valid", async (type) => {
    const plugin = { type, ...(REQUIRED[type] === undefined ? {} : { parameters: REQUIRED[type] }) };
    expect((await judge(picker(plugin))).errors).toEqual([]);
  });

  it.each(REFUSED)("with %s is refused, and the nearest type is named", async (type) => {
    const { errors } = await judge(picker({ type }));
    expect(errors).toEqual([
      expect.stringMatching(
        new RegExp(
          `^plugins\\[0\\]\\.type: "${type}" — known in llm-d and not supported; the nearest that is: .`,
        ),
      ),
    ]);
  });

  it.each<[string, object, string]>([
    [
      "an unknown type",
      picker({ type: "quue-scorer" }),
      'plugins[0].type: "quue-scorer" — unknown plugin type',
    ],
    [
      "a wrong parameter",
      picker({ type: "load-aware-scorer", parameters: { threshold: "many" } }),
      'plugins[0].parameters.threshold: "many" — expected a whole number',
    ],
    [
      "an unknown parameter",
      picker({ type: "queue-scorer", parameters: { depth: 1 } }),
      "plugins[0].parameters.depth: 1 — ",
    ],
    [
      "a dangling reference",
      {
        ...picker({ type: "queue-scorer" }),
        schedulingProfiles: [{ name: "a", plugins: [{ pluginRef: "x" }] }],
      },
      'schedulingProfiles[0].plugins[0].pluginRef: "x" — expected the name of a declared plugin',
    ],
    [
      "another version",
      { ...HEAD, apiVersion: "llm-d.ai/v9" },
      'apiVersion: "llm-d.ai/v9" — expected "llm-d.ai/v1alpha1"',
    ],
    ["flow control", { ...HEAD, featureGates: ["flowControl"] }, 'featureGates[0]: "flowControl" — '],
    ["no kind", { plugins: [] }, "apiVersion: (missing) — expected "],
    [
      "a setting out of range",
      picker({ type: "epp-wasm-gateway", parameters: { destinations: 4 } }),
      "plugins[0].parameters.destinations: 4 — expected ",
    ],
  ])("with %s is refused", async (_, document, error) => {
    expect((await judge(document)).errors[0]).toContain(error);
  });

  it("has the faults of all its plugins told at once", async () => {
    const { errors } = await judge(
      picker(
        { type: "latency-scorer" },
        { type: "queue-scorer" },
        { type: "x" },
        { type: "topology-affinity-filter" },
      ),
    );
    expect(errors.map((error) => error.split(" — ")[0])).toEqual([
      'plugins[0].type: "latency-scorer"',
      'plugins[2].type: "x"',
      'plugins[3].type: "topology-affinity-filter"',
    ]);
  });

  it("has no fault told of a plugin that names another one with a fault", async () => {
    const { errors } = await judge(
      picker(
        { type: "disagg-profile-handler", parameters: { deciders: { prefill: "far" } } },
        { type: "prefix-based-pd-decider", name: "far", parameters: { nonCachedToken: 512 } },
        { type: "epp-wasm-disaggregation", parameters: { mode: "Inline" } },
      ),
    );
    expect(errors.map((error) => error.split(" — ")[0])).toEqual([
      "plugins[1].parameters.nonCachedToken: 512",
      'plugins[2].parameters.mode: "Inline"',
    ]);
  });

  it("has a name that no plugin has told, beside other faults", async () => {
    const { errors } = await judge(
      picker(
        { type: "disagg-profile-handler", parameters: { deciders: { prefill: "far" } } },
        { type: "prefix-based-pd-decider" },
        { type: "x" },
      ),
    );
    expect(errors.map((error) => error.split(" — ")[0])).toEqual([
      'plugins[0].parameters.deciders.prefill: "far"',
      'plugins[2].type: "x"',
    ]);
  });

  it("has each note by itself, a choice by chance among them", async () => {
    const { notes } = await judge(picker({ type: "metrics-data-source" }, { type: "decode-filter" }));
    expect(notes).toEqual([
      "plugins[0] metrics-data-source: no effect in the filter, the sidecar's",
      "no scorer and no picker: any endpoint that the filters leave is picked, by chance; " +
        "epp-wasm-latency-picker picks by predicted latency",
    ]);
  });

  it("has what does nothing in the filter noted once", async () => {
    const { notes } = await judge(picker({ type: "token-producer" }, { type: "metrics-data-source" }));
    expect(notes).toEqual([
      expect.stringMatching(/^plugins\[0\] token-producer: no effect in the filter, /),
      "plugins[1] metrics-data-source: no effect in the filter, the sidecar's",
      "no scheduling plugin is configured: the default profile is used",
    ]);
  });

  it.each<[string, object[], number]>([
    ["without a profile handler", [], 1],
    ["beside a handler that has no decider", [{ type: "disagg-profile-handler" }], 1],
    [
      "beside a handler with a decider",
      [
        { type: "disagg-profile-handler", parameters: { deciders: { prefill: "always-disagg-pd-decider" } } },
        { type: "always-disagg-pd-decider" },
      ],
      0,
    ],
  ])("has its disaggregation %s noted where that does nothing", async (_, others, count) => {
    const { errors, notes } = await judge(picker({ type: "epp-wasm-disaggregation" }, ...others));
    expect(errors).toEqual([]);
    const note = "epp-wasm-disaggregation: no effect: no profile handler has a decider for prefill or encode";
    expect(notes.filter((each) => each === note)).toHaveLength(count);
  });

  it("has the sidecar's half judged by the sidecar", async () => {
    const { errors } = await judge({
      ...picker(
        { type: "file-discovery", parameters: { path: "endpoints.yaml" } },
        { type: "models-data-source" },
      ),
      dataLayer: { discovery: { pluginRef: "models-data-source" } },
    });
    expect(errors).toEqual([expect.stringContaining("dataLayer.discovery.pluginRef")]);
  });

  it("longer than the filter takes is refused", async () => {
    const { errors } = await judge(picker({ type: "queue-scorer", name: "n".repeat(70_000) }));
    expect(errors.join()).toContain("longer than 65536 bytes");
  });
});

describe("llm-d's own sample documents", () => {
  interface Sample {
    readonly name: string;
    readonly document?: object | null;
    readonly accepted: boolean;
  }
  const path = new URL("../fixtures/oracles/config.json", import.meta.url);
  const { cases } = JSON.parse(readFileSync(path, "utf8")) as { cases: Sample[] };
  const samples = cases.filter(({ document }) => document !== undefined && document !== null);
  /** Types that only upstream's own tests register, and what is not supported here. */
  const MISSING = /"test-[a-z-]+" — unknown plugin type|known in llm-d and not supported|flow control/;

  it.each(samples.map((sample) => [sample.name, sample] as const))(
    "%s",
    async (_, { document, accepted }) => {
      const { errors } = (await validateDocument({ ...HEAD, ...document }, "test", check))[0]!;
      if (!accepted) expect(errors).not.toEqual([]);
      else expect(errors.filter((error) => !MISSING.test(error) && !error.includes("pluginRef"))).toEqual([]);
    },
  );

  it("are enough to tell", () => {
    expect(samples.length).toBeGreaterThan(10);
  });
});

describe("other documents", () => {
  it.each<[string, object, string]>([
    [
      "a sidecar's unknown field",
      {
        control: { socket: "x" },
        pools: [{ name: "a", discovery: { static: { endpoints: [] } }, scrap: {} }],
      },
      'pools[0]: unknown field "scrap"',
    ],
    [
      "a sidecar's bad interval",
      {
        control: { socket: "x" },
        pools: [{ name: "a", discovery: { file: { path: "x" } }, scrape: { intervalMs: 1 } }],
      },
      "pools[0].scrape.intervalMs: 1: ",
    ],
    ["a control URL off the machine", { control: { url: "http://10.0.0.1:80" }, pools: [] }, "expected"],
    [
      "a fleet's bad address",
      { endpoints: ["10.0.0.1"] },
      'endpoints[0]: not an endpoint address: "10.0.0.1"',
    ],
    [
      "a fleet's bad plugin",
      { endpoints: ["10.0.0.1:80"], picker: picker({ type: "x" }) },
      'picker.plugins[0].type: "x" — unknown plugin type',
    ],
    [
      "a fleet's bad sidecar section",
      { endpoints: ["10.0.0.1:80"], sidecar: { scrape: { timeoutMs: "fast" } } },
      'sidecar.scrape.timeoutMs: "fast": ',
    ],
    [
      "a fleet's endpoint with a field too many",
      { endpoints: [{ address: "10.0.0.1", port: 80, role: "prefill" }] },
      'endpoints[0]: unknown field "role": expected one of address, port, name, ',
    ],
    [
      "a fleet's endpoint without a port",
      { endpoints: [{ address: "10.0.0.1", ports: 80 }] },
      "endpoints[0].port: is missing: expected a port number, 1 to 65535",
    ],
    [
      "a fleet's bad KV events",
      { endpoints: ["10.0.0.1:80"], sidecar: { kvEvents: { topics: "kv@" } } },
      'sidecar.kvEvents: unknown field "topics": expected one of port, replayPort, topic, ',
    ],
    ["something else", { kind: "Service" }, "document: expected an EndpointPickerConfig"],
    ["a list", [1], "document: expected an EndpointPickerConfig"],
  ])("%s is named", async (_, document, error) => {
    expect((await judge(document)).errors.join("\n")).toContain(error);
  });

  it.each<[string, object, string]>([
    ["a sidecar's", { pools: [{ name: "a", discovery: { dns: { host: "h", port: 1 } } }] }, "sidecar"],
    [
      "a fleet",
      { endpoints: ["10.0.0.1:80", { address: "::1", port: "80" }], sidecar: { dcgm: { port: 9400 } } },
      "fleet",
    ],
    [
      "a fleet's with KV events",
      { endpoints: ["vllm-0:80"], sidecar: { kvEvents: { replayPort: 5657 }, scaling: { ttftMs: 500 } } },
      "fleet",
    ],
  ])("%s configuration is valid", async (_, document, kind) => {
    expect(await judge(document)).toMatchObject({ kind, errors: [] });
  });

  const labelled = [
    { address: "10.0.0.1", port: 1, labels: { "llm-d.ai/role": "prefil" } },
    { address: "10.0.0.2", port: 1, labels: { "llm-d.ai/role": "both", "epp-wasm/kv-events-port": "5557" } },
    { address: "10.0.0.3", port: 1, labels: { "epp-wasm/kv-events-port": "70000", other: "x" } },
    { address: "10.0.0.4", port: 1, labels: { "epp-wasm/kv-event-port": "5557" } },
  ];
  const pools = [{ name: "a", discovery: { static: { endpoints: labelled } } }];
  it.each<[string, object, string]>([
    ["a sidecar's", { control: { socket: "x" }, pools }, "pools[0].discovery.static.endpoints"],
    ["a fleet's", { endpoints: labelled }, "endpoints"],
  ])("%s labels that will not do what was meant are noted", async (_, document, list) => {
    const { errors, notes } = await judge(document);
    expect(errors).toEqual([]);
    expect(notes).toEqual([
      expect.stringContaining(`${list}[0].labels.llm-d.ai/role: "prefil": expected one of decode, prefill, `),
      `${list}[2].labels.epp-wasm/kv-events-port: "70000": expected a port number, 1 to 65535`,
      expect.stringContaining(
        `${list}[3].labels.epp-wasm/kv-event-port: "5557": no such label: expected one of `,
      ),
    ]);
  });

  it("a ConfigMap's entries are judged each", async () => {
    const map = {
      apiVersion: "v1",
      kind: "ConfigMap",
      data: {
        "good.yaml": stringify(picker({ type: "queue-scorer" })),
        "bad.yaml": stringify(picker({ type: "x" })),
        "notes.txt": "hello",
        "broken.yaml": "a: [",
      },
    };
    const results = await validateDocument(map, "maps", check);
    expect(results.map(({ source, errors }) => [source, errors.length])).toEqual([
      ['maps data["good.yaml"]', 0],
      ['maps data["bad.yaml"]', 1],
      ['maps data["broken.yaml"]', 1],
    ]);
  });
});

describe("files", () => {
  it("of several documents are judged one by one, as JSON or YAML", async () => {
    const text = `${stringify(picker({ type: "queue-scorer" }))}---\n${JSON.stringify({ endpoints: [] })}\n`;
    const results = await validateFile(file("two.yaml", text));
    expect(results.map(({ kind, errors }) => [kind, errors.length])).toEqual([
      ["EndpointPickerConfig", 0],
      ["fleet", 1],
    ]);
    expect(describeValidation(results[1]!)).toMatch(
      /two\.yaml \(document 2\) \(fleet\): 1 error\n {2}error {2}endpoints: /,
    );
  });

  it("named .json are judged as JSON, as the filter and Envoy read them", async () => {
    const text = `${JSON.stringify(picker({ type: "queue-scorer" })).slice(0, -1)},}`;
    await expect(validateFile(file("picker.json", text))).rejects.toThrow(
      /picker\.json: no valid JSON: .*JSON/,
    );
    expect((await validateFile(file("picker.yaml", text)))[0]!.errors).toEqual([]);
  });

  it("named .json hold one document, of which each key counts once", async () => {
    const text = '{"kind": "A", "kind": "B"}';
    await expect(validateFile(file("twice.json", text))).rejects.toThrow(
      "no valid YAML: Map keys must be unique",
    );
  });

  it.each([
    ["that are no YAML", "a: [1", "no valid YAML"],
    ["with a key that stands twice", "kind: A\nkind: B\n", "no valid YAML"],
    ["that are empty", "# nothing\n", "it is empty"],
  ])("%s are refused by name", async (_, text, message) => {
    await expect(validateFile(file("bad.yaml", text))).rejects.toThrow(message);
  });

  it("that are missing are refused by name", () => {
    expect(() => readDocuments("nowhere.yaml")).toThrow("nowhere.yaml: ENOENT");
  });

  it("of a List stand for themselves", () => {
    const text = stringify({ kind: "List", items: [{ kind: "A" }, { kind: "B" }] });
    expect(readDocuments(file("list.yaml", text))).toEqual([{ kind: "A" }, { kind: "B" }]);
  });

  it("cannot be judged without the module", () => {
    expect(() => new FilterCheck("nowhere.wasm")).toThrow(WasmMissingError);
  });
});
