// Reads an NVIDIA DCGM exporter's page: utilisation and framebuffer of each GPU, and whose pod uses it.
import { GPUS_MAX } from "../limits.ts";
import { labelValue, MetricLocator, type MetricLine } from "./page.ts";

/** DCGM writes values near 2^63 for "blank": anything above these is not a figure. */
const PERCENT_MAX = 100;
const MEBIBYTES_MAX = 1e9;

/** One GPU, or one MIG instance of it. */
export interface GpuSample {
  readonly uuid: string;
  /** Index on its node, as text. */
  readonly index: string;
  readonly hostname: string;
  /** Pod that uses the GPU; "" = not told. */
  readonly pod: string;
  readonly namespace: string;
  /** 0–1; NaN = not told. */
  utilization: number;
  /** MiB; NaN = not told. */
  usedMib: number;
  freeMib: number;
}

type Figure = "utilization" | "usedMib" | "freeMib";

/** The exporter's metrics and their figure in a GpuSample. */
const METRICS: readonly (readonly [string, Figure])[] = [
  ["DCGM_FI_DEV_GPU_UTIL", "utilization"],
  ["DCGM_FI_DEV_FB_USED", "usedMib"],
  ["DCGM_FI_DEV_FB_FREE", "freeMib"],
];

/** The pages of one exporter. */
export class DcgmPage {
  private readonly metrics = METRICS.map(([name, figure]) => ({ locator: new MetricLocator(name), figure }));

  /** @returns the GPUs on the page, at most GPUS_MAX; empty when it has none of the metrics */
  read(page: Buffer): readonly GpuSample[] {
    const gpus = new Map<string, GpuSample>();
    for (const { locator, figure } of this.metrics) {
      locator.read(page, (line, bytes) => {
        const gpu = gpuOf(gpus, bytes, line);
        if (gpu !== null) setFigure(gpu, figure, line.value);
      });
    }
    return [...gpus.values()];
  }
}

function setFigure(gpu: GpuSample, figure: Figure, value: number): void {
  if (figure === "utilization") {
    if (value >= 0 && value <= PERCENT_MAX) gpu.utilization = value / PERCENT_MAX;
  } else if (value >= 0 && value <= MEBIBYTES_MAX) {
    gpu[figure] = value;
  }
}

/**
 * The GPU of a line. A Prometheus that relabels, such as one that federates exporters, moves the exporter's
 * own `pod` and `namespace` to `exported_pod` and `exported_namespace`; those are the GPU's user then.
 */
function gpuOf(gpus: Map<string, GpuSample>, page: Buffer, line: MetricLine): GpuSample | null {
  const label = (...names: readonly string[]): string => {
    for (const name of names) {
      const value = labelValue(page, line, name);
      if (value !== null && value !== "") return value;
    }
    return "";
  };
  const uuid = label("UUID", "uuid");
  const index = label("gpu");
  const hostname = label("Hostname", "hostname");
  const pod = label("exported_pod", "pod", "pod_name");
  const namespace = label("exported_namespace", "namespace", "pod_namespace");
  const key = `${uuid === "" ? `${hostname}/${index}` : uuid}/${label("GPU_I_ID")}/${namespace}/${pod}`;
  const known = gpus.get(key);
  if (known !== undefined) return known;
  if (gpus.size >= GPUS_MAX) return null;
  const gpu: GpuSample = {
    uuid,
    index,
    hostname,
    pod,
    namespace,
    utilization: Number.NaN,
    usedMib: Number.NaN,
    freeMib: Number.NaN,
  };
  gpus.set(key, gpu);
  return gpu;
}
