// Every shipped Envoy configuration is accepted by the oldest and the newest Envoy, and is what `npm start` runs on.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { PLAIN_CONFIG_PATH, ROOT, WASM_PATH } from "../../cli/envoy.ts";
import {
  type Bootstrap,
  connectionManager,
  type EnvoyConfigOptions,
  parseEndpoint,
  renderEnvoyConfig,
} from "../../cli/envoy-config.ts";
import { checkEnvoy, envoyVersion, findEnvoy, venvEnvoy } from "../../scripts/find-envoy.mjs";
import { ENVOY_VERSIONS } from "./harness.ts";

const execute = promisify(execFile);
const template = await readFile(PLAIN_CONFIG_PATH, "utf8");
const DNS_CONFIG_PATH = join(ROOT, "envoy", "plain", "envoy-dns.yaml");
const SHIPPED_ENDPOINTS = ["10.0.0.1:8000", "10.0.0.2:8000"];

/** `envoy --mode validate`, which also loads the filter and runs its configure. @returns what Envoy said last */
async function validate(version: string, text: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "epp-validate-"));
  try {
    const config = join(folder, "envoy.yaml");
    await writeFile(config, text.replaceAll("/etc/epp/epp.wasm", WASM_PATH));
    const envoy = (await venvEnvoy(ROOT, version))!;
    const { stdout } = await execute(envoy, [
      "--mode",
      "validate",
      "-c",
      config,
      "--disable-hot-restart",
      "-l",
      "error",
    ]);
    return stdout;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

describe.each(ENVOY_VERSIONS)("Envoy %s accepts", (version) => {
  it.each(["envoy/plain/envoy.yaml", "envoy/plain/envoy-dns.yaml"])("%s", async (path) => {
    expect(await validate(version, await readFile(join(ROOT, path), "utf8"))).toMatch(/OK\s*$/);
  });

  it.each<[string, Omit<EnvoyConfigOptions, "endpoints">]>([
    ["the filter", {}],
    ["the filter without stop-iteration", { stopIteration: false }],
    ["round_robin", { policy: "round_robin" }],
    ["least_request", { policy: "least_request" }],
    ["a file access log and another pool name", { accessLogPath: "/dev/null", poolName: "llama" }],
  ])("a generated configuration with %s", async (_, options) => {
    expect(
      await validate(version, renderEnvoyConfig(template, { endpoints: SHIPPED_ENDPOINTS, ...options })),
    ).toMatch(/OK\s*$/);
  });

  it("not a configuration with a misspelt field", async () => {
    const wrong = template.replace("request_body_buffer_limit", "request_body_bufer_limit");
    await expect(validate(version, wrong)).rejects.toThrow("request_body_bufer_limit");
  });
});

describe("the shipped configurations", () => {
  it("are the source of the generated one: nothing changes that was not asked for", () => {
    const rendered = parse(renderEnvoyConfig(template, { endpoints: SHIPPED_ENDPOINTS }));
    expect(rendered).toEqual(parse(template));
  });

  it("differ between fixed addresses and DNS names in the cluster alone", async () => {
    const text = template
      .replace(
        /^# .*\n(?=#\n)/,
        "# The picker in a plain Envoy (1.36 or newer, built with V8): one pool behind DNS names, one process, one host.\n",
      )
      .replace("the replicas' addresses into", "the replicas' DNS names into")
      .replace(
        "`npm start` fills in this very file, so it cannot go stale.",
        "Only the cluster differs from envoy.yaml; a test holds the two together.",
      )
      .replace(
        "      type: STATIC\n",
        "      type: STRICT_DNS # Every address that a name resolves to is an endpoint: one a pod of a headless Service.\n" +
          "      dns_refresh_rate: 5s\n      dns_lookup_family: V4_PREFERRED\n",
      )
      .replace(
        /lb_endpoints:\n(?: {14}- .*\n)+/,
        "lb_endpoints:\n" +
          "              - endpoint:\n" +
          "                  address: { socket_address: { address: vllm.default.svc.cluster.local, port_value: 8000 } }\n",
      );
    await expect(text).toMatchFileSnapshot(DNS_CONFIG_PATH);
  });

  it("fill in every option", () => {
    const rendered = parse(
      renderEnvoyConfig(template, {
        endpoints: ["[2001:db8::1]:8000", "127.0.0.1:9"],
        host: "127.0.0.1",
        port: 1234,
        adminPort: 1235,
        controlSocket: "/run/x.sock",
        wasmPath: "/x/epp.wasm",
        poolName: "llama",
        pluginConfig: '{"kind":"EndpointPickerConfig"}',
        ingestConfig: "{}",
        bufferLimitBytes: 65536,
        accessLogPath: null,
        edit: (bootstrap) => (bootstrap["extra"] = true),
      }),
    ) as Bootstrap;
    const [inference, control] = bootstrapListeners(rendered);
    const [cluster] = rendered.static_resources.clusters;
    const manager = connectionManager(rendered, "inference");
    expect(inference!.address).toEqual({ socket_address: { address: "127.0.0.1", port_value: 1234 } });
    expect(inference!.per_connection_buffer_limit_bytes).toBe(65536);
    expect(manager.route_config.virtual_hosts[0]).toMatchObject({
      request_body_buffer_limit: 65536,
      routes: [{ route: { cluster: "llama" }, metadata: { filter_metadata: { epp: { pool: "llama" } } } }],
    });
    expect(manager.access_log).toBeUndefined();
    expect(manager.http_filters[0]!.typed_config.config).toMatchObject({
      configuration: { value: '{"kind":"EndpointPickerConfig"}' },
      vm_config: { vm_id: "epp", code: { local: { filename: "/x/epp.wasm" } } },
    });
    expect(control!.address).toEqual({ pipe: { path: "/run/x.sock", mode: 0o600 } });
    expect(cluster).toMatchObject({
      name: "llama",
      type: "STATIC",
      load_assignment: { cluster_name: "llama" },
    });
    expect(cluster!.load_assignment.endpoints[0]!.lb_endpoints).toEqual([
      { endpoint: { address: { socket_address: { address: "2001:db8::1", port_value: 8000 } } } },
      { endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: 9 } } } },
    ]);
    expect(rendered.admin.address.socket_address).toEqual({ address: "127.0.0.1", port_value: 1235 });
    expect(rendered["extra"]).toBe(true);
  });

  it("leave nothing of the filter under Envoy's own policies", () => {
    const text = renderEnvoyConfig(template, { endpoints: SHIPPED_ENDPOINTS, policy: "round_robin" });
    expect(text).not.toMatch(/wasm\.v3|x-gateway-destination-endpoint|control\.sock|override_host/);
    expect(text).toContain("round_robin.v3.RoundRobin");
  });

  it.each([
    "",
    "10.0.0.1",
    "10.0.0.1:",
    "10.0.0.1:0",
    "10.0.0.1:65536",
    "::1:80",
    "[::1]",
    "[10.0.0.1]:80",
    "a b:80",
    "http://a:80",
  ])("refuse %j for an endpoint", (text) => {
    expect(() => parseEndpoint(text)).toThrow(
      expect.objectContaining({ code: "ERR_ENDPOINT_ADDRESS", value: text }),
    );
  });

  it.each([
    ["10.0.0.1:1", "10.0.0.1", 1],
    ["[::1]:65535", "::1", 65535],
    ["vllm-0.vllm.svc:8000", "vllm-0.vllm.svc", 8000],
  ])("take %j for an endpoint", (text, host, port) => {
    expect(parseEndpoint(text)).toEqual({ host, port });
  });

  it("refuse a socket path that the kernel would refuse, and take the longest that it takes", () => {
    const render = (bytes: number): string =>
      renderEnvoyConfig(template, {
        endpoints: SHIPPED_ENDPOINTS,
        controlSocket: `/${"s".repeat(bytes - 1)}`,
      });
    expect(() => render(108)).toThrow(expect.objectContaining({ code: "ERR_SOCKET_PATH" }));
    expect(render(107)).toContain("s".repeat(106));
  });
});

describe("finding an Envoy", () => {
  it.each(ENVOY_VERSIONS)("takes %s", async (version) => {
    const path = (await venvEnvoy(ROOT, version))!;
    expect((await envoyVersion(path)).join(".")).toBe(version);
    expect(await checkEnvoy(path)).toBe(version);
    expect(await findEnvoy(ROOT, { ENVOY_PATH: path })).toMatchObject({
      path,
      version,
      source: "ENVOY_PATH",
    });
  });

  it("prefers an envoy on PATH to the installed one", async () => {
    const folder = await mkdtemp(join(tmpdir(), "epp-path-"));
    const path = join(folder, "envoy");
    const real = (await venvEnvoy(ROOT, ENVOY_VERSIONS[0]!))!;
    await writeFile(path, `#!/bin/sh\nexec ${real} "$@"\n`, { mode: 0o755 });
    expect(await findEnvoy(ROOT, { PATH: `/nonexistent:${folder}` })).toMatchObject({ path, source: "PATH" });
    await rm(folder, { recursive: true });
  });

  it.each([
    ["is too old", "echo 'envoy  version: 0abc/1.35.9/Clean/RELEASE/BoringSSL'", "1.35.9 is older than 1.36"],
    ["is something else", "echo hello", 'printed "hello"'],
    ["cannot run", "exit 3", "failed"],
    [
      "has no Wasm",
      'if [ "$1" = --version ]; then echo "version: 0abc/1.38.3/Clean"; else echo "Wasm VM failed" >&2; exit 1; fi',
      "cannot load Wasm filters: Wasm VM failed",
    ],
  ])("refuses one that %s, and says why", async (_, script, reason) => {
    const folder = await mkdtemp(join(tmpdir(), "epp-path-"));
    const path = join(folder, "envoy");
    await writeFile(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    await expect(findEnvoy(ROOT, { ENVOY_PATH: path })).rejects.toMatchObject({
      code: "ERR_ENVOY_UNUSABLE",
      path,
    });
    const passedOver = await findEnvoy(ROOT, { PATH: folder });
    expect(passedOver.skipped).toEqual([expect.stringContaining(reason)]);
    expect(passedOver.path).toBe(await venvEnvoy(ROOT, ENVOY_VERSIONS.at(-1)!));
    await rm(folder, { recursive: true });
  });

  it("finds none where none is", async () => {
    const empty = await mkdtemp(join(tmpdir(), "epp-empty-"));
    expect(await findEnvoy(empty, { PATH: empty })).toEqual({ skipped: [] });
    await rm(empty, { recursive: true });
  });
});

function bootstrapListeners(bootstrap: Bootstrap): Bootstrap["static_resources"]["listeners"] {
  return bootstrap.static_resources.listeners;
}
