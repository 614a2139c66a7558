// A real Envoy with the filter and a real sidecar before real vLLM servers, and the questions that tests ask of them.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { request } from "undici";
import { ENVOY_NEWEST } from "../../scripts/find-envoy.mjs";
import { Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import type { EndpointMonitor } from "../../sidecar/endpoint-monitor.ts";
import { makeLogger } from "../../sidecar/log.ts";
import { type Reply, send } from "../envoy/clients.ts";
import { type Gateway, type GatewayOptions, POOL, startGateway, until } from "../envoy/harness.ts";
import { HELD, type Status } from "../envoy/status.ts";
import type { Vllm } from "./server.ts";

export type Fields = Readonly<Record<string, unknown>>;

/** What an answer says of its tokens; 0 where it says nothing. */
export interface Tokens {
  readonly prompt: number;
  readonly cached: number;
  readonly completion: number;
}

export interface Fleet {
  readonly gateway: Gateway;
  readonly sidecar: Sidecar;
  /** What the sidecar knows of a server. */
  monitor(server: Vllm): EndpointMonitor;
  /** POSTs to the gateway. */
  ask(path: string, body: Fields): Promise<Reply>;
  /** Counters of GET /status once nothing is in flight. */
  counters(): Promise<Readonly<Record<string, number>>>;
}

export interface FleetOptions extends GatewayOptions {
  /** Labels of each server, in their order; none unless given. */
  readonly labels?: readonly Readonly<Record<string, string>>[];
  /** Further settings of the sidecar's pool. */
  readonly pool?: object;
}

/** Runs a test with a gateway and a sidecar of its own, which know all servers; both are gone afterwards. */
export async function withFleet<T>(
  servers: readonly Vllm[],
  { labels = [], pool = {}, ...options }: FleetOptions,
  test: (fleet: Fleet) => Promise<T>,
): Promise<T> {
  const endpoints = servers.map(({ address }) => address);
  const gateway = await startGateway(ENVOY_NEWEST, {
    ...options,
    replicas: 0,
    extraEndpoints: endpoints,
    snapshot: false,
  });
  const folder = await mkdtemp(join(tmpdir(), "epp-vllm-"));
  const config = join(folder, "sidecar.json");
  const listed = servers.map(({ port }, index) => ({
    address: "127.0.0.1",
    port,
    labels: labels[index] ?? {},
  }));
  await writeFile(
    config,
    JSON.stringify({
      control: { socket: gateway.envoy.controlSocket },
      pools: [{ name: POOL, discovery: { static: { endpoints: listed } }, ...pool }],
    }),
  );
  const sidecar = new Sidecar(loadSettings({ config }, {}), { log: makeLogger("silent") });
  try {
    await sidecar.start();
    const fleet = fleetOf(gateway, sidecar);
    await until("the gateway knew every server", async () => {
      const { pools } = await gateway.status<Status>();
      const areListed = servers.every((server) => fleet.monitor(server)?.models.length > 0);
      return areListed && pools[0]?.endpoints.filter(({ ready }) => ready).length === servers.length;
    });
    return await test(fleet);
  } finally {
    await sidecar.stop();
    await gateway.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

function fleetOf(gateway: Gateway, sidecar: Sidecar): Fleet {
  return {
    gateway,
    sidecar,
    monitor: ({ address }) => sidecar.pools[0]!.monitors.get(address)!,
    ask: (path, body) => send(gateway.url, { path, method: "POST", body }),
    counters: () =>
      until("nothing was in flight", async () => {
        const { counters } = await gateway.status<Status>();
        return HELD.every((name) => counters[name] === 0) ? counters : undefined;
      }),
  };
}

/** POSTs to a server itself. */
export function askServer(server: Vllm, path: string, body: Fields): Promise<Reply> {
  return send(server.url, { path, method: "POST", body });
}

/** JSON documents of an answer: its body, or the data of its events. */
export function documents(reply: Reply): Fields[] {
  if (!String(reply.headers["content-type"]).startsWith("text/event-stream"))
    return [JSON.parse(reply.text) as Fields];
  const data = [...reply.text.matchAll(/^data: (\{.*)$/gm)];
  return data.map(([, text]) => JSON.parse(text!) as Fields);
}

/** The answer's tokens as its last usage tells them, by the rules of each API. */
export function tokensOf(reply: Reply): Tokens {
  const usages = documents(reply).map(
    (document) =>
      (document["usage"] ?? (document["response"] as Fields | undefined)?.["usage"]) as
        Fields | null | undefined,
  );
  const usage = usages.findLast((one) => one !== undefined && one !== null);
  if (usage === undefined || usage === null) throw new Error(`no usage in ${reply.text.slice(-400)}`);
  const number = (name: string): number => (usage[name] as number | undefined) ?? 0;
  const details = (usage["prompt_tokens_details"] ?? usage["input_tokens_details"]) as Fields | undefined;
  const [read, created] = [number("cache_read_input_tokens"), number("cache_creation_input_tokens")];
  return {
    prompt: number("prompt_tokens") + number("input_tokens") + read + created,
    cached: ((details?.["cached_tokens"] as number | undefined) ?? 0) + read,
    completion: number("completion_tokens") + number("output_tokens"),
  };
}

/** The text of a chat answer, whole or streamed. */
export function textOf(reply: Reply): string {
  return documents(reply)
    .flatMap((document) => (document["choices"] as { message?: Fields; delta?: Fields }[]) ?? [])
    .map(({ message, delta }) => ((message ?? delta)?.["content"] as string | undefined) ?? "")
    .join("");
}

/** The name under which the server that answered calls its model; each server has one of its own. */
export function modelOf(reply: Reply): string {
  for (const document of documents(reply)) {
    const model =
      document["model"] ?? ((document["message"] ?? document["response"]) as Fields | undefined)?.["model"];
    if (typeof model === "string") return model;
  }
  throw new Error(`no model in ${reply.text.slice(0, 400)}`);
}

/** Sum of a metric's samples on a server's page. */
export async function metricOf(server: Vllm, name: string): Promise<number> {
  const { body } = await request(`${server.url}/metrics`);
  const lines = (await body.text()).split("\n").filter((line) => line.startsWith(`${name}{`));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}

const WORDS = (
  "time year people way day man thing woman life child world school state family student group country " +
  "problem hand part place case week company system program question work number night point home water room"
).split(" ");

/** Text of so many words that no other seed begins with. */
export function prose(seed: number, words: number): string {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995) >>> 0;
  const next = (): string => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return WORDS[(state >>> 8) % WORDS.length]!;
  };
  return Array.from({ length: words }, next).join(" ");
}
