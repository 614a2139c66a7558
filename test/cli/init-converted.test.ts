// `epp-wasm init` with what convert made, and with a sidecar that watches the Kubernetes API.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { parse, parseAllDocuments, stringify } from "yaml";
import { writeFiles } from "../../cli/commands/documents.ts";
import { answersFrom, type InitFlags } from "../../cli/commands/init/ask.ts";
import { DISCOVERIES } from "../../cli/commands/init/converted.ts";
import { KINDS } from "../../cli/commands/init/kinds.ts";
import { makeFiles } from "../../cli/commands/init.ts";
import { at, find } from "../gateways/folders.ts";
import { kubectlBuild } from "../gateways/kube-tools.ts";
import { gatewayPod } from "../gateways/pods.ts";
import type { Resource } from "../gateways/resource-schemas.ts";
import { having } from "../gateways/shape.ts";

const IN_KUBERNETES = Object.keys(KINDS).filter((kind) => kind !== "plain");
const OVER_THE_API = DISCOVERIES.filter((way) => way !== "dns");
/** Values that replacements of text might break. */
const PICKER = {
  apiVersion: "llm-d.ai/v1alpha1",
  kind: "EndpointPickerConfig",
  plugins: [
    { name: 'it\'s $& "vllm" name: vllm', type: "queue-scorer" },
    { type: "max-score-picker" },
    { type: "epp-wasm-gateway", parameters: { pool: "qwen", decisionBytesMax: 8000 } },
  ],
  schedulingProfiles: [
    {
      name: "default",
      plugins: [{ pluginRef: 'it\'s $& "vllm" name: vllm', weight: 2 }, { pluginRef: "max-score-picker" }],
    },
  ],
};
const SIDECAR = {
  control: { socket: "/run/epp/control.sock" },
  http: { listen: "0.0.0.0:9902" },
  pools: [
    {
      name: "qwen",
      discovery: { kubernetes: { inferencePool: "qwen-32b" } },
      engines: { defaultEngine: "sglang" },
    },
  ],
};

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "epp-init-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Writes files and gives their paths. */
function written(files: Readonly<Record<string, unknown>>): Record<string, string> {
  const path = folder();
  const texts = Object.entries(files).map(([name, value]) => ({
    name,
    text: typeof value === "string" ? value : stringify(value),
  }));
  writeFiles(path, texts, false);
  return Object.fromEntries(Object.keys(files).map((name) => [name, join(path, name)]));
}

const filesOf = async (flags: InitFlags): Promise<Map<string, string>> =>
  new Map(makeFiles(await answersFrom(flags, null)).map(({ name, text }) => [name, text]));

/** The document that the filter gets, wherever a kind of gateway has it. */
function pickerIn(texts: Iterable<string>): unknown {
  const documents = [...texts].flatMap((text) =>
    parseAllDocuments(text).map((one) => one.toJS() as Resource),
  );
  const [plugin] = having(documents, "root_id").filter(({ root_id: role }) => role === "picker");
  if (plugin !== undefined) return JSON.parse(at<string>(plugin, "configuration.value")!);
  return at(find(documents, "EnvoyExtensionPolicy"), "spec.wasm.0.config");
}

describe.each(Object.keys(KINDS))("%s", (kind) => {
  const flags = { kind, ...(kind === "plain" ? { endpoints: "10.0.0.9:80" } : {}) };

  it("holds convert's document for the filter as it is, and takes the pool's name from it", async () => {
    const { picker } = written({ picker: JSON.stringify(PICKER) });
    const files = await filesOf({ ...flags, picker: picker! });
    expect(pickerIn(files.values())).toEqual(PICKER);
    expect(parse(files.get("sidecar.yaml")!).pools[0].name).toBe("qwen");
    expect([...files.values()].join("")).not.toContain("It names no profile");
  });

  it("adds the pool's name to a document without it", async () => {
    const document = { ...PICKER, plugins: [{ type: "queue-scorer" }], schedulingProfiles: undefined };
    const { picker } = written({ picker: document });
    const files = await filesOf({ ...flags, picker: picker!, pool: "chat" });
    expect(pickerIn(files.values())).toMatchObject({
      plugins: [{ type: "queue-scorer" }, { type: "epp-wasm-gateway", parameters: { pool: "chat" } }],
    });
  });
});

describe.each(IN_KUBERNETES.flatMap((kind) => OVER_THE_API.map((way) => [kind, way] as const)))(
  "%s by %s",
  (kind, discovery) => {
    it("is what the shipped overlay builds where every answer is the default", async () => {
      const out = folder();
      const answers = await answersFrom({ kind, discovery, inferencePool: "vllm" }, null);
      writeFiles(out, makeFiles(answers), false);
      const overlay = `${kind}/overlays/${discovery}`;
      expect(await built(join(out, overlay))).toEqual(await built(`envoy/${overlay}`));
      expect(KINDS[kind]!.nextSteps(answers, out)).toContain(`kubectl apply -k ${out}/${overlay}`);
    });

    it("has the answers everywhere, and rights for the account of its pods", async () => {
      const out = folder();
      const flags = { kind, discovery, pool: "qwen", namespace: "llm", service: "replicas", port: "9000" };
      const answers = await answersFrom(
        { ...flags, selector: "app=qwen", sidecarImage: "r/s:1", moduleImage: "r/e:1" },
        null,
      );
      writeFiles(out, makeFiles(answers), false);
      const resources = await kubectlBuild(join(out, `${kind}/overlays/${discovery}`));
      const text = JSON.stringify(await built(join(out, `${kind}/overlays/${discovery}`)));
      expect(text).not.toMatch(/vllm|"namespace":"default"|default-llm|8000|registry\.example\.com/);
      const { serviceAccount, namespace } = gatewayPod(resources);
      expect(find(resources, "RoleBinding")).toMatchObject({
        metadata: { namespace: "llm" },
        subjects: [{ name: serviceAccount.name, namespace }],
      });
      const { pools } = parse(find(resources, "ConfigMap", "epp-sidecar").data!["sidecar.yaml"]!);
      expect(pools[0].discovery.kubernetes).toEqual({
        namespace: "llm",
        ...{
          service: { service: "replicas" },
          selector: { selector: { app: "qwen" }, ports: [9000] },
          "inference-pool": { inferencePool: "qwen" },
        }[discovery],
      });
    });
  },
);

/** What a folder builds; the texts of ConfigMaps as what they say, because labels may be quoted. */
const built = async (path: string): Promise<unknown[]> =>
  (await kubectlBuild(path)).map((one) => ({ ...one, data: mapValues(one.data ?? {}, parse) }));

const mapValues = (record: Readonly<Record<string, string>>, map: (text: string) => unknown): object =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));

describe("convert's document for the sidecar", () => {
  it("is written whole, with the replicas' namespace and the rights that it needs", async () => {
    const { sidecar } = written({ sidecar: SIDECAR });
    const out = folder();
    const flags = { kind: "envoy-gateway", namespace: "llm", sidecarConfig: sidecar! };
    writeFiles(out, makeFiles(await answersFrom(flags, null)), false);
    const resources = await kubectlBuild(join(out, "envoy-gateway/overlays/inference-pool"));
    expect(parse(find(resources, "ConfigMap", "epp-sidecar").data!["sidecar.yaml"]!)).toEqual({
      ...SIDECAR,
      pools: [
        { ...SIDECAR.pools[0], discovery: { kubernetes: { namespace: "llm", inferencePool: "qwen-32b" } } },
      ],
    });
    expect(JSON.stringify(find(resources, "Role"))).toContain('"resourceNames":["qwen-32b"]');
  });

  it("needs no rights where it does not ask Kubernetes", async () => {
    const pools = [{ name: "qwen", discovery: { file: { path: "/etc/endpoints.yaml" } } }];
    const { sidecar } = written({ sidecar: { ...SIDECAR, pools } });
    const files = await filesOf({ kind: "kgateway", sidecarConfig: sidecar! });
    expect(parse(files.get("sidecar.yaml")!).pools).toEqual(pools);
    expect(files.has("picker.yaml")).toBe(true);
  });

  it.each<[string, InitFlags, object, string]>([
    ["a document of another kind", {}, { kind: "Pod" }, "an EndpointPickerConfig, such as"],
    ["a plugin that is not known", {}, { ...PICKER, plugins: [{ type: "no-such" }] }, "plugins[0].type"],
    ["another pool", { pool: "chat" }, PICKER, '--pool: "chat": expected qwen, as in the file of --picker'],
  ])("beside %s for the filter is refused", async (_, flags, document, message) => {
    const { picker } = written({ picker: document });
    await expect(answersFrom({ kind: "istio", picker: picker!, ...flags }, null)).rejects.toThrow(message);
  });

  it.each<[string, InitFlags, object, string]>([
    ["of another kind", {}, PICKER, "a sidecar's configuration, such as"],
    ["with a fault", {}, { ...SIDECAR, http: { listen: 1 } }, "http.listen"],
    [
      "with two pools",
      {},
      { ...SIDECAR, pools: [...SIDECAR.pools, { ...SIDECAR.pools[0], name: "b" }] },
      "one pool",
    ],
    [
      "with another socket",
      {},
      { ...SIDECAR, control: { socket: "/run/other.sock" } },
      "/run/epp/control.sock",
    ],
    ["of another pool", { pool: "chat" }, SIDECAR, "expected qwen, as in the file of --sidecar-config"],
    ["of another source", { discovery: "dns" }, SIDECAR, '"dns": expected inference-pool'],
  ])("%s is refused", async (_, flags, document, message) => {
    const { sidecar } = written({ sidecar: document });
    await expect(answersFrom({ kind: "istio", sidecarConfig: sidecar!, ...flags }, null)).rejects.toThrow(
      message,
    );
  });

  it("of several documents is refused", async () => {
    const { sidecar } = written({ sidecar: "a: 1\n---\nb: 2\n" });
    await expect(answersFrom({ kind: "istio", sidecarConfig: sidecar! }, null)).rejects.toThrow(
      "2 documents: expected one mapping",
    );
    expect(readFileSync(sidecar!, "utf8")).toContain("---");
  });
});
