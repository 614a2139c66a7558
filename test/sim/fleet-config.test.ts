// Endpoints from the command line, a fleet file, or an EndpointPickerConfig.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { addressText, FleetConfigError, fleetFromFile, fleetFromList } from "../../cli/fleet-config.ts";

let folder = "";
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), "epp-fleet-"))));
afterAll(() => rm(folder, { recursive: true, force: true }));

async function file(name: string, text: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text);
  return path;
}

describe("fleetFromList", () => {
  it("takes IPv4, IPv6 and names", async () => {
    const { endpoints } = await fleetFromList("10.0.0.1:8000, [::1]:8001,localhost:8002");
    expect(endpoints.map(addressText).slice(0, 2)).toEqual(["10.0.0.1:8000", "[::1]:8001"]);
    expect(endpoints.slice(2).map(({ port }) => port)).toContain(8002);
  });

  it.each(["", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:99999", "10.0.0.1:8000,,", "no.such.host.invalid:1"])(
    "refuses %j",
    async (list) => {
      await expect(fleetFromList(list)).rejects.toThrow(FleetConfigError);
    },
  );
});

describe("fleetFromFile", () => {
  it("reads endpoints, picker and sidecar fields of a fleet file", async () => {
    const path = await file(
      "fleet.yaml",
      `endpoints:
  - 10.0.0.1:8000
  - { address: 10.0.0.2, port: "8001", labels: { llm-d.ai/role: decode } }
picker:
  kind: EndpointPickerConfig
  plugins: [{ type: queue-scorer }]
sidecar:
  scrape: { intervalMs: 200 }
  kvEvents: { replayPort: 5657 }
`,
    );
    const fleet = await fleetFromFile(path);
    expect(fleet.endpoints).toEqual([
      { address: "10.0.0.1", port: 8000 },
      { address: "10.0.0.2", port: 8001, labels: { "llm-d.ai/role": "decode" } },
    ]);
    expect(JSON.parse(fleet.pickerConfig!).plugins).toEqual([{ type: "queue-scorer" }]);
    expect(fleet.sidecarPool).toEqual({
      scrape: { intervalMs: 200 },
      kvEvents: { replayPort: 5657 },
    });
  });

  it("reads the endpoints file of an EndpointPickerConfig, relative to it", async () => {
    await file("endpoints.yaml", 'endpoints: [{ name: a, address: 10.0.0.3, port: "8000" }]');
    const path = await file(
      "picker.yaml",
      `apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
  - { type: file-discovery, parameters: { path: endpoints.yaml } }
  - { type: queue-scorer }
`,
    );
    const fleet = await fleetFromFile(path);
    expect(fleet.endpoints).toEqual([{ name: "a", address: "10.0.0.3", port: 8000 }]);
    expect(JSON.parse(fleet.pickerConfig!).kind).toBe("EndpointPickerConfig");
  });

  it.each([
    ["a missing file", null, /missing\.yaml: ENOENT/],
    ["broken YAML", "endpoints: [", /broken YAML|Flow sequence|at line/],
    ["no endpoints", "endpoints: []", /is not valid:\n {2}endpoints: \[\]: expected at least one endpoint/],
    [
      "an unknown field",
      "endpoints: ['10.0.0.1:1']\nport: 80",
      /unknown field "port": expected one of endpoints/,
    ],
    [
      "an endpoint's unknown field",
      "endpoints: [{address: a, port: 1, role: x}]",
      /endpoints\[0\]: unknown field "role"/,
    ],
    ["no port", "endpoints: [{address: a}]", /endpoints\[0\]\.port: is missing: expected a port number/],
    [
      "a bad sidecar field",
      "endpoints: ['a:1']\nsidecar: {scrape: {timeoutMs: 1s}}",
      /sidecar\.scrape\.timeoutMs: "1s"/,
    ],
    ["a picker without file-discovery", "kind: EndpointPickerConfig\nplugins: []", /file-discovery/],
  ])("refuses %s and says where", async (name, text, message) => {
    const path = join(folder, "missing.yaml");
    const chosen = text === null ? path : await file(`${name.replaceAll(" ", "-")}.yaml`, text);
    const read = fleetFromFile(chosen);
    await expect(read).rejects.toThrow(FleetConfigError);
    await expect(read).rejects.toThrow(message);
  });
});
