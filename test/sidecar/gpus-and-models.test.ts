// DCGM pages and their join to endpoints; lists of models.
import { describe, expect, it } from "vitest";
import { MODELS_MAX } from "../../assembly/wire/limits.ts";
import { type Endpoint, makeEndpoint } from "../../sidecar/discovery/endpoint.ts";
import { DcgmPage } from "../../sidecar/scrape/dcgm-page.ts";
import { figuresOf, gpusOf } from "../../sidecar/scrape/gpu-join.ts";
import { parseModels } from "../../sidecar/scrape/models-page.ts";
import { DCGM } from "./pages.ts";

function endpoint(name: string, namespace = "", labels: Record<string, string> = {}): Endpoint {
  return makeEndpoint({ address: "10.0.0.1", port: 8_000, name, namespace, labels }) as Endpoint;
}

const samples = new DcgmPage().read(DCGM);
const uuids = (found: readonly { uuid: string }[]): string[] => found.map(({ uuid }) => uuid);

describe("a DCGM page", () => {
  it("is read into one sample a GPU, without blank values", () => {
    expect(samples).toHaveLength(4);
    expect(samples[0]).toMatchObject({
      uuid: "GPU-0",
      index: "0",
      hostname: "node-1",
      pod: "vllm-0",
      utilization: 0.92,
    });
    expect(samples[0]).toMatchObject({ usedMib: 60_000, freeMib: 20_000 });
    expect(samples[3]!.utilization).toBeNaN();
  });

  it("uses the labels that a relabelling Prometheus leaves", () => {
    const page = Buffer.from(
      'DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="G",exported_namespace="prod",exported_pod="vllm-7",namespace="monitoring",pod="dcgm-x"} 10\n',
    );
    expect(new DcgmPage().read(page)[0]).toMatchObject({ pod: "vllm-7", namespace: "prod" });
  });

  it("has no samples when it is another page", () => {
    expect(new DcgmPage().read(Buffer.from("up 1\n"))).toEqual([]);
  });
});

describe("joining GPUs to an endpoint", () => {
  it("takes the GPUs of its pod, by namespace where both are known", () => {
    expect(uuids(gpusOf(endpoint("vllm-0", "prod"), samples, null, false))).toEqual(["GPU-0", "GPU-1"]);
    expect(uuids(gpusOf(endpoint("vllm-0", "test"), samples, null, false))).toEqual(["GPU-2"]);
    expect(uuids(gpusOf(endpoint("vllm-0"), samples, null, false))).toEqual(["GPU-0", "GPU-1", "GPU-2"]);
    expect(uuids(gpusOf(endpoint("vllm-1", "prod"), samples, null, false))).toEqual([]);
  });

  it("takes GPUs without a pod from its own exporter, or from its node", () => {
    expect(uuids(gpusOf(endpoint("e"), samples, null, true))).toEqual(["GPU-3"]);
    const onNode = endpoint("e", "", { "kubernetes.io/hostname": "node-1" });
    expect(uuids(gpusOf(onNode, samples, null, false))).toEqual(["GPU-3"]);
    const elsewhere = endpoint("e", "", { "kubernetes.io/hostname": "node-2" });
    expect(uuids(gpusOf(elsewhere, samples, null, false))).toEqual([]);
  });

  it("takes what a mapping names, by UUID or index", () => {
    const mapping = { url: "", gpus: ["GPU-1", "2"] };
    expect(uuids(gpusOf(endpoint("e"), samples, mapping, false))).toEqual(["GPU-1", "GPU-2"]);
    expect(gpusOf(endpoint("e"), samples, { url: "", gpus: [] }, false)).toHaveLength(4);
  });

  it("gives the busiest and the fullest GPU's figures", () => {
    expect(figuresOf(samples.slice(0, 2))).toEqual({ utilization: 0.92, memory: 0.75 });
    expect(figuresOf(samples.slice(2, 3))).toEqual({ utilization: 0.07, memory: Number.NaN });
    expect(figuresOf([])).toEqual({ utilization: Number.NaN, memory: Number.NaN });
  });
});

describe("a list of models", () => {
  const parse = (document: unknown): ReturnType<typeof parseModels> =>
    parseModels(Buffer.from(JSON.stringify(document)));

  it("gives base models before the adapters that name a parent", () => {
    const data = [{ id: "lora-a", parent: "base" }, { id: "base", parent: null }, { id: "other" }];
    expect(parse({ object: "list", data })).toEqual({
      names: ["base", "other", "lora-a"],
      adapters: new Map([["lora-a", "base"]]),
      dropped: 0,
    });
    const both = parse({ data: [{ id: "a", parent: "base" }, { id: "a" }] });
    expect([both.names, [...both.adapters]]).toEqual([["a"], []]);
  });

  it("leaves out and counts names that do not fit", () => {
    const data = Array.from({ length: MODELS_MAX + 3 }, (_, index) => ({ id: `m${index}` }));
    const { names, dropped } = parse({ data: [...data, { id: "x".repeat(257) }, { id: 7 }, null] });
    expect(names).toHaveLength(MODELS_MAX);
    expect(dropped).toBe(6);
    expect(parse({ data: data.slice(0, MODELS_MAX) }).dropped).toBe(0);
  });

  it.each(["", "[]", "{}", '{"data":{}}', "null", "<html>"])("refuses %j", (text) => {
    expect(() => parseModels(Buffer.from(text))).toThrow(/model list/);
  });
});
