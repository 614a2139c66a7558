// The overlays whose sidecar watches the Kubernetes API: who has the token, whose it is, what it may do, and that it works.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { parse } from "yaml";
import { loadSettings } from "../../sidecar/config/load.ts";
import { accessSource } from "../../sidecar/discovery/kubernetes/credentials.ts";
import { KubernetesDiscovery } from "../../sidecar/discovery/kubernetes/discovery.ts";
import { CA_FILE, FakeApi, KINDS } from "../sidecar/kubernetes-api.ts";
import { FAST, inferencePool, pod, RecordingSink } from "../sidecar/kubernetes-harness.ts";
import { eventually, temporaryFolder } from "../sidecar/servers.ts";
import { at, BASES, build, find } from "./folders.ts";
import { gatewayPod } from "./pods.ts";
import type { Resource } from "./resource-schemas.ts";
import type { Json } from "./shape.ts";

/** Folders of the overlays, and the source that each sidecar is to have. */
const SOURCES = { "inference-pool": "inferencePool", service: "service", selector: "selector" } as const;
const OVERLAYS = BASES.flatMap((base) =>
  Object.entries(SOURCES).map(
    ([source, kind]) => [base.replace("base", `overlays/${source}`), kind, base] as const,
  ),
);
const VERBS = ["list", "watch"];

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

const rulesOf = (resources: readonly Resource[]): readonly Rule[] =>
  (find(resources, "Role") as unknown as { rules: readonly Rule[] }).rules;

/** The files of the volume with the credentials, as the kubelet would put them there. */
function layOut(volume: Json, folder: string, contents: Readonly<Record<string, string>>): void {
  for (const source of at<Json[]>(volume, "projected.sources")!) {
    const [kind] = Object.keys(source);
    const items = at<{ path: string }[]>(source, `${kind}.items`) ?? [at<{ path: string }>(source, kind!)!];
    for (const { path } of items) writeFileSync(join(folder, path), contents[kind!]!);
  }
}

describe.each(OVERLAYS)("%s", (overlay, kind, base) => {
  const resources = build(overlay);
  const { volumes, envoyMounts, sidecar, namespace, serviceAccount } = gatewayPod(resources);
  const mount = (sidecar["volumeMounts"] as Json[]).find(({ name }) => name === "epp-kubernetes-api")!;
  const volume = volumes.find(({ name }) => name === "epp-kubernetes-api")!;

  it("adds to its base the rights, the credentials and the sidecar's source, and nothing else", () => {
    const key = ({ kind, metadata }: Resource): string => `${kind}/${metadata.name}`;
    const before = new Map(build(base).map((resource) => [key(resource), JSON.stringify(resource)]));
    const changed = resources.filter((one) => before.get(key(one)) !== JSON.stringify(one)).map(key);
    expect(changed.filter((one) => before.has(one))).toHaveLength(2);
    expect(changed).toContain("ConfigMap/epp-sidecar");
    expect(changed.filter((one) => !before.has(one))).toEqual([
      "Role/epp-wasm-sidecar",
      "RoleBinding/epp-wasm-sidecar",
    ]);
    const { volumes: theirs, envoyMounts: mounts, sidecar: without, fsGroup } = gatewayPod(build(base));
    expect(volumes.filter((one) => one !== volume)).toEqual(theirs);
    expect(envoyMounts).toEqual(mounts);
    const ours = {
      ...sidecar,
      volumeMounts: (sidecar["volumeMounts"] as Json[]).filter((one) => one !== mount),
    };
    expect(ours).toEqual(without);
    expect(gatewayPod(resources).fsGroup).toBe(fsGroup);
  });

  it("gives the token to the sidecar alone, where no other token is", () => {
    expect(mount).toMatchObject({
      mountPath: "/var/run/secrets/kubernetes.io/serviceaccount",
      readOnly: true,
    });
    expect(envoyMounts.map(({ name }) => name)).not.toContain(mount["name"]);
    expect(serviceAccount.automount).toBe(false);
  });

  it("binds the rights to the account that the gateway's pods run as", () => {
    expect(find(resources, "RoleBinding")).toMatchObject({
      metadata: { namespace: "default" },
      roleRef: { kind: "Role", name: find(resources, "Role").metadata.name },
      subjects: [{ kind: "ServiceAccount", name: serviceAccount.name, namespace }],
    });
  });

  it("lets the sidecar find replicas with that token and no other rights", async () => {
    const api = await new FakeApi("default").start();
    const granted = rulesOf(resources).flatMap(({ resources: kinds, verbs }) =>
      kinds.flatMap((kind) => verbs.map((verb) => `${verb} ${kind}`)),
    );
    for (const kind of KINDS.keys())
      for (const verb of VERBS)
        if (!granted.includes(`${verb} ${kind}`)) api.forbidden.add(`${verb} ${kind}`);
    api.put("inferencepools", { ...inferencePool(), metadata: { name: "vllm" } });
    api.put("services", { metadata: { name: "vllm" }, spec: { selector: { app: "vllm" } } });
    api.put("pods", pod(1));
    api.put("endpointslices", {
      metadata: { name: "vllm-1", labels: { "kubernetes.io/service-name": "vllm" } },
      addressType: "IPv4",
      ports: [{ name: "http", port: 8_000 }],
      endpoints: [
        {
          addresses: ["10.0.0.1"],
          conditions: { ready: true, serving: true },
          targetRef: { kind: "Pod", name: "vllm-0001" },
        },
      ],
    });
    const root = temporaryFolder();
    const folder = join(root, mount["mountPath"] as string);
    mkdirSync(folder, { recursive: true });
    layOut(volume, folder, {
      serviceAccountToken: "token-1",
      configMap: readFileSync(CA_FILE, "utf8"),
      downwardAPI: namespace,
    });
    vi.stubEnv("KUBERNETES_SERVICE_HOST", "127.0.0.1");
    vi.stubEnv("KUBERNETES_SERVICE_PORT", String(api.port));
    vi.stubEnv("KUBECONFIG", "");
    onTestFinished(() => void vi.unstubAllEnvs());
    const config = join(root, "sidecar.yaml");
    writeFileSync(config, find(resources, "ConfigMap", "epp-sidecar").data!["sidecar.yaml"]!);
    const { discovery: settings } = loadSettings({ config }, {}).pools[0]!;
    if (settings.kind !== "kubernetes") throw new Error(`discovery is ${settings.kind}`);
    const sink = new RecordingSink();
    const access = accessSource(settings, process.env, root);
    const discovery = new KubernetesDiscovery(settings, { pool: "pool", access, timing: FAST });
    discovery.start(sink);
    onTestFinished(() => discovery.stop());
    await eventually("the replica is found", () => sink.addresses?.length === 1);
    expect(sink.addresses).toEqual(["10.0.0.1:8000"]);
    expect(sink.errors).toEqual([]);
    await eventually("every right is used", () =>
      granted.every((right) => api.requests.some(({ verb, plural }) => `${verb} ${plural}` === right)),
    );
    for (const { resources: kinds, resourceNames } of rulesOf(resources)) {
      if (resourceNames === undefined) continue;
      const fields = api.requests
        .filter(({ plural }) => kinds.includes(plural))
        .map(({ query }) => query.get("fieldSelector"));
      expect(new Set(fields)).toEqual(new Set([`metadata.name=${resourceNames[0]}`]));
    }
    expect(api.violations).toEqual([]);
    expect(settings.members.kind).toBe(kind);
  });
});

it("Istio's Deployment overlay with credentials is the base's in everything else", () => {
  const overlay = (folder: string): Json =>
    parse(find(build(folder), "ConfigMap", "epp-gateway").data!["deployment"]!) as Json;
  const ours = overlay("envoy/istio/overlays/service");
  const spec = at<Json>(ours, "spec.template.spec")!;
  delete spec["automountServiceAccountToken"];
  const volumes = spec["volumes"] as Json[];
  expect(volumes.pop()!["name"]).toBe("epp-kubernetes-api");
  const sidecar = (spec["containers"] as Json[])[1]!;
  expect(dirname((sidecar["volumeMounts"] as Json[]).pop()!["mountPath"] as string)).toBe(
    "/var/run/secrets/kubernetes.io",
  );
  expect(ours).toEqual(overlay("envoy/istio/base"));
});
