// Which endpoints the objects of a cluster make: pools, services, selectors; ranks, labels, readiness, draining.
import { describe, expect, it } from "vitest";
import { ROLE_DECODE, ROLE_PREFILL } from "../../assembly/wire/snapshot.ts";
import type { MemberSource } from "../../sidecar/discovery/kubernetes/discovery.ts";
import { type ApiObject, FakeApi } from "./kubernetes-api.ts";
import { discover, inferencePool, pod, POOL_MEMBERS } from "./kubernetes-harness.ts";
import { eventually } from "./servers.ts";

describe("an InferencePool", () => {
  it("has the pods of its selector, with their labels, roles and nodes", async () => {
    const api = await new FakeApi().start();
    api.put("inferencepools", inferencePool());
    api.put("pods", pod(1, { labels: { "llm-d.ai/role": "prefill", "topology.kubernetes.io/zone": "a" } }));
    api.put("pods", pod(2));
    api.put("pods", pod(3, { labels: { app: "other" } }));
    const { sink } = discover(api, POOL_MEMBERS);
    await eventually("the pool was read", () => sink.last?.length === 2);
    expect(sink.addresses).toEqual(["10.0.0.1:8000", "10.0.0.2:8000"]);
    expect(sink.find("10.0.0.1:8000")).toMatchObject({
      name: "vllm-0001",
      namespace: "models",
      nodeAddress: "192.168.0.1",
      roles: ROLE_PREFILL,
      rank: null,
      draining: false,
    });
    expect(sink.find("10.0.0.1:8000")?.labels).toContainEqual(["topology.kubernetes.io/zone", "a"]);
    expect(sink.find("10.0.0.2:8000")).toMatchObject({ roles: ROLE_DECODE });
    expect(sink.errors).toEqual([]);
  });

  it("makes a rank of each of several ports, and leaves out those a pod does not serve", async () => {
    const api = await new FakeApi().start();
    api.put("inferencepools", inferencePool([8_000, 8_001, 8_002]));
    api.put("pods", pod(1));
    api.put("pods", pod(2, { annotations: { "llm-d.ai/active-ports": "8001, 8002,9999,x" } }));
    api.put("pods", pod(3, { annotations: { "inference.networking.k8s.io/active-ports": "8000" } }));
    const { sink } = discover(api, POOL_MEMBERS);
    await eventually("the pool was read", () => sink.last !== undefined);
    expect(sink.last!.map(({ address, rank }) => `${address} ${rank}`)).toEqual([
      "10.0.0.1:8000 0",
      "10.0.0.1:8001 1",
      "10.0.0.1:8002 2",
      "10.0.0.2:8001 1",
      "10.0.0.2:8002 2",
      "10.0.0.3:8000 0",
    ]);
  });

  it("follows its selector and ports", async () => {
    const api = await new FakeApi().start();
    api.put("inferencepools", inferencePool());
    api.put("pods", pod(1));
    api.put("pods", pod(2, { labels: { app: "sglang" } }));
    const { sink } = discover(api, POOL_MEMBERS);
    await eventually("the pool was read", () => sink.addresses?.join() === "10.0.0.1:8000");
    api.put("inferencepools", inferencePool([9_000], { selector: { matchLabels: { app: "sglang" } } }));
    await eventually("the pool changed", () => sink.addresses?.join() === "10.0.0.2:9000");
    expect(sink.lists.every((list) => list.length === 1)).toBe(true);
  });

  it("that does not exist is waited for, and one that is deleted keeps its members", async () => {
    const api = await new FakeApi().start();
    api.put("pods", pod(1));
    const { sink } = discover(api, POOL_MEMBERS);
    const missing = await eventually("it is missed", () => sink.errors[0]);
    expect(missing).toMatchObject({
      code: "kubernetes-object",
      message: "InferencePool models/qwen does not exist: the last endpoints stay",
    });
    expect(sink.lists).toEqual([]);
    api.put("inferencepools", inferencePool());
    await eventually("it is there", () => sink.addresses?.join() === "10.0.0.1:8000");
    const before = sink.errors.length;
    api.remove("inferencepools", "qwen");
    await eventually("its end is reported", () => sink.errors.length > before);
    api.put("pods", pod(2));
    await eventually("its pods are still followed", () => sink.last?.length === 2);
  });

  it("that cannot be read says so and changes nothing", async () => {
    const api = await new FakeApi().start();
    api.put("inferencepools", inferencePool([8_000, 8_001, 8_002, 8_003, 8_004, 8_005, 8_006, 8_007, 8_008]));
    const { sink, discovery } = discover(api, POOL_MEMBERS);
    const error = await eventually("it is refused", () => sink.errors[0]);
    expect(error.message).toContain("InferencePool models/qwen has fields that cannot be used");
    expect(discovery.figures().get("inferencepools_refused")).toBe(1);
    expect(sink.lists).toEqual([]);
  });
});

describe("a pod", () => {
  it("is listed once ready, drains when told to end, and is gone when deleted", async () => {
    const api = await new FakeApi().start();
    api.put("pods", pod(1, { ready: false }));
    const { sink } = discover(api);
    await eventually("the pods were read", () => sink.last !== undefined);
    expect(sink.last).toEqual([]);
    api.put("pods", pod(1));
    await eventually("it is ready", () => sink.find("10.0.0.1:8000")?.draining === false);
    api.put("pods", pod(1, { deleted: true }));
    await eventually("it drains", () => sink.find("10.0.0.1:8000")?.draining === true);
    api.put("pods", pod(1, { deleted: true, ready: false }));
    api.remove("pods", "vllm-0001");
    await eventually("it is gone", () => sink.last?.length === 0);
    expect(sink.lists.flat().every(({ address }) => address === "10.0.0.1:8000")).toBe(true);
  });

  it("that stops being ready keeps its place as draining until it is ready again", async () => {
    const api = await new FakeApi().start();
    for (const index of [1, 2]) api.put("pods", pod(index));
    const { sink } = discover(api);
    await eventually("the pods were read", () => sink.last?.length === 2);
    for (let round = 0; round < 20; round += 1) {
      api.put("pods", pod(1, { ready: false }));
      await eventually("it drains", () => sink.find("10.0.0.1:8000")?.draining === true);
      api.put("pods", pod(1));
      await eventually("it is back", () => sink.find("10.0.0.1:8000")?.draining === false);
    }
    for (const list of sink.lists) expect(list.map(({ address }) => address)).toHaveLength(2);
    expect(sink.lists.some((list) => list[1]!.draining)).toBe(false);
  });

  it("that begins again under its name with another address is a new one", async () => {
    const api = await new FakeApi().start();
    api.put("pods", pod(1));
    const { sink } = discover(api);
    await eventually("it is ready", () => sink.last?.length === 1);
    api.put("pods", pod(1, { ready: false, ip: "10.9.9.9" }));
    await eventually("the old one is gone", () => sink.last?.length === 0);
    api.put("pods", pod(1, { ip: "10.9.9.9" }));
    await eventually("the new one is ready", () => sink.addresses?.join() === "10.9.9.9:8000");
  });

  it("without an address, or that has ended, is not listed", async () => {
    const api = await new FakeApi().start();
    api.put("pods", pod(1, { phase: "Succeeded" }));
    api.put("pods", pod(2, { ip: "" }));
    api.put("pods", pod(3));
    const { sink } = discover(api);
    await eventually("the pods were read", () => sink.last !== undefined);
    expect(sink.addresses).toEqual(["10.0.0.3:8000"]);
  });

  it("that leaves the selection is gone at once", async () => {
    const api = await new FakeApi().start();
    api.put("pods", pod(1));
    const { sink } = discover(api);
    await eventually("it is listed", () => sink.last?.length === 1);
    api.put("pods", pod(1, { labels: { app: "quarantine" } }));
    await eventually("it is gone", () => sink.last?.length === 0);
  });
});

const service = (selector?: Record<string, string>): ApiObject => ({
  metadata: { name: "vllm" },
  spec: { selector, ports: [{ name: "http", port: 80, targetPort: 8_000 }] },
});

function slice(
  name: string,
  endpoints: { ip: string; pod?: string; conditions?: Record<string, boolean> }[],
  more: Record<string, unknown> = {},
): ApiObject {
  return {
    metadata: { name, labels: { "kubernetes.io/service-name": "vllm" } },
    addressType: "IPv4",
    ports: [{ name: "http", port: 8_000, protocol: "TCP" }],
    endpoints: endpoints.map(({ ip, pod: target, conditions }) => ({
      addresses: [ip],
      ...(conditions === undefined ? {} : { conditions }),
      ...(target === undefined ? {} : { targetRef: { kind: "Pod", name: target } }),
    })),
    ...more,
  };
}

const serviceMembers = (...ports: (string | number)[]): MemberSource => ({
  kind: "service",
  name: "vllm",
  ports,
});

describe("a Service", () => {
  it("has the endpoints of its slices, with the labels of the pods behind them", async () => {
    const api = await new FakeApi().start();
    api.put("services", service({ app: "vllm" }));
    api.put("pods", pod(1, { labels: { "llm-d.ai/role": "prefill" } }));
    api.put("endpointslices", slice("vllm-b", [{ ip: "10.0.0.2", conditions: { ready: true } }]));
    api.put("endpointslices", slice("vllm-a", [{ ip: "10.0.0.1", pod: "vllm-0001" }]));
    const { sink } = discover(api, serviceMembers());
    await eventually("both are listed", () => sink.last?.length === 2);
    expect(sink.find("10.0.0.1:8000")).toMatchObject({
      name: "vllm-0001",
      roles: ROLE_PREFILL,
      nodeAddress: "192.168.0.1",
    });
    expect(sink.find("10.0.0.2:8000")).toMatchObject({ name: "10.0.0.2:8000", roles: ROLE_DECODE });
    expect(sink.errors).toEqual([]);
  });

  it("drains what terminates and still serves, and leaves out what never was ready", async () => {
    const api = await new FakeApi().start();
    api.put("services", service());
    const states = {
      "10.0.0.1": { ready: true, serving: true, terminating: false },
      "10.0.0.2": { ready: false, serving: true, terminating: true },
      "10.0.0.3": { ready: false, serving: false, terminating: false },
      "10.0.0.4": { ready: false, serving: false, terminating: true },
      // publishNotReadyAddresses: ready although it terminates.
      "10.0.0.5": { ready: true, serving: true, terminating: true },
    };
    const entries = Object.entries(states).map(([ip, conditions]) => ({ ip, conditions }));
    api.put("endpointslices", slice("vllm-a", entries));
    const { sink } = discover(api, serviceMembers("http"));
    await eventually("the slice was read", () => sink.last !== undefined);
    expect(sink.last!.map(({ address, draining }) => [address, draining])).toEqual([
      ["10.0.0.1:8000", false],
      ["10.0.0.2:8000", true],
      ["10.0.0.5:8000", true],
    ]);
    const unready = { ip: "10.0.0.1", conditions: { ready: false, serving: false, terminating: false } };
    api.put("endpointslices", slice("vllm-a", [unready]));
    await eventually("one that was ready drains", () => sink.find("10.0.0.1:8000")?.draining === true);
  });

  it("of two families is listed once", async () => {
    const api = await new FakeApi().start();
    api.put("services", service());
    api.put("endpointslices", slice("vllm-4", [{ ip: "10.0.0.1", pod: "vllm-0001" }]));
    const six = slice("vllm-6", [{ ip: "fd00::1", pod: "vllm-0001" }], { addressType: "IPv6" });
    api.put("endpointslices", six);
    const { sink } = discover(api, serviceMembers());
    await eventually("it is listed", () => sink.last?.length === 1);
    expect(sink.addresses).toEqual(["10.0.0.1:8000"]);
    api.remove("endpointslices", "vllm-4");
    await eventually("the other family counts", () => sink.addresses?.join() === "[fd00::1]:8000");
  });

  it("with several ports needs to be told which, by name or number; several are ranks", async () => {
    const api = await new FakeApi().start();
    api.put("services", service());
    const ports = [
      { name: "http", port: 8_000 },
      { name: "rank-1", port: 8_001 },
      { name: "metrics", port: 9_000 },
    ];
    api.put("endpointslices", slice("vllm-a", [{ ip: "10.0.0.1" }], { ports }));
    const { sink: untold } = discover(api, serviceMembers());
    const error = await eventually("it asks", () => untold.errors[0]);
    expect(error.message).toBe(
      "the service has 3 ports: set discovery.kubernetes.ports to some of http (8000), rank-1 (8001), metrics (9000)",
    );
    expect(untold.lists).toEqual([]);
    const { sink: wrong } = discover(api, serviceMembers("grpc"));
    const unknown = await eventually("it refuses", () => wrong.errors[0]);
    expect(unknown.message).toContain('the service has no port "grpc", only http (8000)');
    const { sink } = discover(api, serviceMembers("http", 8_001));
    await eventually("both are listed", () => sink.last?.length === 2);
    expect(sink.last!.map(({ address, rank }) => `${address} ${rank}`)).toEqual([
      "10.0.0.1:8000 0",
      "10.0.0.1:8001 1",
    ]);
  });
});
