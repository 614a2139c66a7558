// An llm-d EndpointPickerConfig → what the filter takes of it, as decided by the filter itself.
import { at, type Fields, isFields, list, text } from "../documents.ts";
import type { FilterCheck } from "../filter-check.ts";
import { ConversionError, type Outcomes } from "./outcome.ts";
import { isPreciseProducer, isPreciseScorer, kvEventsOf, standInFor } from "./precise-prefix.ts";

const API_VERSION = "llm-d.ai/v1alpha1";
const KIND = "EndpointPickerConfig";
const NO_EFFECT = /^plugins\[0\] \S+ ?: no effect in the filter, /;
/** Handlers that run several profiles, and the deciders that they name. */
const STAGED_HANDLERS = ["disagg-profile-handler", "pd-profile-handler"];
const DECIDERS = ["prefix-based-pd-decider", "always-disagg-pd-decider", "always-disagg-multimodal-decider"];
/** Profile that a request goes to when prefill and decode are not separated. */
const PROFILE_PREFERENCE = ["decode", "default"];
/** Sections beside plugins and profiles, and why the filter's document goes without them. */
const SECTIONS: Readonly<Record<string, readonly ["not-needed" | "dropped" | "kept", string]>> = {
  dataLayer: ["kept", "in sidecar.yaml"],
  parser: ["not-needed", "the filter tells the API by its path"],
  requestHandler: ["not-needed", "the filter tells the API by its path"],
  saturationDetector: ["dropped", "flow control is off; the nearest is utilization-filter"],
  flowControl: ["dropped", "flow control is off"],
};

/** What goes into the filter's epp-wasm-gateway settings. */
export interface GatewaySettings {
  readonly pool: string;
  readonly fail?: "open" | "closed";
}

/** The converted document, and what is left of the input for the sidecar. */
export interface PickerConversion {
  readonly picker: Fields;
  /** The input without what is not supported: its data layer is the sidecar's. */
  readonly forSidecar: Fields;
  /** What the sidecar's pool is to say of KV events; null = the picker did not follow them. */
  readonly kvEvents: Fields | null;
}

/**
 * Keeps what the filter implements, in its order, and reports all else.
 * @throws ConversionError when the filter refuses the result
 */
export async function convertPicker(
  input: Fields,
  settings: GatewaySettings,
  check: FilterCheck,
  outcomes: Outcomes,
): Promise<PickerConversion> {
  if (input["apiVersion"] !== API_VERSION)
    outcomes.kept(`apiVersion ${String(input["apiVersion"])}`, `as ${API_VERSION}: fields are the same`);
  const plugins = list(input["plugins"]);
  const judged = await judgePlugins(plugins, check, outcomes);
  const kvEvents = kvEventsOf(plugins, outcomes);
  const gone = new Set(judged.filter(({ fate }) => fate !== "kept").map(({ name }) => name));
  const profiles = convertProfiles(list(input["schedulingProfiles"]), judged, gone, outcomes);
  await judgeGates(list(input["featureGates"]), check, outcomes);
  judgeSections(input, outcomes);
  const kept = judged.filter(({ fate }) => fate === "kept").map(({ plugin }) => plugin);
  const hasGateway = kept.some((plugin) => at(plugin, "type") === "epp-wasm-gateway");
  const picker = {
    apiVersion: API_VERSION,
    kind: KIND,
    plugins: [
      ...(profiles === "default" ? kept.filter((plugin) => !isScheduling(plugin)) : kept),
      ...(hasGateway ? [] : [{ type: "epp-wasm-gateway", parameters: settings }]),
    ],
    ...(profiles === "default" || profiles.length === 0 ? {} : { schedulingProfiles: profiles }),
  };
  const { errors } = await check.document(picker);
  if (errors.length > 0)
    throw new ConversionError(`the filter refuses what is left:\n  ${errors.join("\n  ")}`);
  return { picker, forSidecar: withoutDropped(input, judged), kvEvents };
}

interface JudgedPlugin {
  readonly plugin: unknown;
  readonly name: string;
  readonly type: string;
  /** kept: in the filter's document. idle: taken, without effect in the filter. dropped: refused. */
  readonly fate: "kept" | "idle" | "dropped";
}

async function judgePlugins(
  given: readonly unknown[],
  check: FilterCheck,
  outcomes: Outcomes,
): Promise<JudgedPlugin[]> {
  const judged: JudgedPlugin[] = [];
  const plugins = given.map((plugin) => (isPreciseScorer(plugin) ? standInFor(plugin) : plugin));
  for (const [index, plugin] of plugins.entries()) {
    const type = String(at(plugin, "type"));
    const name = text(at(plugin, "name")) ?? type;
    const what = `plugins[${index}] ${name}${name === type ? "" : ` (${type})`}`;
    if (isPreciseProducer(plugin)) {
      outcomes.kept(
        what,
        "kvEvents in sidecar.yaml: the filter's scorers and filters of prefixes read what it tells",
      );
      judged.push({ plugin, name, type, fate: "idle" });
      continue;
    }
    // A handler is judged with the deciders that it names.
    const named = STAGED_HANDLERS.includes(type)
      ? plugins.filter((other) => DECIDERS.includes(String(at(other, "type"))))
      : [];
    const { errors, notes } = await check.text(
      JSON.stringify({ apiVersion: API_VERSION, kind: KIND, plugins: [plugin, ...named] }),
    );
    const idle = notes.find((note) => NO_EFFECT.test(note))?.replace(NO_EFFECT, "");
    if (errors.length > 0) {
      outcomes.dropped(what, reasonOf(errors).replaceAll("plugins[0]", `plugins[${index}]`));
    } else if (idle === "the sidecar's") outcomes.kept(what, "in sidecar.yaml");
    else if (idle !== undefined) outcomes.notNeeded(what, idle);
    else if (plugin !== given[index])
      outcomes.kept(what, "prefix-cache-scorer in picker.json reads what kvEvents in sidecar.yaml tells");
    else outcomes.kept(what, "in picker.json");
    judged.push({
      plugin,
      name,
      type,
      fate: errors.length > 0 ? "dropped" : idle === undefined ? "kept" : "idle",
    });
  }
  return judged;
}

/** The filter's words, without the path and value that the outcome names already. */
function reasonOf(errors: readonly string[]): string {
  return errors
    .map((error) => error.replace(/^(plugins\[0\]\.type|featureGates\[0\]): ".*?" — /, ""))
    .join("; ");
}

/** "default": nothing that scores is left, so the filter's own profile takes over. */
function convertProfiles(
  profiles: readonly unknown[],
  judged: readonly JudgedPlugin[],
  gone: ReadonlySet<string>,
  outcomes: Outcomes,
): Fields[] | "default" {
  if (judged.some(({ type, fate }) => fate === "kept" && STAGED_HANDLERS.includes(type))) {
    const stages = profiles.map((profile, index) => convertStage(profile, index, gone, outcomes));
    return profiles.some((profile) => lostScorers(pluginsOf(profile, judged), judged, outcomes))
      ? "default"
      : stages;
  }
  const names = profiles.map((profile) => String(at(profile, "name")));
  const wanted = PROFILE_PREFERENCE.map((name) => names.indexOf(name)).find((index) => index >= 0) ?? 0;
  profiles.forEach((_, index) => {
    if (index !== wanted)
      outcomes.dropped(
        `schedulingProfiles[${index}] ${names[index]}`,
        "one profile runs: prefill and decode are not separated",
      );
  });
  const profile = profiles[wanted];
  if (!isFields(profile)) return lostScorers(judged, judged, outcomes) ? "default" : [];
  const references = list(profile["plugins"]);
  const left = references.filter((reference, index) => {
    const name = String(at(reference, "pluginRef"));
    if (gone.has(name))
      outcomes.dropped(
        `schedulingProfiles[${wanted}].plugins[${index}] ${name}`,
        "the plugin it names is not in the filter",
      );
    return !gone.has(name);
  });
  if (lostScorers(pluginsOf(profile, judged), judged, outcomes)) return "default";
  return [{ ...profile, plugins: left }];
}

/** The plugins that a profile refers to. */
function pluginsOf(profile: unknown, judged: readonly JudgedPlugin[]): JudgedPlugin[] {
  const named = new Set(list(at(profile, "plugins")).map((reference) => String(at(reference, "pluginRef"))));
  return judged.filter(({ name }) => named.has(name));
}

/** A profile of a handler that runs several, less what is not in the filter. */
function convertStage(
  profile: unknown,
  index: number,
  gone: ReadonlySet<string>,
  outcomes: Outcomes,
): Fields {
  const left = list(at(profile, "plugins")).filter((reference, place) => {
    const name = String(at(reference, "pluginRef"));
    if (gone.has(name)) {
      const what = `schedulingProfiles[${index}].plugins[${place}] ${name}`;
      outcomes.dropped(what, "the plugin it names is not in the filter");
    }
    return !gone.has(name);
  });
  return { ...(profile as Fields), plugins: left };
}

/** Whether a profile that scored does not any more: it would choose at random. */
function lostScorers(
  inProfile: readonly JudgedPlugin[],
  judged: readonly JudgedPlugin[],
  outcomes: Outcomes,
): boolean {
  const scorers = inProfile.filter(({ type }) => /scorer$|^context-length-aware$/.test(type));
  if (scorers.length === 0 || scorers.some(({ fate }) => fate === "kept")) return false;
  const left = judged.filter(({ fate, plugin }) => fate === "kept" && isScheduling(plugin));
  for (const { name } of left)
    outcomes.dropped(name, "no scorer is left: the filter's default profile takes over");
  if (left.length === 0)
    outcomes.dropped("schedulingProfiles", "no scorer is left: the filter's default profile takes over");
  return true;
}

function isScheduling(plugin: unknown): boolean {
  const others = [
    "single-profile-handler",
    "data-parallel-profile-handler",
    "epp-wasm-gateway",
    "epp-wasm-disaggregation",
  ];
  return ![...others, ...STAGED_HANDLERS, ...DECIDERS].includes(String(at(plugin, "type")));
}

async function judgeGates(gates: readonly unknown[], check: FilterCheck, outcomes: Outcomes): Promise<void> {
  for (const [index, gate] of gates.entries()) {
    const document = { apiVersion: API_VERSION, kind: KIND, featureGates: [gate] };
    const { errors } = await check.text(JSON.stringify(document));
    const what = `featureGates[${index}] ${String(gate)}`;
    if (errors.length > 0) outcomes.dropped(what, reasonOf(errors));
    else outcomes.notNeeded(what, "there is no leader, and what the gate turns off is off");
  }
}

function judgeSections(input: Fields, outcomes: Outcomes): void {
  for (const name of Object.keys(input)) {
    if (["apiVersion", "kind", "plugins", "schedulingProfiles", "featureGates"].includes(name)) continue;
    const [verdict, why] = SECTIONS[name] ?? ["dropped", "a field that is not known"];
    if (verdict === "kept") outcomes.kept(name, why);
    else if (verdict === "not-needed") outcomes.notNeeded(name, why);
    else outcomes.dropped(name, why);
  }
}

/** The sidecar reads the data layer; what is refused must not be named there either. */
function withoutDropped(input: Fields, judged: readonly JudgedPlugin[]): Fields {
  const dropped = new Set(judged.filter(({ fate }) => fate === "dropped").map(({ name }) => name));
  const names = (reference: unknown): boolean => !dropped.has(String(at(reference, "pluginRef")));
  const layer = isFields(input["dataLayer"]) ? input["dataLayer"] : undefined;
  const sources = list(layer?.["sources"])
    .filter(names)
    .map((source) => ({ ...(source as Fields), extractors: list(at(source, "extractors")).filter(names) }));
  const { discovery } = layer ?? {};
  const keepsDiscovery = names(discovery) && names(at(discovery, "endpoints"));
  return {
    kind: KIND,
    plugins: judged.filter(({ fate }) => fate !== "dropped").map(({ plugin }) => plugin),
    dataLayer: { ...layer, sources, ...(keepsDiscovery ? {} : { discovery: undefined }) },
  };
}
