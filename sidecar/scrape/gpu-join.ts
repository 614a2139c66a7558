// Decides which GPUs are an endpoint's, and what its GPU figures are.
import type { Endpoint } from "../discovery/endpoint.ts";
import type { GpuSample } from "./dcgm-page.ts";

/** What configuration says about one endpoint's GPUs. */
export interface GpuMapping {
  /** The exporter's page; "" = any that is scraped for the pool. */
  readonly url: string;
  /** UUIDs, or indexes on the exporter's node as text. Empty = all on that page. */
  readonly gpus: readonly string[];
}

/** The figures of an endpoint, 0–1; NaN = unknown. */
export interface GpuFigures {
  readonly utilization: number;
  readonly memory: number;
}

/** Node name of an endpoint, as Kubernetes labels it. */
const HOSTNAME_LABEL = "kubernetes.io/hostname";

/**
 * The GPUs of `endpoint` among those of one exporter:
 *  1. with a mapping, the GPUs it names;
 *  2. samples that carry a pod: those with the endpoint's name, and its namespace where both are known;
 *  3. samples without a pod: all, if the exporter is the endpoint's own (beside it in the pod), else those of
 * its     node by name.
 * @param own the exporter was asked at the endpoint's own address
 */
export function gpusOf(
  endpoint: Endpoint,
  samples: readonly GpuSample[],
  mapping: GpuMapping | null,
  own: boolean,
): readonly GpuSample[] {
  if (mapping !== null) {
    if (mapping.gpus.length === 0) return samples;
    return samples.filter((gpu) => mapping.gpus.includes(gpu.uuid) || mapping.gpus.includes(gpu.index));
  }
  const node = endpoint.labels.find(([key]) => key === HOSTNAME_LABEL)?.[1] ?? "";
  return samples.filter((gpu) => {
    if (gpu.pod === "") return own || (node !== "" && gpu.hostname === node);
    if (gpu.pod !== endpoint.name) return false;
    return gpu.namespace === "" || endpoint.namespace === "" || gpu.namespace === endpoint.namespace;
  });
}

/**
 * One figure for all GPUs of an endpoint: the largest of each, because a model spread over several GPUs runs
 * at the pace of its busiest one and fails on its fullest (llm-d's dcgm-extractor takes the largest too).
 */
export function figuresOf(gpus: readonly GpuSample[]): GpuFigures {
  let utilization = Number.NaN;
  let memory = Number.NaN;
  for (const gpu of gpus) {
    utilization = larger(utilization, gpu.utilization);
    // What the driver reserves is in neither figure, as in DCGM's own DCGM_FI_DEV_FB_USED_PERCENT.
    const usableMib = gpu.usedMib + gpu.freeMib;
    if (usableMib > 0) memory = larger(memory, gpu.usedMib / usableMib);
  }
  return { utilization, memory };
}

function larger(a: number, b: number): number {
  if (Number.isNaN(a)) return b;
  return Number.isNaN(b) ? a : Math.max(a, b);
}
