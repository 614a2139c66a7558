// The sidecar's page for autoscalers: names, labels and samples that their queries rely on.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { stringify } from "yaml";
import { Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import { makeLogger } from "../../sidecar/log.ts";
import * as pages from "./pages.ts";
import { eventually, FakeControl, FakeModelServer, temporaryFolder } from "./servers.ts";

const RATES = { prefillTokensPerSecond: 10_000, prefillBaseMs: 20, tpotBaseMs: 8, tpotRequestMs: 0.5 };

/** Samples of a page by "name{labels}", those that begin with `prefix`. */
function samples(text: string, prefix: string): Record<string, number> {
  const lines = text.split("\n").filter((line) => line.startsWith(prefix));
  return Object.fromEntries(
    lines.map((line) => {
      const space = line.lastIndexOf(" ");
      return [line.slice(0, space), Number(line.slice(space + 1))];
    }),
  );
}

/** @returns the first page that has all of `wanted` */
async function start(
  endpoints: (object | string)[],
  scaling: object,
  statusAnswer: unknown,
  wanted: readonly string[],
): Promise<Record<string, number>> {
  const folder = temporaryFolder();
  const control = await new FakeControl(join(folder, "control.sock")).start();
  control.statusAnswer = statusAnswer;
  const config = join(folder, "sidecar.yaml");
  writeFileSync(
    config,
    stringify({
      control: { ...control.settings, statusIntervalMs: 100 },
      http: { listen: "127.0.0.1:0" },
      pools: [{ name: "p", discovery: { static: { endpoints } }, scrape: { intervalMs: 20 }, scaling }],
    }),
  );
  const sidecar = new Sidecar(loadSettings({ config }, {}), { log: makeLogger("silent"), environment: {} });
  onTestFinished(() => sidecar.stop());
  await sidecar.start();
  return eventually(`a page had ${wanted.join()}`, async () => {
    const answer = await fetch(`http://127.0.0.1:${sidecar.httpPort}/metrics`);
    const page = samples(await answer.text(), "epp_scaling_");
    return wanted.every((name) => name in page) && page;
  });
}

it("has each role's load, prediction and headroom", async () => {
  const [prefill, decode] = [
    await new FakeModelServer(pages.VLLM_032).start(),
    await new FakeModelServer(pages.VLLM_032).start(),
  ];
  const endpoint = (server: FakeModelServer, role: string): object => {
    const [address, port] = server.address.split(":");
    return { address, port: Number(port), labels: { "llm-d.ai/role": role } };
  };
  const page = await start(
    [endpoint(prefill, "prefill"), endpoint(decode, "decode")],
    { ttftMs: 200, tpotMs: 10 },
    {
      pools: [
        {
          name: "p",
          meanUncachedTokens: 1_000,
          endpoints: [
            { address: prefill.address, inflightRequests: 1, inflightTokens: 2_000, ...RATES },
            { address: decode.address, inflightRequests: 8, inflightTokens: 0, ...RATES },
          ],
        },
      ],
      counters: {},
    },
    [
      'epp_scaling_ttft_slo_ratio{pool="p",role="prefill"}',
      'epp_scaling_waiting_requests{pool="p",role="prefill"}',
      'epp_scaling_waiting_requests{pool="p",role="decode"}',
    ],
  );
  const of = (name: string, role: string): number | undefined =>
    page[`epp_scaling_${name}{pool="p",role="${role}"}`];
  expect(of("endpoints", "all")).toBe(2);
  expect(of("endpoints_ready", "prefill")).toBe(1);
  // The page of the fake engines: 4 wait, 2 run.
  expect(of("waiting_requests", "prefill")).toBe(4);
  expect(of("waiting_requests", "all")).toBe(8);
  expect(of("running_requests", "decode")).toBe(2);
  expect(of("saturation", "decode")).toBeCloseTo(0.8, 10);
  expect(of("inflight_requests", "decode")).toBe(8);
  expect(of("uncached_tokens", "prefill")).toBe(2_000);
  expect(of("uncached_tokens", "decode")).toBe(0);
  expect(of("predicted_ttft_seconds", "prefill")).toBeCloseTo(0.32, 10);
  expect(of("ttft_headroom_seconds", "prefill")).toBeCloseTo(-0.12, 10);
  expect(of("ttft_slo_ratio", "prefill")).toBeCloseTo(1.6, 10);
  expect(of("predicted_tpot_seconds", "decode")).toBeCloseTo(0.012, 10);
  expect(of("tpot_headroom_seconds", "decode")).toBeCloseTo(-0.002, 10);
  expect(of("tpot_slo_ratio", "decode")).toBeCloseTo(1.2, 10);
  expect(Object.keys(page).filter((name) => name.includes('role="encode"'))).toEqual([]);
});

it("has no headroom without wishes, and no sample of what is not known", async () => {
  const server = await new FakeModelServer(pages.VLLM_032).start();
  const known = 'epp_scaling_waiting_requests{pool="p",role="decode"}';
  const page = await start([server.address], {}, { pools: [], counters: {} }, [known]);
  const names = [...new Set(Object.keys(page).map((sample) => sample.slice(0, sample.indexOf("{"))))];
  expect(names.sort()).toEqual([
    "epp_scaling_endpoints",
    "epp_scaling_endpoints_ready",
    "epp_scaling_running_requests",
    "epp_scaling_saturation",
    "epp_scaling_waiting_requests",
  ]);
});
