// llm-d's precise prefix scoring → prefix-cache-scorer in the filter, which reads the exact index that the sidecar's
// kvEvents fill. Field names: llm-d-router pkg/kvcache, pkg/kvevents and the plugins preciseprefixcache @ ebab6879.
import { at, type Fields, isFields, list, text } from "../documents.ts";
import type { Outcomes, Verdict } from "./outcome.ts";

const SCORER = "precise-prefix-cache-scorer";
const PRODUCER = "precise-prefix-cache-producer";
const STANDS_FOR_SCORER = "prefix-cache-scorer";
const SIDECAR_FILE = "sidecar.yaml";

/** A pool's kvEvents in the sidecar's document, as far as a picker says it. */
type KvEvents = { -readonly [Field in "port" | "replayPort" | "topic"]?: unknown };

/** Parameters that the sidecar has too. */
const SETTINGS: Readonly<Record<string, keyof KvEvents>> = {
  "kvEventsConfig.topicFilter": "topic",
  "kvEventsConfig.podDiscoveryConfig.socketPort": "port",
  "kvEventsConfig.podDiscoveryConfig.replaySocketPort": "replayPort",
};
const SOCKET = "kvEventsConfig.zmqEndpoint";
/** Of engines, of llm-d and of the sidecar. */
const PORT_DEFAULT = 5_557;
const NO_HASHES = "prompts and blocks are compared as bytes, not by hashes: engines may have any seed";
const NO_TOKENIZER =
  "prompts are matched by their bytes; those of tokens are learnt from the servers, or read where kvEvents.tokenizer names " +
  "a tokenizer.json that the sidecar can read";
const BOUNDED = "kvEvents.blocksMax bounds what is kept, engine by engine";
const EVERY_ENDPOINT = "the sidecar subscribes to every endpoint of the pool";
const EVERY_GATEWAY = "each gateway's sidecar follows the engines itself";

/** What becomes of the others, by their path or that of a group around them. */
const FATES: Readonly<Record<string, readonly [Verdict, string]>> = {
  mode: ["not-needed", "the filter's index is exact wherever kvEvents tell what an engine holds"],
  "tokenProcessorConfig.blockSize": ["not-needed", "events say how many tokens a block has"],
  "tokenProcessorConfig.blockSizeTokens": ["not-needed", "events say how many tokens a block has"],
  "tokenProcessorConfig.hashSeed": ["not-needed", NO_HASHES],
  "tokenProcessorConfig.hashAlgorithm": ["not-needed", NO_HASHES],
  "indexerConfig.prefixStoreConfig": [
    "not-needed",
    "no tokens of prompts are kept, as there is no tokenizer",
  ],
  "indexerConfig.tokenizersPoolConfig": ["not-needed", NO_TOKENIZER],
  "indexerConfig.kvBlockIndexConfig.inMemoryConfig.size": ["not-needed", BOUNDED],
  "indexerConfig.kvBlockIndexConfig.inMemoryConfig.podCacheSize": [
    "not-needed",
    "all endpoints that hold a block are known",
  ],
  "indexerConfig.kvBlockIndexConfig.costAwareMemoryConfig": ["not-needed", BOUNDED],
  "indexerConfig.kvBlockIndexConfig.redisConfig": ["not-needed", EVERY_GATEWAY],
  "indexerConfig.kvBlockIndexConfig.valkeyConfig": ["not-needed", EVERY_GATEWAY],
  "indexerConfig.kvBlockIndexConfig.enableMetrics": [
    "not-needed",
    "the sidecar's /metrics has epp_kv_events_*",
  ],
  "indexerConfig.kvBlockIndexConfig.metricsLoggingInterval": [
    "not-needed",
    "the sidecar's /metrics has epp_kv_events_*",
  ],
  "kvEventsConfig.concurrency": ["not-needed", "one thread follows all engines"],
  "kvEventsConfig.engineType": ["not-needed", "vLLM's and SGLang's events are told apart by what they hold"],
  "kvEventsConfig.podDiscoveryConfig.podLabelSelector": ["not-needed", EVERY_ENDPOINT],
  "kvEventsConfig.podDiscoveryConfig.podNamespace": ["not-needed", EVERY_ENDPOINT],
  speculativeTTL: ["not-needed", "what was sent counts while it is in flight and is not yet reported"],
  sessionManager: ["dropped", "the nearest is session-affinity-scorer with strategy session_id"],
};
/** Weights of the tiers in the filter's index (assembly/prefix/exact-lookup.ts). */
const TIER_WEIGHTS: Readonly<Record<string, number>> = { gpu: 1, cpu: 0.8, disk: 0.3 };

/** Whether a plugin scores by what engines say they hold. */
export function isPreciseScorer(plugin: unknown): boolean {
  const type = at(plugin, "type");
  // llm-d's form before the type of its own.
  return (
    type === SCORER || (type === STANDS_FOR_SCORER && at(plugin, "parameters", "mode") === "cache_tracking")
  );
}

/** Whether a plugin does nothing but follow the engines. */
export function isPreciseProducer(plugin: unknown): boolean {
  return at(plugin, "type") === PRODUCER;
}

/** The filter's scorer in a precise one's place: under the same name, so that profiles' references and weights hold. */
export function standInFor(plugin: unknown): Fields {
  const { parameters, ...rest } = plugin as Fields;
  return { ...rest, name: text(rest["name"]) ?? String(rest["type"]), type: STANDS_FOR_SCORER };
}

/**
 * What the sidecar is to follow; every parameter is reported.
 * @returns null = nothing in the document reads the engines' events
 */
export function kvEventsOf(plugins: readonly unknown[], outcomes: Outcomes): KvEvents | null {
  const entries = [...plugins.entries()];
  const producers = entries.filter(([, plugin]) => isPreciseProducer(plugin));
  const scorers = entries.filter(([, plugin]) => isPreciseScorer(plugin));
  if (producers.length + scorers.length === 0) return null;
  const kvEvents: KvEvents = {};
  for (const [index, plugin] of producers.length > 0 ? producers : scorers)
    readParameters(plugin, index, kvEvents, outcomes);
  for (const [index, plugin] of producers.length > 0 ? scorers : []) {
    for (const [path] of leavesOf(at(plugin, "parameters")))
      outcomes.notNeeded(named(plugin, index, path), `${PRODUCER}'s parameters are in force, as in llm-d`);
  }
  return kvEvents;
}

function readParameters(plugin: unknown, index: number, kvEvents: KvEvents, outcomes: Outcomes): void {
  for (const [path, value] of leavesOf(at(plugin, "parameters"))) {
    const what = named(plugin, index, path);
    // The blocks' size and seed stood within the indexer's once.
    const place = path.replace(/^indexerConfig\.(?=tokenProcessorConfig\.)/, "");
    const setting = SETTINGS[place];
    if (place === SOCKET && value !== "" && value !== null) continue;
    if (value === null || isFields(value)) outcomes.notNeeded(what, "it is empty");
    else if (setting === undefined) outcomes.add(what, ...fateOf(place, value));
    else if (setting === "replayPort" && typeof value === "number" && value <= 0)
      outcomes.notNeeded(what, "no port: nothing is asked for again");
    else takeSetting(what, setting, value, kvEvents, outcomes);
  }
  readSocket(plugin, index, kvEvents, outcomes);
}

/** The picker's own socket, to which engines connected; its port is the engines' unless they have one already. */
function readSocket(plugin: unknown, index: number, kvEvents: KvEvents, outcomes: Outcomes): void {
  const socket = at(plugin, "parameters", ...SOCKET.split("."));
  if (socket === undefined || socket === null || socket === "") return;
  const port = /:(\d{1,5})$/.exec(String(socket))?.[1];
  if (port !== undefined) kvEvents.port ??= Number(port);
  outcomes.dropped(
    named(plugin, index, SOCKET),
    `nothing listens for engines: let each publish at "endpoint":"tcp://*:${String(kvEvents.port ?? PORT_DEFAULT)}", ` +
      "where the sidecar connects to it",
  );
}

function takeSetting(
  what: string,
  setting: keyof KvEvents,
  value: unknown,
  kvEvents: KvEvents,
  outcomes: Outcomes,
): void {
  kvEvents[setting] ??= value;
  if (kvEvents[setting] === value) outcomes.kept(what, `kvEvents.${setting} in ${SIDECAR_FILE}`);
  else outcomes.dropped(what, `a pool has one kvEvents.${setting}: ${JSON.stringify(kvEvents[setting])}`);
}

function fateOf(path: string, value: unknown): readonly [Verdict, string] {
  switch (path) {
    case SOCKET:
      return ["not-needed", "it is empty"];
    case "kvEventsConfig.discoverPods":
      return value === false ? ["dropped", EVERY_ENDPOINT] : ["kept", EVERY_ENDPOINT];
    case "kvEventsConfig.tracing":
      return value === true
        ? ["dropped", "there are no spans of events"]
        : ["not-needed", "there are no spans"];
    case "speculativeIndexing":
      return value === true
        ? ["kept", "what was sent and is not yet reported always counts"]
        : ["dropped", "what was sent and is not yet reported always counts"];
    case "indexerConfig.kvCacheBackendConfigs":
      return list(value).every((tier) => TIER_WEIGHTS[String(at(tier, "name"))] === at(tier, "weight"))
        ? ["kept", "the filter's own weights"]
        : ["dropped", `tiers have fixed weights: ${JSON.stringify(TIER_WEIGHTS)}`];
    default:
      return groupFate(path) ?? ["dropped", "a parameter that is not known"];
  }
}

function groupFate(path: string): readonly [Verdict, string] | undefined {
  const names = path.split(".");
  return names
    .map((_, dropped) => FATES[names.slice(0, names.length - dropped).join(".")])
    .find((fate) => fate !== undefined);
}

/** Every value in mappings within mappings, with its path. */
function leavesOf(value: unknown, path: readonly string[] = []): [path: string, value: unknown][] {
  if (!isFields(value) || Object.keys(value).length === 0)
    return path.length === 0 ? [] : [[path.join("."), value]];
  return Object.entries(value).flatMap(([name, member]) => leavesOf(member, [...path, name]));
}

function named(plugin: unknown, index: number, path: string): string {
  return `plugins[${index}] ${text(at(plugin, "name")) ?? String(at(plugin, "type"))} ${path}`;
}
