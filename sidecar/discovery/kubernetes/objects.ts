// What is read of Kubernetes objects: the fields that discovery needs, checked; everything else is dropped, so
// that thousands of pods take little memory.
import { z } from "zod";
import { TARGET_PORTS_MAX } from "./limits.ts";

/** InferencePool, GIE's v1. */
export const POOL_API_VERSION = "inference.networking.k8s.io/v1";
/**
 * Annotation with the ports of a pod that serve, a comma list; without it all of the pool's do. The second name
 * is GIE's older one (llm-d-router pkg/epp/util/pod @ ebab6879).
 */
const ACTIVE_PORTS = ["llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports"];

/** Part of any object. A bookmark's has no name. */
export const metadataSchema = z.object({
  name: z.string().default(""),
  resourceVersion: z.string().min(1),
});

/** One page of a list. */
export const listPageSchema = z.object({
  metadata: z.object({ resourceVersion: z.string().min(1), continue: z.string().optional() }),
  items: z.array(z.unknown()).nullish(),
});

const texts = z.record(z.string(), z.string());
const portNumber = z.int().min(1).max(65_535);

const podSchema = z.object({
  metadata: z.object({
    name: z.string().min(1),
    namespace: z.string().default(""),
    labels: texts.nullish(),
    annotations: texts.nullish(),
    deletionTimestamp: z.string().nullish(),
  }),
  status: z
    .object({
      phase: z.string().optional(),
      podIP: z.string().optional(),
      hostIP: z.string().optional(),
      conditions: z.array(z.object({ type: z.string(), status: z.string() })).nullish(),
    })
    .optional(),
});

/** A pod, as far as it matters. */
export interface PodView {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  /** "" = it has none yet. */
  readonly ip: string;
  readonly hostIp: string;
  /** Ports that serve; null = all. */
  readonly activePorts: ReadonlySet<number> | null;
  readonly ready: boolean;
  /** It was told to end. */
  readonly ending: boolean;
  /** Its containers have ended. */
  readonly ended: boolean;
}

/** @returns null when the object is not a pod */
export function readPod(object: unknown): PodView | null {
  const checked = podSchema.safeParse(object);
  if (!checked.success) return null;
  const { metadata, status } = checked.data;
  const ready = status?.conditions?.find(({ type }) => type === "Ready")?.status === "True";
  return {
    name: metadata.name,
    namespace: metadata.namespace,
    labels: metadata.labels ?? {},
    ip: status?.podIP ?? "",
    hostIp: status?.hostIP ?? "",
    activePorts: activePortsOf(metadata.annotations ?? {}),
    ready,
    ending: metadata.deletionTimestamp != null,
    ended: status?.phase === "Succeeded" || status?.phase === "Failed",
  };
}

function activePortsOf(annotations: Readonly<Record<string, string>>): ReadonlySet<number> | null {
  const list = ACTIVE_PORTS.map((key) => annotations[key]).find((value) => value !== undefined);
  if (list === undefined) return null;
  return new Set(list.split(",").map((port) => Number.parseInt(port.trim(), 10)));
}

const inferencePoolSchema = z.object({
  spec: z.object({
    selector: z.object({ matchLabels: texts }),
    targetPorts: z
      .array(z.object({ number: portNumber }))
      .min(1)
      .max(TARGET_PORTS_MAX),
    appProtocol: z.enum(["http", "kubernetes.io/h2c"]).default("http"),
  }),
});

/** An InferencePool, as far as it matters. */
export interface PoolView {
  readonly matchLabels: Readonly<Record<string, string>>;
  readonly ports: readonly number[];
  readonly appProtocol: "http" | "kubernetes.io/h2c";
}

/** @returns null when the object is not an InferencePool v1 */
export function readInferencePool(object: unknown): PoolView | null {
  const checked = inferencePoolSchema.safeParse(object);
  if (!checked.success) return null;
  const { selector, targetPorts, appProtocol } = checked.data.spec;
  return {
    matchLabels: selector.matchLabels,
    ports: targetPorts.map(({ number }) => number),
    appProtocol,
  };
}

const serviceSchema = z.object({ spec: z.object({ selector: texts.nullish() }) });

/** A Service: only which pods it selects; null = the slices are made by someone else. */
export interface ServiceView {
  readonly selector: Readonly<Record<string, string>> | null;
}

/** @returns null when the object is not a Service */
export function readService(object: unknown): ServiceView | null {
  const checked = serviceSchema.safeParse(object);
  if (!checked.success) return null;
  const { selector } = checked.data.spec;
  return { selector: selector != null && Object.keys(selector).length > 0 ? selector : null };
}

const sliceSchema = z.object({
  metadata: z.object({ name: z.string().min(1), namespace: z.string().default("") }),
  addressType: z.enum(["IPv4", "IPv6", "FQDN"]),
  ports: z.array(z.object({ name: z.string().nullish(), port: portNumber.nullish() })).nullish(),
  endpoints: z
    .array(
      z.object({
        addresses: z.array(z.string()).min(1),
        conditions: z
          .object({
            ready: z.boolean().nullish(),
            serving: z.boolean().nullish(),
            terminating: z.boolean().nullish(),
          })
          .nullish(),
        targetRef: z.object({ kind: z.string().optional(), name: z.string().optional() }).nullish(),
      }),
    )
    .nullish(),
});

/** An EndpointSlice, as far as it matters. */
export interface SliceView {
  readonly namespace: string;
  readonly addressType: "IPv4" | "IPv6" | "FQDN";
  readonly ports: readonly { readonly name: string; readonly port: number }[];
  readonly endpoints: readonly SliceEndpoint[];
}

/** One entry of a slice. All of its addresses are the same endpoint: the first counts. */
export interface SliceEndpoint {
  readonly address: string;
  readonly ready: boolean;
  readonly serving: boolean;
  /** Pod behind it; "" = none is named. */
  readonly pod: string;
}

/** @returns null when the object is not an EndpointSlice */
export function readSlice(object: unknown): SliceView | null {
  const checked = sliceSchema.safeParse(object);
  if (!checked.success) return null;
  const { metadata, addressType, ports, endpoints } = checked.data;
  return {
    namespace: metadata.namespace,
    addressType,
    ports: (ports ?? []).flatMap(({ name, port }) => (port == null ? [] : [{ name: name ?? "", port }])),
    endpoints: (endpoints ?? []).map(({ addresses, conditions, targetRef }) => {
      // An absent condition means yes (discovery.k8s.io/v1 EndpointConditions).
      const ready = conditions?.ready ?? true;
      return {
        address: addresses[0]!,
        ready: ready && conditions?.terminating !== true,
        serving: conditions?.serving ?? ready,
        pod: targetRef?.kind === "Pod" ? (targetRef.name ?? "") : "",
      };
    }),
  };
}
