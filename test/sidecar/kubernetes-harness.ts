// What the tests of Kubernetes discovery have in common: objects, a kubeconfig, a sink, a discovery at work.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import type { Endpoint } from "../../sidecar/discovery/endpoint.ts";
import { accessSource } from "../../sidecar/discovery/kubernetes/credentials.ts";
import {
  KubernetesDiscovery,
  type KubernetesSettings,
  type MemberSource,
} from "../../sidecar/discovery/kubernetes/discovery.ts";
import { KUBERNETES_TIMING, type KubernetesTiming } from "../../sidecar/discovery/kubernetes/limits.ts";
import type { PoolPolicy } from "../../sidecar/policy.ts";
import { type ApiObject, CA_FILE, type FakeApi, NAMESPACE } from "./kubernetes-api.ts";
import { temporaryFolder } from "./servers.ts";

/** Times short enough for tests. A test ends watches that have only just begun, so none counts as short. */
export const FAST: KubernetesTiming = {
  ...KUBERNETES_TIMING,
  backoffMinMs: 20,
  backoffMaxMs: 80,
  watchShortMs: 0,
  settleMs: 5,
};

export const POOL_MEMBERS: MemberSource = { kind: "inferencePool", name: "qwen", policyGroup: "llm-d.ai" };
export const SELECTOR_MEMBERS: MemberSource = {
  kind: "selector",
  matchLabels: { app: "vllm" },
  ports: [8_000],
};

/** Whatever a discovery reported, in order. */
export class RecordingSink {
  readonly lists: (readonly Endpoint[])[] = [];
  readonly errors: Error[] = [];
  readonly policies: PoolPolicy[] = [];
  policyError: Error | null = null;

  apply(endpoints: readonly Endpoint[]): void {
    this.lists.push(endpoints);
  }

  failed(error: Error): void {
    this.errors.push(error);
  }

  policy(policy: PoolPolicy | null, error: Error | null): void {
    if (policy !== null) this.policies.push(policy);
    this.policyError = error;
  }

  get last(): readonly Endpoint[] | undefined {
    return this.lists.at(-1);
  }

  get addresses(): string[] | undefined {
    return this.last?.map(({ address }) => address);
  }

  find(address: string): Endpoint | undefined {
    return this.last?.find((endpoint) => endpoint.address === address);
  }
}

/** Writes a kubeconfig for the API server. @returns its path */
export function kubeconfig(
  api: FakeApi,
  token = "token-1",
  path = join(temporaryFolder(), "config"),
): string {
  const config = {
    apiVersion: "v1",
    kind: "Config",
    "current-context": "test",
    contexts: [{ name: "test", context: { cluster: "test", user: "test", namespace: NAMESPACE } }],
    clusters: [
      {
        name: "test",
        cluster: { server: `https://127.0.0.1:${api.port}`, "certificate-authority": CA_FILE },
      },
    ],
    users: [{ name: "test", user: { token } }],
  };
  writeFileSync(path, JSON.stringify(config));
  return path;
}

/** Starts a discovery that is stopped after the test, which must not have broken the API's rules. */
export function discover(
  api: FakeApi,
  members: MemberSource = SELECTOR_MEMBERS,
  more: { timing?: Partial<KubernetesTiming>; path?: string } = {},
): { sink: RecordingSink; discovery: KubernetesDiscovery } {
  const settings: KubernetesSettings = {
    kind: "kubernetes",
    namespace: null,
    kubeconfig: more.path ?? kubeconfig(api),
    context: null,
    members,
  };
  const sink = new RecordingSink();
  const discovery = new KubernetesDiscovery(settings, {
    pool: "qwen",
    access: accessSource(settings),
    timing: { ...FAST, ...more.timing },
  });
  discovery.start(sink);
  onTestFinished(() => {
    discovery.stop();
    expect(api.violations).toEqual([]);
  });
  return { sink, discovery };
}

/** A pod of the label app=vllm with the address 10.0.x.y, ready unless told otherwise. */
export function pod(
  index: number,
  more: {
    ready?: boolean;
    deleted?: boolean;
    phase?: string;
    ip?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  } = {},
): ApiObject {
  return {
    metadata: {
      name: `vllm-${String(index).padStart(4, "0")}`,
      labels: { app: "vllm", ...more.labels },
      ...(more.annotations === undefined ? {} : { annotations: more.annotations }),
      ...(more.deleted === true ? { deletionTimestamp: "2026-01-01T00:00:00Z" } : {}),
    },
    spec: { containers: [] },
    status: {
      phase: more.phase ?? "Running",
      podIP: more.ip ?? `10.0.${index >> 8}.${index & 255}`,
      hostIP: "192.168.0.1",
      conditions: [
        { type: "Initialized", status: "True" },
        { type: "Ready", status: more.ready === false ? "False" : "True" },
      ],
    },
  };
}

/** The InferencePool "qwen" over app=vllm. */
export function inferencePool(ports: number[] = [8_000], more: Record<string, unknown> = {}): ApiObject {
  return {
    metadata: { name: "qwen" },
    spec: {
      selector: { matchLabels: { app: "vllm" } },
      targetPorts: ports.map((number) => ({ number })),
      endpointPickerRef: { name: "epp", port: { number: 9_002 } },
      ...more,
    },
  };
}
