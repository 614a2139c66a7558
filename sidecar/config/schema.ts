// The sidecar's own configuration document: its fields, their ranges and defaults.
import { z } from "zod";
import { POOL_NAME_BYTES_MAX, POOLS_MAX } from "../../assembly/wire/limits.ts";
import { makeEndpoint } from "../discovery/endpoint.ts";
import { TARGET_PORTS_MAX } from "../discovery/kubernetes/limits.ts";
import { POLICY_GROUPS } from "../discovery/kubernetes/policy-objects.ts";
import { BLOCKS_CONFIGURED_MAX, BLOCKS_MAX, RANKS_MAX, TEXT_BYTES_MAX } from "../kv-events/limits.ts";
import { METRICS_PAGE_BYTES_MAX } from "../limits.ts";
import { LOG_LEVELS } from "../log.ts";
import { parseMetricSpec } from "../scrape/engines.ts";
import { fields } from "./issues.ts";
import { scaling } from "./scaling-schema.ts";

const milliseconds = (min: number, max: number): z.ZodInt =>
  z.int(`expected whole milliseconds from ${min} to ${max}`).min(min, atLeast(min)).max(max, atMost(max));
const atLeast = (min: number): string => `expected at least ${min}`;
const atMost = (max: number): string => `expected at most ${max}`;

const PORT = "expected a port number, 1 to 65535";
const portNumber = z.int(PORT).min(1, PORT).max(65_535, PORT);
const port = z.union(
  [
    portNumber,
    z
      .string()
      .regex(/^\d{1,5}$/, PORT)
      .transform(Number)
      .pipe(portNumber),
  ],
  PORT,
);
const text = z.string().min(1, "expected a text that is not empty");
/** Goes into a request line: visible ASCII, so that it can end neither the line nor the header. */
const urlPath = z
  .string()
  .regex(/^\/[\x21-\x7e]*$/, "expected a path that starts with /, of visible ASCII characters");
const interval = z.union(
  [z.literal("adaptive"), milliseconds(10, 3_600_000)],
  'expected "adaptive" or whole milliseconds from 10 to 3600000',
);

/** What an endpoint may say beside its address and port. */
export const endpointDetails = {
  name: z.string().optional(),
  namespace: z.string().optional(),
  nodeAddress: z.string().optional(),
  labels: z.record(z.string(), z.string()).optional(),
  rank: z.int().min(0).max(65_535).optional(),
};

/** "10.0.0.1:8000" or the entry of an endpoints file. */
const staticEndpoint = z
  .union([
    text.transform((value, context) => {
      const parts = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(value);
      if (parts !== null) return { address: parts[1] ?? parts[2]!, port: Number(parts[3]) };
      context.addIssue({ code: "custom", message: "expected ip:port, with brackets around IPv6" });
      return z.NEVER;
    }),
    fields({
      address: text,
      port,
      ...endpointDetails,
    }),
  ])
  .superRefine((endpoint, context) => {
    const made = makeEndpoint(endpoint);
    if (typeof made === "string") context.addIssue({ code: "custom", message: made });
  });

const labels = z.record(z.string(), z.string()).default({});
const dnsFields = {
  family: z.union([z.literal(0), z.literal(4), z.literal(6)]).default(0),
  intervalMs: milliseconds(1_000, 3_600_000).default(30_000),
  labels,
};

const objectName = text.max(253, atMost(253)).regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, {
  message: "expected a Kubernetes name: lower-case letters, digits, - and .",
});
const labelText = z
  .string()
  .max(317, atMost(317))
  .regex(/^[-\w./]*$/, "expected a label's key or value");
const targetPorts = <T extends z.ZodType>(entry: T): z.ZodArray<T> =>
  z.array(entry).max(TARGET_PORTS_MAX, atMost(TARGET_PORTS_MAX));

const kubernetes = fields({
  namespace: objectName.optional(),
  inferencePool: objectName.optional(),
  service: objectName.optional(),
  selector: z.record(labelText.min(1), labelText).optional(),
  ports: targetPorts(z.union([portNumber, objectName])).default([]),
  kubeconfig: text.optional(),
  context: text.optional(),
  policyGroup: z.enum([...POLICY_GROUPS, "none"]).default("llm-d.ai"),
}).superRefine(({ inferencePool, service, selector, ports }, context) => {
  const issue = (message: string): void => context.addIssue({ code: "custom", message });
  const given = [inferencePool, service, selector].filter((one) => one !== undefined).length;
  if (given !== 1) issue(`expected exactly one of inferencePool, service, selector; it has ${given}`);
  if (inferencePool !== undefined && ports.length > 0) {
    issue("expected no ports: an InferencePool has its own");
  }
  if (selector !== undefined) {
    if (Object.keys(selector).length === 0) issue("expected a label in selector");
    if (ports.length === 0 || ports.some((one) => typeof one === "string")) {
      issue("expected port numbers in ports: a selector has none of its own");
    }
  }
  if (new Set(ports).size !== ports.length) issue("expected each of ports once");
});

const discovery = fields({
  static: fields({ endpoints: z.array(staticEndpoint) }).optional(),
  file: fields({ path: text, watch: z.boolean().default(true) }).optional(),
  dns: fields({ host: text, port, ...dnsFields }).optional(),
  srv: fields({ name: text, ...dnsFields }).optional(),
  kubernetes: kubernetes.optional(),
}).superRefine((value, context) => {
  const kinds = Object.values(value).filter((source) => source !== undefined).length;
  if (kinds !== 1) {
    context.addIssue({
      code: "custom",
      message: `expected exactly one of static, file, dns, srv, kubernetes; it has ${kinds}`,
    });
  }
});

const tls = fields({
  caFile: text.optional(),
  certFile: text.optional(),
  keyFile: text.optional(),
  serverName: text.optional(),
  insecureSkipVerify: z.boolean().default(false),
}).refine((value) => (value.certFile === undefined) === (value.keyFile === undefined), {
  message: "expected certFile and keyFile together",
});

/** What fetching any kind of page has in common. */
const fetchFields = {
  scheme: z.enum(["http", "https"]).default("http"),
  path: urlPath.default("/metrics"),
  tls: tls.prefault({}),
  bearerTokenFile: text.optional(),
  bearerTokenEnv: text.optional(),
  timeoutMs: milliseconds(10, 60_000).default(1_000),
  pageBytesMax: z
    .int()
    .min(1_024, atLeast(1_024))
    .max(67_108_864, atMost(67_108_864))
    .default(METRICS_PAGE_BYTES_MAX),
};
const oneToken = {
  check: (value: { bearerTokenFile?: string | undefined; bearerTokenEnv?: string | undefined }): boolean =>
    value.bearerTokenFile === undefined || value.bearerTokenEnv === undefined,
  message: "expected bearerTokenFile or bearerTokenEnv, not both",
};

const scrape = fields({
  ...fetchFields,
  intervalMs: interval.default("adaptive"),
  port: port.optional(),
  failuresMax: z.int().min(1, atLeast(1)).max(100, atMost(100)).default(3),
}).refine(oneToken.check, oneToken.message);

const models = fields({
  enabled: z.boolean().default(true),
  path: urlPath.default("/v1/models"),
  intervalMs: milliseconds(1_000, 3_600_000).default(10_000),
});

const exporterUrl = z.url({ protocol: /^https?$/, message: "expected an http or https URL" });

const dcgm = fields({
  ...fetchFields,
  intervalMs: milliseconds(100, 3_600_000).default(2_000),
  port: port.optional(),
  useNodeAddress: z.boolean().default(false),
  urls: z.array(exporterUrl).max(64, atMost(64)).default([]),
  endpoints: z
    .record(
      z.string(),
      fields({
        url: exporterUrl.optional(),
        gpus: z.array(z.union([z.string(), z.int().transform(String)])).default([]),
      }),
    )
    .default({}),
})
  .refine(oneToken.check, oneToken.message)
  .refine(
    (value) =>
      value.port !== undefined || value.urls.length > 0 || Object.values(value.endpoints).some((e) => e.url),
    {
      message: "expected port, urls, or endpoints with a url",
    },
  );

const kvEvents = fields({
  port: port.default(5_557),
  replayPort: port.optional(),
  topic: z.string().max(TEXT_BYTES_MAX, atMost(TEXT_BYTES_MAX)).default(""),
  ranks: z.int().min(1, atLeast(1)).max(RANKS_MAX, atMost(RANKS_MAX)).default(1),
  tokenizer: text.optional(),
  replayTimeoutMs: milliseconds(10, 60_000).default(2_000),
  idleCheckMs: milliseconds(100, 3_600_000).default(5_000),
  promptCheckMs: milliseconds(100, 86_400_000).default(600_000),
  blocksMax: z
    .int()
    .min(1, atLeast(1))
    .max(BLOCKS_CONFIGURED_MAX, atMost(BLOCKS_CONFIGURED_MAX))
    .default(BLOCKS_MAX),
})
  .refine(
    ({ port: first, replayPort, ranks }) => replayPort === undefined || Math.abs(replayPort - first) >= ranks,
    "expected ports and replay ports of all ranks to be different",
  )
  .refine(
    ({ port: first, replayPort = 0, ranks }) => Math.max(first, replayPort) + ranks - 1 <= 65_535,
    "expected the last rank's ports to be at most 65535",
  );

/** A metric specification of llm-d: name{label=value}; empty = none. */
export const metricSpec = z.string().superRefine((value, context) => {
  try {
    parseMetricSpec(value);
  } catch (error) {
    context.addIssue({ code: "custom", message: (error as Error).message });
  }
});

/** One engine, with llm-d's field names (core-metrics-extractor's engineConfigs). */
export const engineConfig = fields({
  name: text.refine((name) => name !== "default", {
    message: 'expected another name: "default" is reserved',
  }),
  queuedRequestsSpec: metricSpec.default(""),
  runningRequestsSpec: metricSpec.default(""),
  kvUsageSpec: metricSpec.default(""),
  loraSpec: metricSpec.default(""),
  cacheInfoSpec: metricSpec.default(""),
  cacheBlockSizeLabelName: z.string().default(""),
  cacheNumBlocksLabelName: z.string().default(""),
  cacheBlockSizeSpec: metricSpec.default(""),
  cacheNumBlocksSpec: metricSpec.default(""),
  loraLoadedSpec: metricSpec.default(""),
  loraGPULoadedSpec: metricSpec.default(""),
  loraGPUSlotsSpec: metricSpec.default(""),
  customMetrics: z
    .array(
      fields({
        attributeKey: z.string().min(1, "expected a key that is not empty"),
        metricSpec: metricSpec.min(1, "expected a metric specification"),
        optional: z.boolean().default(false),
      }),
    )
    .default([]),
});
export type EngineConfig = z.output<typeof engineConfig>;

/** Engines and how they are told apart; the fields of llm-d's core-metrics-extractor. */
export const engineFields = {
  engineLabelKey: z.string().default(""),
  defaultEngine: z.string().default(""),
  engineConfigs: z.array(engineConfig).max(32, atMost(32)).default([]),
};

const poolName = text
  .regex(/^[\x21-\x7e]+$/, "expected visible ASCII characters")
  .regex(/^[^?#%]+$/, "expected a name without ?, # and %: it is part of a URL's path")
  .max(POOL_NAME_BYTES_MAX, atMost(POOL_NAME_BYTES_MAX));

const pool = fields({
  name: poolName,
  discovery,
  scrape: scrape.prefault({}),
  models: models.prefault({}),
  engines: fields(engineFields).prefault({}),
  dcgm: dcgm.optional(),
  scaling: scaling.prefault({}),
  kvEvents: kvEvents.optional(),
});
export type PoolConfig = z.output<typeof pool>;
/** The fields of a pool, for documents that have some of them. */
export const poolFields = pool.shape;

const control = fields({
  socket: text.optional(),
  url: z.string().optional(),
  tokenEnv: text.default("EPP_CONTROL_TOKEN"),
  statusIntervalMs: milliseconds(100, 3_600_000).default(2_000),
});

/** "host:port". */
const listen = z.string("expected host:port").regex(/^(\[[^\]]+\]|[^:]+):\d{1,5}$/, "expected host:port");

/** The whole document; what the command line gives may be missing from it. */
export const sidecarConfig = fields({
  control: control.optional(),
  http: fields({ listen }).optional(),
  log: fields({ level: z.enum(LOG_LEVELS).default("info") }).prefault({}),
  pools: z
    .array(pool)
    .max(POOLS_MAX, atMost(POOLS_MAX))
    .default([])
    .superRefine((pools, context) => {
      const names = new Set<string>();
      pools.forEach(({ name }, index) => {
        if (names.has(name)) {
          context.addIssue({
            code: "custom",
            path: [index, "name"],
            message: "expected a name that no other pool has",
          });
        }
        names.add(name);
      });
    }),
});
export type SidecarConfig = z.output<typeof sidecarConfig>;
export { control as controlConfig, listen as listenAddress, poolName, port as portConfig };
