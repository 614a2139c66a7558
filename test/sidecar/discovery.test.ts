// Where endpoints come from: what an endpoint is, files that change in every way, DNS that changes and fails.
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { LABELS_MAX } from "../../assembly/wire/limits.ts";
import { ROLE_DECODE, ROLE_ENCODE, ROLE_PREFILL } from "../../assembly/wire/snapshot.ts";
import {
  DnsDiscovery,
  type DnsSettings,
  type NameResolver,
  SystemResolver,
} from "../../sidecar/discovery/dns.ts";
import {
  collectEndpoints,
  type Discovery,
  type Endpoint,
  makeEndpoint,
  rolesOf,
} from "../../sidecar/discovery/endpoint.ts";
import { parseEndpointsFile } from "../../sidecar/discovery/endpoints-file.ts";
import { FileDiscovery } from "../../sidecar/discovery/file.ts";
import { codeOf } from "../../sidecar/errors.ts";
import { ENDPOINTS_FILE_BYTES_MAX } from "../../sidecar/limits.ts";
import { eventually, temporaryFolder } from "./servers.ts";

/** Collects what a source says until the test ends. */
class Sink {
  readonly lists: string[][] = [];
  readonly errors: Error[] = [];

  constructor(readonly discovery: Discovery) {
    onTestFinished(() => discovery.stop());
    discovery.start({
      apply: (endpoints) => this.lists.push(endpoints.map(({ address }) => address)),
      failed: (error) => this.errors.push(error),
    });
  }

  list(count: number): Promise<string[]> {
    return eventually(`list ${count} came`, () => this.lists[count - 1]);
  }

  error(count: number): Promise<Error> {
    return eventually(`error ${count} came`, () => this.errors[count - 1]);
  }
}

describe("an endpoint", () => {
  it.each([
    ["10.0.0.1", 8_000, "10.0.0.1:8000"],
    ["fd00:0:0::0001", 80, "[fd00::1]:80"],
    ["::ffff:10.0.0.1", 80, "[::ffff:10.0.0.1]:80"],
    ["fe80::1%eth0", 80, "[fe80::1%eth0]:80"],
  ])("at %s, port %i, is known as %s", (address, port, expected) => {
    expect((makeEndpoint({ address, port }) as Endpoint).address).toBe(expected);
  });

  it.each([
    ["vllm.example.com", 8_000, 'address: "vllm.example.com" is not an IP address'],
    ["10.0.0.256", 8_000, 'address: "10.0.0.256"'],
    ["", 8_000, 'address: ""'],
    ["fe80::1%eth-0", 8_000, 'address: "fe80::1%eth-0"'],
    ["fe80::1%", 8_000, 'address: "fe80::1%"'],
    ["10.0.0.1", 0, "port: 0 is not"],
    ["10.0.0.1", 65_536, "port: 65536 is not"],
    ["10.0.0.1", 1.5, "port: 1.5 is not"],
  ])("is not made of %j, port %d", (address, port, expected) => {
    expect(makeEndpoint({ address, port })).toContain(expected);
  });

  it.each([
    [undefined, ROLE_DECODE],
    ["decode", ROLE_DECODE],
    ["prefill", ROLE_PREFILL],
    ["encode", ROLE_ENCODE],
    ["prefill-decode", ROLE_PREFILL | ROLE_DECODE],
    ["both", ROLE_PREFILL | ROLE_DECODE],
    ["encode-prefill", ROLE_ENCODE | ROLE_PREFILL],
    ["encode-prefill-decode", ROLE_ENCODE | ROLE_PREFILL | ROLE_DECODE],
    ["Decode", 0],
    ["", 0],
  ])("labelled %j has the roles %i", (label, roles) => {
    expect(rolesOf(label)).toBe(roles);
  });

  it("keeps at most so many labels, llm-d's own first, and counts the rest", () => {
    const labels = Object.fromEntries(
      Array.from({ length: LABELS_MAX + 2 }, (_, index) => [`a${index}`, "x"]),
    );
    labels["llm-d.ai/role"] = "prefill";
    labels["long"] = "x".repeat(400);
    const { endpoints, drops } = collectEndpoints([{ address: "10.0.0.1", port: 1, labels }]);
    expect(endpoints[0]!.labels).toHaveLength(LABELS_MAX);
    expect(endpoints[0]!.labels[0]).toEqual(["llm-d.ai/role", "prefill"]);
    expect(drops.labels).toBe(4);
  });

  it("is listed once", () => {
    const { endpoints, drops } = collectEndpoints([
      { address: "10.0.0.1", port: 1, name: "first" },
      { address: "10.0.0.1", port: 1, name: "second" },
    ]);
    expect(endpoints.map(({ name }) => name)).toEqual(["first"]);
    expect(drops.duplicates).toBe(1);
  });
});

const file = (...ports: number[]): string =>
  `endpoints:\n${ports.map((port) => `- {name: e${port}, address: 127.0.0.1, port: "${port}"}\n`).join("")}`;

describe("an endpoints file", () => {
  it("has llm-d's shape, in YAML or JSON", () => {
    const yaml = `
endpoints:
- name: vllm-0
  namespace: prod
  address: "10.0.0.1"
  port: "8000"
  labels: {llm-d.ai/role: prefill, size: 70}
- {address: 10.0.0.2, port: 8000}
`;
    const { endpoints } = parseEndpointsFile(yaml, "file");
    expect(endpoints[0]).toMatchObject({
      address: "10.0.0.1:8000",
      name: "vllm-0",
      namespace: "prod",
      roles: ROLE_PREFILL,
    });
    expect(endpoints[0]!.labels).toContainEqual(["size", "70"]);
    expect(endpoints[1]).toMatchObject({ name: "10.0.0.2:8000", rank: null });
    const json = JSON.stringify({ endpoints: [{ name: "a", address: "10.0.0.3", port: "1" }] });
    expect(parseEndpointsFile(json, "file").endpoints[0]!.address).toBe("10.0.0.3:1");
    expect(parseEndpointsFile("endpoints: []", "file").endpoints).toEqual([]);
    expect(parseEndpointsFile("endpoints:", "file").endpoints).toEqual([]);
  });

  it.each([
    ["", "document: null"],
    ["[]", "document"],
    ["endpoints: 7", "endpoints: 7"],
    ["endpoints: [{address: 10.0.0.1}]", "endpoints[0].port: is missing"],
    ["endpoints: [{address: 10.0.0.1, port: http}]", 'endpoints[0].port: "http": expected a port number'],
    ["endpoints: [{address: 10.0.0.1, port: 70000}]", "endpoints[0].port: 70000"],
    ["endpoints: [{address: host, port: 1}]", 'endpoints[0].address: "host" is not an IP address'],
    ["endpoints: [{address: 10.0.0.1, port: 1, weight: 3}]", 'endpoints[0]: unknown field "weight"'],
    ["endpoints: [{address: 10.0.0.1, port: 1, labels: [a]}]", "endpoints[0].labels"],
    ["endpoints: [", "Flow sequence"],
    ["a: &a [*a]\nendpoints: *b", "b"],
    [`# ${"x".repeat(ENDPOINTS_FILE_BYTES_MAX)}`, "bytes"],
  ])("is refused as a whole: %j", (text, expected) => {
    expect(() => parseEndpointsFile(text, "/etc/list.yaml")).toThrow(expected);
    expect(() => parseEndpointsFile(text, "/etc/list.yaml")).toThrow("/etc/list.yaml");
  });
});

const QUICK = { pollMs: 10, settleMs: 5 };

describe("file discovery", () => {
  it("takes over edits in place, atomic renames, and a ConfigMap's directory swap", async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "v1"));
    writeFileSync(join(folder, "v1", "endpoints.yaml"), file(1));
    symlinkSync("v1", join(folder, "..data"));
    symlinkSync(join("..data", "endpoints.yaml"), join(folder, "endpoints.yaml"));
    const sink = new Sink(new FileDiscovery(join(folder, "endpoints.yaml"), true, QUICK));
    expect(await sink.list(1)).toEqual(["127.0.0.1:1"]);
    writeFileSync(join(folder, "v1", "endpoints.yaml"), file(1, 2));
    expect(await sink.list(2)).toEqual(["127.0.0.1:1", "127.0.0.1:2"]);
    mkdirSync(join(folder, "v2"));
    writeFileSync(join(folder, "v2", "endpoints.yaml"), file(3));
    symlinkSync("v2", join(folder, "..data_next"));
    renameSync(join(folder, "..data_next"), join(folder, "..data"));
    expect(await sink.list(3)).toEqual(["127.0.0.1:3"]);
    writeFileSync(join(folder, "next"), file(4));
    rmSync(join(folder, "endpoints.yaml"));
    renameSync(join(folder, "next"), join(folder, "endpoints.yaml"));
    expect(await sink.list(4)).toEqual(["127.0.0.1:4"]);
  });

  it("keeps the last good list over a bad file and a missing one, and says each once", async () => {
    const path = join(temporaryFolder(), "endpoints.yaml");
    writeFileSync(path, file(1));
    const sink = new Sink(new FileDiscovery(path, true, QUICK));
    await sink.list(1);
    writeFileSync(path, "endpoints: [{address: nowhere, port: 1}]");
    expect(codeOf(await sink.error(1))).toBe("endpoints-file-invalid");
    rmSync(path);
    expect(codeOf(await sink.error(2))).toBe("file-unreadable");
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(sink.errors).toHaveLength(2);
    expect(sink.lists).toHaveLength(1);
    writeFileSync(path, file(1, 2));
    expect(await sink.list(2)).toEqual(["127.0.0.1:1", "127.0.0.1:2"]);
  });

  it("waits for a file that is not there yet", async () => {
    const path = join(temporaryFolder(), "endpoints.yaml");
    const sink = new Sink(new FileDiscovery(path, true, QUICK));
    await sink.error(1);
    writeFileSync(path, file(1));
    expect(await sink.list(1)).toEqual(["127.0.0.1:1"]);
  });

  it("does not read a file in the middle of being written", async () => {
    const path = join(temporaryFolder(), "endpoints.yaml");
    writeFileSync(path, file(1, 2, 3));
    const sink = new Sink(new FileDiscovery(path, true, { pollMs: 10, settleMs: 150 }));
    await sink.list(1);
    const text = file(4, 5, 6);
    for (let at = 0; at < text.length; at += 30) {
      writeFileSync(path, text.slice(0, at + 30));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(await sink.list(2)).toEqual(["127.0.0.1:4", "127.0.0.1:5", "127.0.0.1:6"]);
  });

  it("reads once when it is not to watch", async () => {
    const path = join(temporaryFolder(), "endpoints.yaml");
    writeFileSync(path, file(1));
    const sink = new Sink(new FileDiscovery(path, false, QUICK));
    await sink.list(1);
    writeFileSync(path, file(2));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(sink.lists).toHaveLength(1);
  });
});

/** DNS as a test says. */
class FakeResolver implements NameResolver {
  hosts = new Map<string, { address: string; ttl: number }[]>();
  records: { name: string; port: number; priority: number }[] = [];
  failing = false;
  queries = 0;

  async addresses(host: string): Promise<{ address: string; ttl: number }[]> {
    this.queries += 1;
    const found = this.hosts.get(host);
    if (this.failing || found === undefined) throw new Error(`queryA ENOTFOUND ${host}`);
    return found;
  }

  async services(): Promise<{ name: string; port: number; priority: number }[]> {
    if (this.failing) throw new Error("querySrv ETIMEOUT");
    return this.records;
  }
}

const DNS: DnsSettings = {
  kind: "dns",
  host: "vllm.test",
  port: 8_000,
  family: 0,
  intervalMs: 20,
  labels: { "llm-d.ai/role": "prefill" },
};
const QUICK_DNS = { intervalMinMs: 10 };

describe("DNS discovery", () => {
  it("follows the addresses of a name, in a stable order, and reports only changes", async () => {
    const resolver = new FakeResolver();
    resolver.hosts.set("vllm.test", [
      { address: "10.0.0.2", ttl: 5 },
      { address: "10.0.0.1", ttl: 5 },
    ]);
    const sink = new Sink(new DnsDiscovery(DNS, resolver, QUICK_DNS));
    expect(await sink.list(1)).toEqual(["10.0.0.1:8000", "10.0.0.2:8000"]);
    resolver.hosts.set("vllm.test", [
      { address: "10.0.0.1", ttl: 5 },
      { address: "10.0.0.2", ttl: 5 },
    ]);
    const asked = resolver.queries;
    await eventually("it asked on", () => resolver.queries > asked + 2);
    resolver.hosts.set("vllm.test", [{ address: "fd00::1", ttl: 0 }]);
    expect(await sink.list(2)).toEqual(["[fd00::1]:8000"]);
    expect(sink.lists).toHaveLength(2);
  });

  it("keeps the last list while the name does not resolve", async () => {
    const resolver = new FakeResolver();
    resolver.hosts.set("vllm.test", [{ address: "10.0.0.1", ttl: 5 }]);
    const sink = new Sink(new DnsDiscovery(DNS, resolver, QUICK_DNS));
    await sink.list(1);
    resolver.failing = true;
    expect((await sink.error(1)).message).toContain('cannot resolve "vllm.test"');
    resolver.failing = false;
    resolver.hosts.set("vllm.test", [{ address: "10.0.0.9", ttl: 5 }]);
    expect(await sink.list(2)).toEqual(["10.0.0.9:8000"]);
  });

  it("takes the targets of a service with their ports, of the lowest priority only", async () => {
    const resolver = new FakeResolver();
    resolver.records = [
      { name: "b.test", port: 9_001, priority: 1 },
      { name: "a.test", port: 9_000, priority: 1 },
      { name: "spare.test", port: 9_999, priority: 2 },
    ];
    resolver.hosts.set("a.test", [
      { address: "10.0.0.1", ttl: 60 },
      { address: "10.0.0.2", ttl: 60 },
    ]);
    resolver.hosts.set("b.test", [{ address: "10.0.0.3", ttl: 60 }]);
    const sink = new Sink(
      new DnsDiscovery({ ...DNS, kind: "srv", host: "_http._tcp.test" }, resolver, QUICK_DNS),
    );
    expect(await sink.list(1)).toEqual(["10.0.0.1:9000", "10.0.0.2:9000", "10.0.0.3:9001"]);
    resolver.records = [];
    expect(await sink.list(2)).toEqual([]);
  });

  it("keeps the whole list when one target of a service does not resolve", async () => {
    const resolver = new FakeResolver();
    resolver.records = [
      { name: "a.test", port: 1, priority: 0 },
      { name: "b.test", port: 1, priority: 0 },
    ];
    resolver.hosts.set("a.test", [{ address: "10.0.0.1", ttl: 0 }]);
    const sink = new Sink(
      new DnsDiscovery({ ...DNS, kind: "srv", host: "_http._tcp.test" }, resolver, QUICK_DNS),
    );
    await sink.error(1);
    expect(sink.lists).toEqual([]);
  });

  it("finds names of the hosts file through the system's resolver", async () => {
    const found = await new SystemResolver().addresses("localhost", 4);
    expect(found.map(({ address }) => address)).toContain("127.0.0.1");
  });
});
