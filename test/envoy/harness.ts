// One real gateway a test: scripted replicas, an Envoy of a given version with the filter, and its control channel.
import { Client, request } from "undici";
import { ROOT, startEnvoy, type RunningEnvoy, type StartEnvoyOptions } from "../../cli/envoy.ts";
import { ENVOY_NEWEST, ENVOY_OLDEST, venvEnvoy } from "../../scripts/find-envoy.mjs";
import { encodeSnapshot, type TestEndpoint } from "./snapshot.ts";
import { startUpstream, type Upstream } from "./upstream.ts";

/** The matrix: the oldest and the newest Envoy that are promised to work. */
export const ENVOY_VERSIONS: readonly string[] = [ENVOY_OLDEST, ENVOY_NEWEST];

export const POOL = "pool";
const SETTLE_TIMEOUT_MS = 45_000;
const SETTLE_POLL_MS = 5;

/** setup.mjs installs both; a missing one is a failure, never a reason to skip. */
export class EnvoyMissingError extends Error {
  readonly code = "ERR_ENVOY_MISSING";
  constructor(readonly version: string) {
    super(`Envoy ${version} is not installed; \`npm test -- --only envoy\` does that`);
    this.name = "EnvoyMissingError";
  }
}

/** The first snapshot of a test was not taken. */
export class SnapshotRefusedError extends Error {
  readonly code = "ERR_SNAPSHOT_REFUSED";
  constructor(readonly reply: ControlReply) {
    super(`the control listener answered ${reply.status} to the first snapshot: ${reply.text}`);
    this.name = "SnapshotRefusedError";
  }
}

/** A state that did not come about in time. */
export class NotSettledError extends Error {
  readonly code = "ERR_NOT_SETTLED";
  constructor(what: string, last: unknown) {
    super(`not within ${SETTLE_TIMEOUT_MS} ms: ${what}; last seen: ${JSON.stringify(last)}`);
    this.name = "NotSettledError";
  }
}

export interface GatewayOptions extends Partial<Omit<StartEnvoyOptions, "envoyPath" | "endpoints">> {
  /** How many replicas to start (they echo), or 2. */
  readonly replicas?: number;
  /** Further addresses of the cluster that are not replicas of the harness. */
  readonly extraEndpoints?: readonly string[];
  /** Snapshot pushed before the test begins: false = none; fields = given to every replica. */
  readonly snapshot?: false | Partial<TestEndpoint>;
}

export interface ControlReply {
  readonly status: number;
  readonly text: string;
}

export interface Gateway {
  readonly version: string;
  readonly envoy: RunningEnvoy;
  /** Base URL for clients. */
  readonly url: string;
  readonly replicas: readonly Upstream[];
  /** Pushes a snapshot of the replicas; fields by replica index, or the same for all. Returns the answer. */
  push(fields?: Partial<TestEndpoint> | readonly Partial<TestEndpoint>[]): Promise<ControlReply>;
  /** Pushes these very bytes as a snapshot. */
  pushBytes(snapshot: Buffer, pool?: string): Promise<ControlReply>;
  /** One request on the control listener. */
  control(
    method: string,
    path: string,
    body?: Buffer | string,
    headers?: Readonly<Record<string, string>>,
  ): Promise<ControlReply>;
  /** GET /status of the control listener. */
  status<T = Record<string, unknown>>(): Promise<T>;
  /** Sum over the samples of a metric whose labels include these; 0 when there is none. */
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number>;
  /** The replica that served an answer. */
  servedBy(headers: Readonly<Record<string, string | string[] | undefined>>): string | undefined;
}

/** Runs a test against a gateway of its own; everything it started is gone afterwards, however it ends. */
export async function withEnvoy<T>(
  version: string,
  options: GatewayOptions,
  test: (gateway: Gateway) => Promise<T>,
): Promise<T> {
  const gateway = await startGateway(version, options);
  let log = "";
  try {
    return await test(gateway);
  } catch (error) {
    log = gateway.envoy.log();
    throw error;
  } finally {
    await gateway.stop();
    if (log !== "") process.stderr.write(`Envoy ${version} logged:\n${log.slice(-4_000)}\n`);
  }
}

/** The same for several tests of one file; call `stop` in afterAll. */
export async function startGateway(
  version: string,
  options: GatewayOptions = {},
): Promise<Gateway & { stop(): Promise<void> }> {
  const envoyPath = await venvEnvoy(ROOT, version);
  if (envoyPath === undefined) throw new EnvoyMissingError(version);
  const { replicas: count = 2, extraEndpoints = [], snapshot = {}, ...envoyOptions } = options;
  const replicas = await Promise.all(
    Array.from({ length: count }, (_, index) => startUpstream(`replica-${index}`)),
  );
  const stopReplicas = (): Promise<unknown> => Promise.all(replicas.map((replica) => replica.stop()));
  const endpoints = [...replicas.map(({ address }) => address), ...extraEndpoints];
  let envoy: RunningEnvoy;
  try {
    envoy = await startEnvoy({ poolName: POOL, ...envoyOptions, envoyPath, endpoints });
  } catch (error) {
    await stopReplicas();
    throw error;
  }
  const gateway = new TestGateway(version, envoy, replicas);
  const stop = async (): Promise<void> => {
    await gateway.close();
    await envoy.stop();
    await stopReplicas();
  };
  try {
    if (snapshot !== false && (options.policy ?? "epp") === "epp") {
      const reply = await gateway.push(snapshot);
      if (reply.status >= 300) throw new SnapshotRefusedError(reply);
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return Object.assign(gateway, { stop });
}

/** Polls until `look` gives a value that is neither undefined nor false. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  const deadline = performance.now() + SETTLE_TIMEOUT_MS;
  for (;;) {
    const seen = await look();
    if (seen !== undefined && seen !== false) return seen;
    if (performance.now() > deadline) throw new NotSettledError(what, seen);
    await new Promise((settle) => setTimeout(settle, SETTLE_POLL_MS));
  }
}

/** An OpenAI chat request; further fields go in as they are. */
export function chat(content: string, fields: Readonly<Record<string, unknown>> = {}): object {
  return { model: "test-model", messages: [{ role: "user", content }], ...fields };
}

class TestGateway implements Gateway {
  readonly url: string;
  private readonly client: Client;
  private snapshotId = 0;

  constructor(
    readonly version: string,
    readonly envoy: RunningEnvoy,
    readonly replicas: readonly Upstream[],
  ) {
    this.url = envoy.url;
    this.client = new Client("http://control", { connect: { socketPath: envoy.controlSocket } });
  }

  async push(fields: Partial<TestEndpoint> | readonly Partial<TestEndpoint>[] = {}): Promise<ControlReply> {
    const endpoints = this.replicas.map(({ address, name }, index) => {
      const own = Array.isArray(fields) ? fields[index] : fields;
      return { address, name, ...(own as Partial<TestEndpoint>) };
    });
    return this.pushBytes(encodeSnapshot(endpoints, ++this.snapshotId));
  }

  pushBytes(snapshot: Buffer, pool = POOL): Promise<ControlReply> {
    return this.control("POST", `/v1/pools/${encodeURIComponent(pool)}/snapshot`, snapshot);
  }

  async control(
    method: string,
    path: string,
    body?: Buffer | string,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<ControlReply> {
    const reply = await this.client.request({ method: method as "GET", path, body: body ?? null, headers });
    return { status: reply.statusCode, text: await reply.body.text() };
  }

  async status<T>(): Promise<T> {
    const { status, text } = await this.control("GET", "/status");
    if (status !== 200) throw new Error(`GET /status answered ${status}: ${text}`);
    return JSON.parse(text) as T;
  }

  async metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const { body } = await request(`${this.envoy.adminUrl}/stats/prometheus`);
    const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
    let sum = 0;
    for (const line of (await body.text()).split("\n")) {
      const match = /^([a-zA-Z0-9_:]+)\{(.*)\} (\S+)$/.exec(line);
      if (match?.[1] === name && wanted.every((label) => match[2]!.split(",").includes(label)))
        sum += Number(match[3]);
    }
    return sum;
  }

  servedBy(headers: Readonly<Record<string, string | string[] | undefined>>): string | undefined {
    return headers["x-served-by"] as string | undefined;
  }

  close(): Promise<void> {
    return this.client.destroy();
  }
}
