// How the API server lets a discovery in: rights, tokens, credentials; and that the fake one is strict.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { get } from "node:https";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { parseAllDocuments } from "yaml";
import { accessSource } from "../../sidecar/discovery/kubernetes/credentials.ts";
import { KubernetesDiscovery, type MemberSource } from "../../sidecar/discovery/kubernetes/discovery.ts";
import { CA_FILE, FakeApi } from "./kubernetes-api.ts";
import {
  discover,
  FAST,
  inferencePool,
  kubeconfig,
  pod,
  POOL_MEMBERS,
  RecordingSink,
  SELECTOR_MEMBERS,
} from "./kubernetes-harness.ts";
import { eventually, temporaryFolder } from "./servers.ts";

describe("rights and credentials", () => {
  it("that lack a right are named, and used as soon as it is granted", async () => {
    const api = await new FakeApi().start();
    api.put("pods", pod(1));
    api.forbidden.add("list pods");
    const { sink } = discover(api);
    const error = await eventually("it is refused", () => sink.errors[0]);
    expect(error).toMatchObject({ code: "kubernetes-forbidden" });
    expect(error.message).toMatch(
      /^Kubernetes does not let this service account list pods in namespace models: /,
    );
    expect(error.message).toContain("as under envoy/kubernetes/");
    expect(error.message).toContain('cannot list resource "pods"');
    api.forbidden.clear();
    await eventually("the list came", () => sink.last?.length === 1);
  });

  it("renew a token that the API server no longer accepts", async () => {
    const api = await new FakeApi().start();
    api.put("pods", pod(1));
    const path = kubeconfig(api);
    const { sink } = discover(api, SELECTOR_MEMBERS, { path });
    await eventually("the watch stands", () => api.watched("pods"));
    api.tokens = new Set(["token-2"]);
    api.endWatches();
    await eventually("it is refused", () => sink.errors.length > 0);
    expect(sink.errors[0]).toMatchObject({ code: "kubernetes-unauthorized" });
    kubeconfig(api, "token-2", path);
    api.put("pods", pod(2));
    await eventually("the new token is used", () => sink.last?.length === 2);
    expect(api.count("list", "pods")).toBe(1);
  });

  it("of a pod are its service account's: namespace, authority, and a token that rotates", async () => {
    const api = await new FakeApi().start();
    api.put("pods", pod(1));
    const root = temporaryFolder();
    const folder = join(root, "var/run/secrets/kubernetes.io/serviceaccount");
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "ca.crt"), readFileSync(CA_FILE));
    writeFileSync(join(folder, "namespace"), "models\n");
    writeFileSync(join(folder, "token"), "token-1");
    vi.stubEnv("KUBERNETES_SERVICE_HOST", "127.0.0.1");
    vi.stubEnv("KUBERNETES_SERVICE_PORT", String(api.port));
    vi.stubEnv("KUBECONFIG", "");
    onTestFinished(() => void vi.unstubAllEnvs());
    const access = accessSource({ kubeconfig: null, context: null }, process.env, root);
    const settings = { kind: "kubernetes", namespace: null, kubeconfig: null, context: null } as const;
    const sink = new RecordingSink();
    const discovery = new KubernetesDiscovery(
      { ...settings, members: SELECTOR_MEMBERS },
      { pool: "p", access, timing: FAST },
    );
    discovery.start(sink);
    onTestFinished(() => discovery.stop());
    await eventually("the watch stands", () => sink.last?.length === 1 && api.watched("pods"));
    writeFileSync(join(folder, "token"), "token-2");
    api.tokens = new Set(["token-2"]);
    api.endWatches();
    api.put("pods", pod(2));
    await eventually("the new token is used", () => sink.last?.length === 2);
  });

  it("that do not exist, or name no cluster, are reported with their place", async () => {
    const api = await new FakeApi().start();
    const { sink } = discover(api, SELECTOR_MEMBERS, { path: "/no/such/kubeconfig" });
    const missing = await eventually("it is reported", () => sink.errors[0]);
    expect(missing).toMatchObject({ code: "kubernetes-config" });
    expect(missing.message).toContain("cannot reach Kubernetes by /no/such/kubeconfig: ENOENT");
    const path = join(temporaryFolder(), "config");
    writeFileSync(path, "{apiVersion: v1, kind: Config, clusters: [], users: [], contexts: []}");
    const { sink: empty } = discover(api, SELECTOR_MEMBERS, { path });
    const error = await eventually("it is reported", () => empty.errors[0]);
    expect(error.message).toContain('context "" does not name a cluster and a user');
    kubeconfig(api, "token-1", path);
    await eventually("it is read again", () => empty.last !== undefined);
  });

  const service: MemberSource = { kind: "service", name: "qwen", ports: [] };
  it.each([
    ["inference-pool", POOL_MEMBERS, 4],
    ["service", service, 3],
    ["selector", SELECTOR_MEMBERS, 1],
  ])("of envoy/kubernetes/%s/rbac.yaml are exactly those that are used", async (source, members, kinds) => {
    const api = await new FakeApi().start();
    api.put("inferencepools", inferencePool());
    api.put("services", { metadata: { name: "qwen" }, spec: { selector: { app: "vllm" } } });
    discover(api, members);
    await eventually("all is watched", () => api.watchers.size === kinds);
    const used = new Set(api.requests.map(({ verb, plural }) => `${verb} ${plural}`));
    const path = fileURLToPath(new URL(`../../envoy/kubernetes/${source}/rbac.yaml`, import.meta.url));
    const documents = parseAllDocuments(readFileSync(path, "utf8")).map((one) => one.toJS() as Role);
    const role = documents.find(({ kind }) => kind === "Role")!;
    const granted = role.rules.flatMap(({ resources, verbs }) =>
      resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`)),
    );
    expect([...granted].sort()).toEqual([...used].sort());
    // A right on one named object covers a request that selects it by name.
    for (const { resources, resourceNames } of role.rules) {
      const requests = api.requests.filter(({ plural }) => resources.includes(plural));
      const named = requests.every(({ query }) => query.get("fieldSelector") === "metadata.name=qwen");
      expect(named).toBe(resourceNames !== undefined);
    }
  });
});

interface Role {
  readonly kind: string;
  readonly rules: { resources: string[]; verbs: string[]; resourceNames?: string[] }[];
}

describe("the API server of these tests", () => {
  const ask = async (path: string, token = "token-1"): Promise<{ api: FakeApi; status: number }> => {
    const api = await new FakeApi().start();
    const status = await new Promise<number>((resolve, reject) => {
      const headers = { accept: "application/json", authorization: `Bearer ${token}` };
      const options = { port: api.port, host: "127.0.0.1", path, headers, ca: readFileSync(CA_FILE) };
      get(options, (response) => {
        response.resume();
        resolve(response.statusCode!);
        response.destroy();
      }).on("error", reject);
    });
    return { api, status };
  };

  it.each([
    ["an unknown parameter", "/api/v1/namespaces/models/pods?resourceVersoin=1"],
    ["a selector that is none", "/api/v1/namespaces/models/pods?labelSelector=app"],
    ["a field it cannot select by", "/api/v1/namespaces/models/pods?fieldSelector=spec.x%3D1"],
    ["a watch from nowhere", "/api/v1/namespaces/models/pods?watch=true&timeoutSeconds=1"],
    ["a watch without an end", "/api/v1/namespaces/models/pods?watch=true&resourceVersion=1"],
    [
      "a version of the future",
      "/api/v1/namespaces/models/pods?watch=true&timeoutSeconds=1&resourceVersion=999",
    ],
  ])("refuses %s", async (_what, path) => {
    const { api, status } = await ask(path);
    expect(status).toBe(400);
    expect(api.violations).toHaveLength(1);
  });

  it("knows its kinds, its namespace and its tokens", async () => {
    expect((await ask("/api/v1/namespaces/models/pods?limit=5")).status).toBe(200);
    expect((await ask("/api/v1/namespaces/models/pods", "other")).status).toBe(401);
    expect((await ask("/api/v1/namespaces/other/pods")).status).toBe(403);
    expect((await ask("/api/v1/namespaces/models/inferencepools")).status).toBe(404);
    expect((await ask("/api/v1/namespaces/models/pods?continue=pods-0-100:500")).status).toBe(410);
  });
});
