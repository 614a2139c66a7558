// vLLM's LoRA info metric: the adapters that are active and waiting, from the newest of its label sets.
import { LORAS_MAX } from "../../assembly/wire/limits.ts";
import { MODEL_NAME_BYTES_MAX } from "../limits.ts";
import type { MetricSpec } from "./engines.ts";
import { labelValue, MetricLocator, type MetricLine } from "./page.ts";

/**
 * `vllm:lora_requests_info{max_lora,running_lora_adapters,waiting_lora_adapters}`: the value is the Unix time
 * of the label set, and old label sets stay on the page, so the line with the largest value is the present
 * state.
 */
export class LoraMetric {
  max = 0;
  active: readonly string[] = [];
  waiting: readonly string[] = [];
  /** Adapters left out because there are more than LORAS_MAX or their names are too long, since start. */
  dropped = 0;
  readonly locator: MetricLocator;
  private labels: Buffer = Buffer.alloc(0);
  private readonly newest: MetricLine = { labelsStart: 0, labelsEnd: 0, value: 0 };

  constructor(spec: MetricSpec) {
    this.locator = new MetricLocator(spec.name);
  }

  /** @returns whether the page has the metric */
  read(page: Buffer): boolean {
    this.newest.value = Number.NEGATIVE_INFINITY;
    if (this.locator.read(page, this.take) === 0) return false;
    const { labelsStart, labelsEnd } = this.newest;
    // The label set rarely changes: comparing bytes costs less than reading names.
    if (
      page.compare(this.labels, 0, this.labels.length, labelsStart, labelsEnd) !== 0 ||
      this.labels.length === 0
    ) {
      this.labels = Buffer.from(page.subarray(labelsStart, labelsEnd));
      const max = Number(labelValue(page, this.newest, "max_lora") ?? "0");
      this.max = Number.isFinite(max) && max > 0 ? Math.floor(max) : 0;
      this.active = this.names(labelValue(page, this.newest, "running_lora_adapters") ?? "");
      this.waiting = this.names(labelValue(page, this.newest, "waiting_lora_adapters") ?? "");
    }
    return true;
  }

  private readonly take = (line: MetricLine): void => {
    if (line.value < this.newest.value) return;
    this.newest.value = line.value;
    this.newest.labelsStart = line.labelsStart;
    this.newest.labelsEnd = line.labelsEnd;
  };

  private names(list: string): readonly string[] {
    const names = list
      .split(",")
      .map((name) => name.trim())
      .filter((name) => name !== "");
    const kept = names.filter((name) => Buffer.byteLength(name) <= MODEL_NAME_BYTES_MAX).slice(0, LORAS_MAX);
    this.dropped += names.length - kept.length;
    return kept;
  }
}
