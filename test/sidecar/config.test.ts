// Configuration by the own document and the command line: what is accepted, what it becomes, and how a fault is named.
import { describe, expect, it } from "vitest";
import { type Flags, loadSettings } from "../../sidecar/config/load.ts";
import { BUILT_IN_ENGINES } from "../../sidecar/scrape/engines.ts";
import { load, STATIC } from "./settings.ts";

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
    ["{pools: 3, control: {socket: /s}}", "pools: 3: expected a list"],
    ["{contrl: {}, pools: []}", 'document: unknown field "contrl"'],
    [
      pool("scrape: {interval: 5}"),
      'pools[0].scrape: unknown field "interval": expected one of scheme, path, tls, bearerTokenFile, ',
    ],
    ["{control: /s, pools: []}", 'control: "/s": expected a mapping'],
    ["{control: {socket: /s}, http: {listen: 9902}}", "http.listen: 9902: expected host:port"],
    [pool("models: {enabled: 1}"), "pools[0].models.enabled: 1: expected true or false"],
    [pool("kvEvents: {topic: 5}"), "pools[0].kvEvents.topic: 5: expected a text"],
    [pool("kvEvents: {ranks: 2.5}"), "pools[0].kvEvents.ranks: 2.5: expected a whole number"],
    [pool("kvEvents: {replayPort: 99999}"), "replayPort: 99999: expected a port number, 1 to 65535"],
    [
      "{control: {socket: /s}, pools: [{name: p, discovery: {static: {endpoints: [{address: 10.0.0.1, port: x}]}}}]}",
      'endpoints[0].port: "x": expected a port number, 1 to 65535',
    ],
    [pool("scrape: {intervalMs: 9}"), "pools[0].scrape.intervalMs: 9: expected at least 10"],
    [
      pool("scrape: {intervalMs: 1s}"),
      'pools[0].scrape.intervalMs: "1s": expected "adaptive" or whole milliseconds',
    ],
    [pool("scrape: {scheme: ftp}"), 'pools[0].scrape.scheme: "ftp": expected "http" or "https"'],
    [pool("scrape: {path: metrics}"), 'pools[0].scrape.path: "metrics": expected a path that starts with /'],
    [pool('scrape: {path: "/a b"}'), 'pools[0].scrape.path: "/a b"'],
    [pool('scrape: {path: "/a\\r\\nx: y"}'), "pools[0].scrape.path"],
    [pool("scrape: {timeoutMs: 0}"), "pools[0].scrape.timeoutMs: 0: expected at least 10"],
    [pool("scrape: {failuresMax: 0}"), "pools[0].scrape.failuresMax: 0: expected at least 1"],
    [pool("scaling: {ttft: 5}"), 'pools[0].scaling: unknown field "ttft"'],
    [pool("scaling: {ttftMs: 0}"), "pools[0].scaling.ttftMs: 0: expected more than 0, at most 3600000"],
    [pool("scaling: {tpotMs: fast}"), 'pools[0].scaling.tpotMs: "fast": expected a number'],
    [
      pool("scaling: {kvCacheUtilThreshold: 80}"),
      "pools[0].scaling.kvCacheUtilThreshold: 80: expected at most 1",
    ],
    [pool("scrape: {port: 0}"), "pools[0].scrape.port: 0: expected a port number, 1 to 65535"],
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
    ["{control: {socket: /s}, pools: [{name: p}]}", "pools[0].discovery: is missing: expected a mapping"],
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
      "pools: [{",
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
