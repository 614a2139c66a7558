// Where init's answers come from: flags, and questions on a terminal for what they leave open.
import { createInterface } from "node:readline/promises";
import type { Readable, Writable } from "node:stream";
import { parseEndpoint } from "../../envoy-config.ts";
import { FlagError } from "../errors.ts";
import {
  DISCOVERIES,
  type Discovery,
  discoveryOf,
  poolOfPicker,
  poolOfSidecar,
  readPicker,
  readSidecarConfig,
  watchedObject,
} from "./converted.ts";
import { type Answers, KINDS } from "./kinds.ts";

/** What the command line says. */
export interface InitFlags {
  readonly kind?: string;
  readonly pool?: string;
  readonly namespace?: string;
  readonly selector?: string;
  readonly service?: string;
  readonly port?: string;
  readonly endpoints?: string;
  readonly moduleImage?: string;
  readonly sidecarImage?: string;
  readonly discovery?: string;
  readonly inferencePool?: string;
  readonly picker?: string;
  readonly sidecarConfig?: string;
}

/** A terminal, or null where nobody can be asked. */
export interface Terminal {
  readonly input: Readable;
  readonly output: Writable;
}

const NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const LABEL = /^([\w./-]{1,317})=([\w.-]{1,63})$/;
const IMAGE = /^[\w./:@-]{1,512}$/;

type Ask = (flag: string, given: string | undefined, question: string, fallback?: string) => Promise<string>;

/** Completes the flags. @throws FlagError for a value that cannot be used, or that is missing with nobody to ask */
export async function answersFrom(flags: InitFlags, terminal: Terminal | null): Promise<Answers> {
  const lines = terminal === null ? null : createInterface({ ...terminal });
  const ask: Ask = async (flag, given, question, fallback) => {
    if (given !== undefined) return given;
    const hint = fallback === undefined ? "" : ` [${fallback === "" ? "none" : fallback}]`;
    const answer = lines === null ? "" : (await lines.question(`${question}${hint}: `)).trim();
    const value = answer === "" ? fallback : answer;
    if (value === undefined) throw new FlagError(flag, undefined, question);
    return value;
  };
  try {
    return await complete(flags, ask);
  } finally {
    lines?.close();
  }
}

async function complete(flags: InitFlags, ask: Ask): Promise<Answers> {
  const kinds = Object.keys(KINDS).join(", ");
  const kind = await ask("--kind", flags.kind, `gateway kind (${kinds})`);
  const known = Object.hasOwn(KINDS, kind) ? KINDS[kind] : undefined;
  if (known === undefined) throw new FlagError("--kind", kind, `one of ${kinds}`);
  const converted = await documents(flags, ask);
  const pool = await poolName(flags, converted, ask);
  const common = { kind, pool, ...converted };
  if (known.asksEndpoints) {
    const endpoints = await ask(
      "--endpoints",
      flags.endpoints,
      "the replicas as ip:port,ip:port, or one name:port",
    );
    return {
      ...common,
      endpoints: endpointsOf(endpoints),
      namespace: "",
      selector: {},
      service: "",
      port: 0,
      discovery: "dns",
      inferencePool: "",
    };
  }
  const namespace = await ask("--namespace", flags.namespace, "the Gateway's namespace", "default");
  const selector = await ask(
    "--selector",
    flags.selector,
    "labels of the replicas' pods as key=value,…",
    "app=vllm",
  );
  const port = await ask("--port", flags.port, "the replicas' port", "8000");
  const discovery = await discoveryWay(flags, converted, ask);
  const watched = watchedObject(converted.sidecar);
  return {
    ...common,
    endpoints: [],
    namespace: matching("--namespace", NAME, namespace),
    selector: labelsOf(selector),
    service: matching(
      "--service",
      NAME,
      flags.service ?? (discovery === "service" ? watched : undefined) ?? "vllm",
    ),
    port: portOf(port),
    discovery,
    inferencePool: matching("--inference-pool", NAME, flags.inferencePool ?? watched ?? pool),
    ...images(flags),
  };
}

type Converted = Pick<Answers, "picker" | "sidecar">;

async function documents(flags: InitFlags, ask: Ask): Promise<Converted> {
  const picker = await ask("--picker", flags.picker, "convert's picker.json", "");
  return {
    picker: picker === "" ? undefined : await readPicker(picker),
    sidecar: flags.sidecarConfig === undefined ? undefined : readSidecarConfig(flags.sidecarConfig),
  };
}

/** The filter and the sidecar must agree on it. */
async function poolName(flags: InitFlags, { picker, sidecar }: Converted, ask: Ask): Promise<string> {
  const written = poolOfPicker(picker) ?? poolOfSidecar(sidecar);
  const pool = matching(
    "--pool",
    NAME,
    await ask("--pool", flags.pool ?? written, "the pool's name", "pool"),
  );
  for (const [file, name] of [
    ["--picker", poolOfPicker(picker)],
    ["--sidecar-config", poolOfSidecar(sidecar)],
  ] as const)
    if (name !== undefined && name !== pool)
      throw new FlagError("--pool", pool, `${name}, as in the file of ${file}`);
  return pool;
}

async function discoveryWay(flags: InitFlags, { sidecar }: Converted, ask: Ask): Promise<Discovery> {
  const ways = DISCOVERIES.join(", ");
  const written = sidecar === undefined ? undefined : (discoveryOf(sidecar) ?? "dns");
  const question = `how the sidecar finds the replicas (${ways})`;
  const given = await ask("--discovery", flags.discovery ?? written, question, "dns");
  const way = DISCOVERIES.find((one) => one === given);
  if (way === undefined) throw new FlagError("--discovery", given, `one of ${ways}`);
  if (written !== undefined && way !== written)
    throw new FlagError("--discovery", given, `${written}, as in the file of --sidecar-config`);
  return way;
}

function images({ moduleImage, sidecarImage }: InitFlags): Pick<Answers, "moduleImage" | "sidecarImage"> {
  return {
    moduleImage: moduleImage === undefined ? undefined : matching("--module-image", IMAGE, moduleImage),
    sidecarImage: sidecarImage === undefined ? undefined : matching("--sidecar-image", IMAGE, sidecarImage),
  };
}

function matching(flag: string, pattern: RegExp, value: string): string {
  if (pattern.test(value)) return value;
  throw new FlagError(
    flag,
    value,
    pattern === IMAGE ? "an image's name" : "lower-case letters, digits and -, at most 63",
  );
}

function labelsOf(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const term of text.split(",")) {
    const match = LABEL.exec(term.trim());
    if (match === null) throw new FlagError("--selector", text, "key=value,key=value");
    labels[match[1]!] = match[2]!;
  }
  return labels;
}

function portOf(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port < 1 || port > 65_535) throw new FlagError("--port", text, "1 to 65535");
  return port;
}

function endpointsOf(text: string): string[] {
  const endpoints = text.split(",").map((one) => one.trim());
  for (const endpoint of endpoints) {
    try {
      parseEndpoint(endpoint);
    } catch (error) {
      throw new FlagError("--endpoints", endpoint, `ip:port or name:port (${(error as Error).message})`);
    }
  }
  return endpoints;
}
