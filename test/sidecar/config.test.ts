// Configuration: what is accepted, what it becomes, and how a fault is named.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { CredentialStore } from "../../sidecar/config/credentials.ts";
import { type Flags, loadSettings } from "../../sidecar/config/load.ts";
import type { Settings } from "../../sidecar/config/settings.ts";
import { BUILT_IN_ENGINES } from "../../sidecar/scrape/engines.ts";
import { eventually, temporaryFolder } from "./servers.ts";

function load(yaml: string, flags: Flags = {}, environment: NodeJS.ProcessEnv = {}): Settings {
  const path = join(temporaryFolder(), "sidecar.yaml");
  writeFileSync(path, yaml);
  return loadSettings({ config: path, ...flags }, environment);
}

const STATIC = "discovery: {static: {endpoints: ['10.0.0.1:8000']}}";
const pool = (fields: string): string =>
  `{control: {socket: /run/epp/control.sock}, pools: [{name: p, ${STATIC}, ${fields}}]}`;

describe("the own document", () => {
  it("needs little and has defaults for the rest", () => {
    const settings = load(`{control: {socket: /run/epp/control.sock}, pools: [{name: p, ${STATIC}}]}`);
    expect(settings).toMatchObject({
      control: { socketPath: "/run/epp/control.sock", token: "", statusIntervalMs: 2_000 },
      http: null,
      logLevel: "info",
    });
    expect(settings.pools[0]).toMatchObject({
      name: "p",
      discovery: { kind: "static", endpoints: [{ address: "10.0.0.1", port: 8_000 }] },
      scrape: {
        scheme: "http",
        path: "/metrics",
        intervalMs: null,
        timeoutMs: 1_000,
        failuresMax: 3,
        port: null,
        token: null,
      },
      models: { path: "/v1/models", intervalMs: 10_000 },
      engines: { label: "llm-d.ai/engine-type", preferred: "", specs: BUILT_IN_ENGINES },
      dcgm: null,
      scaling: { ttftMs: null, tpotMs: null, queueDepthThreshold: 5, kvCacheUtilThreshold: 0.8 },
    });
  });

  it("takes wished times and thresholds for scaling", () => {
    const wished = { ttftMs: 250.5, tpotMs: 12.5, queueDepthThreshold: 2.5, kvCacheUtilThreshold: 1 };
    const [given] = load(pool(`scaling: ${JSON.stringify(wished)}`)).pools;
    expect(given!.scaling).toEqual(wished);
  });

  it("says everything it can", () => {
    const settings = load(
      `
control: {url: "http://127.0.0.1:9901", tokenEnv: TOKEN, statusIntervalMs: 500}
http: {listen: "[::1]:9902"}
log: {level: debug}
pools:
- name: outbound|8000||vllm.prod
  discovery: {file: {path: /etc/epp/endpoints.yaml, watch: false}}
  scrape:
    scheme: https
    path: /prometheus/metrics
    port: 9000
    intervalMs: 50
    timeoutMs: 300
    failuresMax: 2
    pageBytesMax: 100000
    bearerTokenFile: /var/run/token
    tls: {caFile: /ca.pem, certFile: /c.pem, keyFile: /k.pem, serverName: vllm, insecureSkipVerify: true}
  models: {enabled: false}
  engines: {engineLabelKey: engine, defaultEngine: mine, engineConfigs: [{name: mine, queuedRequestsSpec: "q{a=b}"}]}
  dcgm:
    port: "9400"
    useNodeAddress: true
    intervalMs: 5000
    urls: ["http://node-1:9400/metrics"]
    endpoints: {"10.0.0.1:8000": {url: "https://node-2/metrics", gpus: [0, GPU-1]}}
- {name: b, discovery: {dns: {host: vllm.test, port: 8000, family: 4, intervalMs: 5000, labels: {a: b}}}}
- {name: c, discovery: {srv: {name: _http._tcp.vllm.test}}}
`,
      {},
      { TOKEN: "s3cret" },
    );
    expect(settings.control).toEqual({
      socketPath: null,
      origin: "http://127.0.0.1:9901",
      token: "s3cret",
      statusIntervalMs: 500,
    });
    expect(settings.http).toEqual({ host: "::1", port: 9_902 });
    const [first, second, third] = settings.pools;
    expect(first).toMatchObject({
      discovery: { kind: "file", path: "/etc/epp/endpoints.yaml", watch: false },
      scrape: { port: 9_000, intervalMs: 50, token: { file: "/var/run/token" }, tls: { serverName: "vllm" } },
      models: null,
      engines: { label: "engine", preferred: "mine" },
      dcgm: { port: 9_400, useNodeAddress: true, intervalMs: 5_000, urls: ["http://node-1:9400/metrics"] },
    });
    expect(first!.dcgm!.endpoints.get("10.0.0.1:8000")).toEqual({
      url: "https://node-2/metrics",
      gpus: ["0", "GPU-1"],
    });
    expect(second!.discovery).toEqual({
      kind: "dns",
      host: "vllm.test",
      port: 8_000,
      family: 4,
      intervalMs: 5_000,
      labels: { a: "b" },
    });
    expect(third!.discovery).toMatchObject({ kind: "srv", host: "_http._tcp.vllm.test", family: 0 });
  });

  it.each([
    ["{", "Flow map"],
    ["[]", "document: []: expected a mapping"],
    ["{pools: 3, control: {socket: /s}}", "pools: 3: expected array"],
    ["{contrl: {}, pools: []}", 'document: unknown field "contrl"'],
    [pool("scrape: {interval: 5}"), 'pools[0].scrape: unknown field "interval"'],
    [pool("scrape: {intervalMs: 9}"), "pools[0].scrape.intervalMs: 9: expected at least 10"],
    [pool("scrape: {intervalMs: fast}"), 'pools[0].scrape.intervalMs: "fast": expected "adaptive"'],
    [pool("scrape: {scheme: ftp}"), 'pools[0].scrape.scheme: "ftp": '],
    [pool("scrape: {path: metrics}"), 'pools[0].scrape.path: "metrics": expected a path that starts with /'],
    [pool('scrape: {path: "/a b"}'), 'pools[0].scrape.path: "/a b"'],
    [pool('scrape: {path: "/a\\r\\nx: y"}'), "pools[0].scrape.path"],
    [pool("scrape: {timeoutMs: 0}"), "pools[0].scrape.timeoutMs: 0: expected at least 10"],
    [pool("scrape: {failuresMax: 0}"), "pools[0].scrape.failuresMax: 0: expected at least 1"],
    [pool("scaling: {ttft: 5}"), 'pools[0].scaling: unknown field "ttft"'],
    [pool("scaling: {ttftMs: 0}"), "pools[0].scaling.ttftMs: 0: expected more than 0, at most 3600000"],
    [pool("scaling: {tpotMs: fast}"), 'pools[0].scaling.tpotMs: "fast": expected number'],
    [
      pool("scaling: {kvCacheUtilThreshold: 80}"),
      "pools[0].scaling.kvCacheUtilThreshold: 80: expected at most 1",
    ],
    [pool("scrape: {port: 0}"), "pools[0].scrape.port: 0: expected at least 1"],
    [pool("scrape: {tls: {certFile: a}}"), "pools[0].scrape.tls: "],
    [
      pool("scrape: {bearerTokenFile: a, bearerTokenEnv: b}"),
      "expected bearerTokenFile or bearerTokenEnv, not both",
    ],
    [pool("dcgm: {}"), "pools[0].dcgm: {}: expected port, urls, or endpoints with a url"],
    [pool('dcgm: {urls: ["ftp://x/"]}'), 'pools[0].dcgm.urls[0]: "ftp://x/": expected an http or https URL'],
    [pool("engines: {defaultEngine: none}"), 'pools[0].engines.defaultEngine: "none": expected one of vllm,'],
    [pool("engines: {engineConfigs: [{name: default}]}"), '"default": expected another name'],
    [
      pool("engines: {engineConfigs: [{name: a}, {name: a}]}"),
      'engines.engineConfigs: "a": expected each name once',
    ],
    [pool('engines: {engineConfigs: [{name: a, kvUsageSpec: "rate(x[1m])"}]}'), "kvUsageSpec"],
    ["{control: {socket: /s}, pools: [{name: p}]}", "pools[0].discovery: is missing"],
    [
      "{control: {socket: /s}, pools: [{name: p, discovery: {}}]}",
      "expected exactly one of static, file, dns, srv",
    ],
    [
      "{control: {socket: /s}, pools: [{name: p, discovery: {file: {path: a}, static: {endpoints: []}}}]}",
      "expected exactly one of static, file, dns, srv, kubernetes; it has 2",
    ],
    [
      "{control: {socket: /s}, pools: [{name: p, discovery: {static: {endpoints: [host:80]}}}]}",
      'address: "host" is not an IP address',
    ],
    [
      "{control: {socket: /s}, pools: [{name: p, discovery: {static: {endpoints: ['10.0.0.1']}}}]}",
      'pools[0].discovery.static.endpoints[0]: "10.0.0.1": expected ip:port',
    ],
    [
      "{control: {socket: /s}, pools: [{name: p, discovery: {dns: {host: a}}}]}",
      "pools[0].discovery.dns.port: is missing",
    ],
    [
      `{control: {socket: /s}, pools: [{name: "a b", ${STATIC}}]}`,
      'pools[0].name: "a b": expected visible ASCII',
    ],
    [`{control: {socket: /s}, pools: [{name: "a?b", ${STATIC}}]}`, 'pools[0].name: "a?b"'],
    [
      `{control: {socket: /s}, pools: [{name: a, ${STATIC}}, {name: a, ${STATIC}}]}`,
      'pools[1].name: "a": expected a name that no other pool has',
    ],
    [
      `{control: {socket: /s}, pools: [${Array.from({ length: 17 }, (_, i) => `{name: p${i}, ${STATIC}}`).join(", ")}]}`,
      "pools: ",
    ],
    [`{pools: [{name: p, ${STATIC}}]}`, "control: expected exactly one of socket and url"],
    [`{control: {}, pools: [{name: p, ${STATIC}}]}`, "control: expected exactly one of socket and url"],
    [
      `{control: {socket: /s, url: "http://127.0.0.1:1"}, pools: [{name: p, ${STATIC}}]}`,
      "exactly one of socket and url",
    ],
    [
      `{control: {url: "http://10.0.0.1:1"}, pools: [{name: p, ${STATIC}}]}`,
      'control.url: "http://10.0.0.1:1": expected',
    ],
    [`{control: {url: "https://127.0.0.1:1"}, pools: [{name: p, ${STATIC}}]}`, "control.url"],
    [
      `{control: {url: "http://127.0.0.1:1"}, pools: [{name: p, ${STATIC}}]}`,
      'control.tokenEnv: "EPP_CONTROL_TOKEN"',
    ],
    [`{control: {socket: /s}, http: {listen: 80}, pools: [{name: p, ${STATIC}}]}`, "http.listen: 80"],
    [`{control: {socket: /s}, log: {level: loud}, pools: [{name: p, ${STATIC}}]}`, 'log.level: "loud"'],
    ["{control: {socket: /s}}", "expected a pool"],
  ])("is refused with field, value and expectation: %s", (yaml, expected) => {
    expect(() => load(yaml)).toThrow(expected);
  });

  it("is named when it cannot be read", () => {
    expect(() => loadSettings({ config: "/no/such/file" }, {})).toThrow(
      'cannot read configuration "/no/such/file"',
    );
  });
});

describe("the command line", () => {
  it("is enough for a pool of fixed endpoints", () => {
    const flags = {
      endpoints: "10.0.0.1:8000, [::1]:8001",
      control: "unix:/s",
      listen: "127.0.0.1:0",
      pool: "q",
    };
    const settings = loadSettings(flags, {});
    expect(settings.pools.map(({ name }) => name)).toEqual(["q"]);
    expect(settings.pools[0]!.discovery).toEqual({
      kind: "static",
      endpoints: [
        { address: "10.0.0.1", port: 8_000 },
        { address: "::1", port: 8_001 },
      ],
    });
    expect(settings.control.socketPath).toBe("/s");
  });

  it("goes before the document", () => {
    const settings = load(
      `{control: {socket: /s, statusIntervalMs: 700}, log: {level: warn}, pools: [{name: p, ${STATIC}}]}`,
      {
        control: "http://localhost:1",
        logLevel: "error",
        listen: "127.0.0.1:9",
      },
      { EPP_CONTROL_TOKEN: "t" },
    );
    expect(settings).toMatchObject({
      control: { socketPath: null, origin: "http://localhost:1", statusIntervalMs: 700 },
      logLevel: "error",
      http: { port: 9 },
    });
  });

  it.each<[Flags, string]>([
    [{}, "expected a pool"],
    [{ endpoints: "10.0.0.1:80" }, "control: expected exactly one of socket and url (or --control)"],
    [{ control: "/s", endpoints: "10.0.0.1" }, '--endpoints[0]: "10.0.0.1": expected ip:port'],
    [{ control: "/s", endpoints: "" }, '--endpoints[0]: "": expected'],
    [{ control: "/s", endpoints: "10.0.0.1:80", pool: "a b" }, '--pool: "a b": expected'],
    [{ control: "/s", endpoints: "10.0.0.1:80", logLevel: "loud" }, 'log.level: "loud"'],
  ])("is refused with the flag's name: %j", (flags, expected) => {
    expect(() => loadSettings(flags, {})).toThrow(expected);
  });
});

const PICKER = `
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {name: file-disc, type: file-discovery, parameters: {path: endpoints.yaml, watchFile: true}}
- {type: queue-scorer}
- {type: max-score-picker}
- {type: metrics-data-source, parameters: {scheme: https, path: /m, caCertPath: /ca.pem, interval: 200ms, port: 7000}}
- type: core-metrics-extractor
  parameters: {defaultEngine: sglang, engineConfigs: [{name: atom, queuedRequestsSpec: "atom:waiting"}]}
- {type: dcgm-data-source, name: gpus, parameters: {useNodeAddress: true}}
- {type: dcgm-extractor}
- {type: topology-extractor}
schedulingProfiles:
- {name: default, plugins: [{pluginRef: queue-scorer, weight: 2}, {pluginRef: max-score-picker}]}
dataLayer:
  discovery: {pluginRef: file-disc}
  sources:
  - {pluginRef: metrics-data-source, extractors: [{pluginRef: core-metrics-extractor}]}
  - {pluginRef: gpus, interval: 1m30s, extractors: [{pluginRef: dcgm-extractor}]}
`;
const picker = (plugins: string, dataLayer = "discovery: {pluginRef: file-discovery}"): string =>
  `{kind: EndpointPickerConfig, plugins: [{type: file-discovery, parameters: {path: a}}, ${plugins}], dataLayer: {${dataLayer}}}`;

describe("an EndpointPickerConfig", () => {
  it("gives discovery and data layer, with llm-d's names and defaults", () => {
    const settings = load(PICKER, { control: "/s", pool: "p" });
    expect(settings.pools[0]).toMatchObject({
      name: "p",
      discovery: { kind: "file", path: "endpoints.yaml", watch: true },
      scrape: {
        scheme: "https",
        path: "/m",
        port: 7_000,
        intervalMs: 200,
        tls: { caFile: "/ca.pem", insecureSkipVerify: true },
      },
      engines: { preferred: "sglang" },
      dcgm: { port: 9_400, path: "/metrics", useNodeAddress: true, intervalMs: 90_000 },
    });
    expect(settings.pools[0]!.engines.specs[0]!.name).toBe("atom");
    expect(settings.notes).toEqual([expect.stringContaining("topology-extractor is not needed")]);
  });

  it("is accepted with an own document beside it, and with its discovery overridden", () => {
    const path = join(temporaryFolder(), "picker.yaml");
    writeFileSync(path, PICKER);
    const own = `{control: {socket: /s}, pools: [{name: mine, ${STATIC}}]}`;
    expect(load(own, { pickerConfig: path }).pools.map(({ name }) => name)).toEqual(["mine", "default"]);
    const overridden = load("{control: {socket: /s}}", { pickerConfig: path, endpoints: "10.0.0.1:1" });
    expect(overridden.pools[0]!.discovery).toMatchObject({ kind: "static" });
    expect(() => load(own, { pickerConfig: path, pool: "mine" })).toThrow('--pool: "mine"');
  });

  it("needs no data layer's sources: metrics are read by default", () => {
    const settings = load(picker("{type: queue-scorer}"), { control: "/s" });
    expect(settings.pools[0]).toMatchObject({ scrape: { intervalMs: null, path: "/metrics" }, dcgm: null });
    expect(settings.pools[0]!.discovery).toEqual({ kind: "file", path: "a", watch: false });
    const nested = picker("{type: queue-scorer}", "discovery: {endpoints: {pluginRef: file-discovery}}");
    expect(load(nested, { control: "/s" }).pools[0]!.discovery).toMatchObject({ path: "a" });
  });

  it.each([
    [
      "{kind: EndpointPickerConfig}",
      "dataLayer.discovery: is missing: expected a plugin of type file-discovery",
    ],
    [
      picker("", "discovery: {pluginRef: nope}"),
      'dataLayer.discovery.pluginRef: "nope": expected the name of an entry',
    ],
    [
      picker("{type: queue-scorer}", "discovery: {pluginRef: queue-scorer}"),
      'plugin of type "queue-scorer": expected',
    ],
    [picker("", "discovery: {pluginRef: file-discovery}, souces: []"), 'dataLayer: unknown field "souces"'],
    [
      picker("{type: metrics-data-source, parameters: {prt: 1}}"),
      'plugins[1].parameters: unknown field "prt"',
    ],
    [
      picker("{type: metrics-data-source, parameters: {port: 0}}"),
      "plugins[1].parameters.port: 0: expected 1 to 65535",
    ],
    [
      picker("{type: metrics-data-source, parameters: {interval: soon}}"),
      'plugins[1].parameters.interval: "soon"',
    ],
    [picker("{type: dcgm-data-source, parameters: {scheme: grpc}}"), 'plugins[1].parameters.scheme: "grpc"'],
    [
      picker("{type: core-metrics-extractor, parameters: {defaultEngine: x}}"),
      'defaultEngine: "x": expected one of',
    ],
    [picker("{type: multicluster-file-discovery}"), "is not supported; the nearest that is: file-discovery"],
    [
      "{kind: EndpointPickerConfig, plugins: [{type: file-discovery}], dataLayer: {discovery: {pluginRef: file-discovery}}}",
      "path",
    ],
  ])("is refused with the place of the fault: %s", (yaml, expected) => {
    expect(() => load(yaml, { control: "/s" })).toThrow(expected);
  });
});

/** llm-d's own answers (test/fixtures/oracles/README or the file's note say where they come from). */
const ORACLE = fileURLToPath(new URL("../fixtures/oracles/config.json", import.meta.url));
const JUDGED = [
  "core-metrics-extractor",
  "metrics-data-source",
  "models-data-source",
  "dcgm-data-source",
  "file-discovery",
];

describe("llm-d's loader cases", () => {
  interface OracleCase {
    readonly name: string;
    readonly type?: string;
    readonly parameters?: string;
    readonly accepted?: boolean;
  }
  const { cases } = JSON.parse(readFileSync(ORACLE, "utf8")) as { cases: OracleCase[] };
  const judged = cases.filter(({ type }) => type !== undefined && JUDGED.includes(type));

  it("are there", () => {
    expect(judged.length).toBeGreaterThan(20);
  });

  it.each(judged.map((entry) => [entry.name, entry.parameters ?? "", entry] as const))(
    "%s %s",
    (_, text, entry) => {
      const attempt = (): Settings => {
        const parameters = JSON.parse(text) as unknown;
        const file = { type: "file-discovery", parameters: { path: "a" } };
        const plugins =
          entry.type === file.type ? [{ ...file, parameters }] : [file, { type: entry.type, parameters }];
        const dataLayer = { discovery: { pluginRef: "file-discovery" } };
        return load(JSON.stringify({ kind: "EndpointPickerConfig", plugins, dataLayer }), { control: "/s" });
      };
      // Certificates are read when the sidecar starts, not when the document is.
      if (entry.accepted === true || /CertPath/.test(text)) expect(attempt).not.toThrow();
      else expect(attempt).toThrow();
    },
  );
});

describe("credentials", () => {
  const tls = { caFile: null, certFile: null, keyFile: null, serverName: null, insecureSkipVerify: false };

  it("come from files and the environment", () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "token"), "abc\n");
    const ca = readFileSync(fileURLToPath(new URL("../fixtures/tls/ca.pem", import.meta.url)), "utf8");
    writeFileSync(join(folder, "ca"), ca);
    const withFile = new CredentialStore({
      scheme: "https",
      tls: { ...tls, caFile: join(folder, "ca") },
      token: { file: join(folder, "token") },
    });
    expect(withFile.current).toMatchObject({ token: "abc", tls: { ca, cert: null } });
    const fromEnvironment = new CredentialStore({ scheme: "http", tls, token: { env: "T" } }, { T: "xyz" });
    expect(fromEnvironment.current).toEqual({ token: "xyz", tls: null });
  });

  it.each([
    ["a missing file", { file: "/no/such/token" }, "cannot read token file"],
    ["an unset variable", { env: "NOT_SET" }, "environment variable NOT_SET"],
    ["a token of two lines", { env: "TWO" }, "it is not a bearer token"],
  ])("are refused: %s", (_, token, expected) => {
    expect(() => new CredentialStore({ scheme: "http", tls, token }, { TWO: "a\nb" })).toThrow(expected);
  });

  it("are refused when a file holds no certificate or key", () => {
    const path = join(temporaryFolder(), "pem");
    const load = (text: string, field: object): CredentialStore => {
      writeFileSync(path, text);
      return new CredentialStore({ scheme: "https", tls: { ...tls, ...field }, token: null });
    };
    const broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    expect(() => load("nothing", { caFile: path })).toThrow("TLS files is not valid");
    expect(() => load(broken, { caFile: path })).toThrow("TLS files is not valid");
    expect(() => load("nothing", { certFile: path, keyFile: path })).toThrow("TLS files is not valid");
  });

  it("are read again when a file changes, and kept when it cannot be read", async () => {
    const path = join(temporaryFolder(), "token");
    writeFileSync(path, "one");
    const store = new CredentialStore({ scheme: "http", tls, token: { file: path } });
    let changes = 0;
    let failures = 0;
    store.watch(
      () => (changes += 1),
      () => (failures += 1),
      10,
    );
    writeFileSync(path, "");
    await eventually("the empty file was noticed", () => failures > 0);
    expect(store.current.token).toBe("one");
    writeFileSync(path, "two");
    await eventually("the new token was read", () => changes === 1);
    expect(store.current.token).toBe("two");
    store.stop();
  });
});
