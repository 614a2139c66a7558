// What `epp-wasm convert` made, for init to put into the manifests: the filter's document and the sidecar's.
import { stringify } from "yaml";
import { at, type Fields, isFields, list, readDocuments, text } from "../documents.ts";
import { FlagError, InputFileError } from "../errors.ts";
import { FilterCheck } from "../filter-check.ts";
import { kindOf, validateSidecar } from "../validate.ts";

const GATEWAY_PLUGIN = "epp-wasm-gateway";
/** Where every shipped manifest has the control listener. */
const CONTROL_SOCKET = "/run/epp/control.sock";

/** Ways in which a sidecar learns of replicas that the manifests know; all but dns need the Kubernetes API. */
export const DISCOVERIES = ["dns", "service", "selector", "inference-pool"] as const;
export type Discovery = (typeof DISCOVERIES)[number];

/** An EndpointPickerConfig as the filter takes it. @throws InputFileError, FlagError, WasmMissingError */
export async function readPicker(path: string): Promise<Fields> {
  const document = only(path);
  if (kindOf(document) !== "EndpointPickerConfig")
    throw new FlagError("--picker", path, "an EndpointPickerConfig, such as convert's picker.json");
  const check = new FilterCheck();
  try {
    const { errors } = await check.document(document);
    if (errors.length > 0)
      throw new FlagError("--picker", path, `what the filter takes:\n  ${errors.join("\n  ")}`);
  } finally {
    check.close();
  }
  return document;
}

/** A configuration of the sidecar for one pool. @throws InputFileError, FlagError */
export function readSidecarConfig(path: string): Fields {
  const document = only(path);
  const expected = (what: string): FlagError => new FlagError("--sidecar-config", path, what);
  if (kindOf(document) !== "sidecar")
    throw expected("a sidecar's configuration, such as convert's sidecar.yaml");
  const { errors } = validateSidecar(document);
  if (errors.length > 0) throw expected(`what the sidecar takes:\n  ${errors.join("\n  ")}`);
  if (list(document["pools"]).length !== 1) throw expected("one pool");
  if (at(document, "control", "socket") !== CONTROL_SOCKET)
    throw expected(`control.socket ${CONTROL_SOCKET}, which is what the manifests share`);
  return document;
}

function only(path: string): Fields {
  const documents = readDocuments(path);
  const [document] = documents;
  if (documents.length !== 1 || !isFields(document))
    throw new InputFileError(path, `${documents.length} documents: expected one mapping`);
  return document;
}

/** The pool that a document for the filter names; undefined = none. */
export function poolOfPicker(picker: Fields | undefined): string | undefined {
  const gateway = list(picker?.["plugins"]).find((plugin) => at(plugin, "type") === GATEWAY_PLUGIN);
  return text(at(gateway, "parameters", "pool"));
}

/** The one pool of a sidecar's configuration. */
export function poolOfSidecar(sidecar: Fields | undefined): string | undefined {
  return text(at(sidecar, "pools", 0, "name"));
}

/** How a sidecar's configuration finds replicas; undefined = in a way for which no rights are needed. */
export function discoveryOf(sidecar: Fields | undefined): Exclude<Discovery, "dns"> | undefined {
  const kubernetes = kubernetesOf(sidecar);
  if (kubernetes?.["inferencePool"] !== undefined) return "inference-pool";
  if (kubernetes?.["service"] !== undefined) return "service";
  return kubernetes?.["selector"] === undefined ? undefined : "selector";
}

/** The InferencePool or Service that a sidecar's configuration watches; undefined = neither. */
export function watchedObject(sidecar: Fields | undefined): string | undefined {
  const kubernetes = kubernetesOf(sidecar);
  return text(kubernetes?.["inferencePool"] ?? kubernetes?.["service"]);
}

function kubernetesOf(sidecar: Fields | undefined): Fields | undefined {
  const kubernetes = at(sidecar, "pools", 0, "discovery", "kubernetes");
  return isFields(kubernetes) ? kubernetes : undefined;
}

/**
 * The document with the pool's name, which no gateway but a plain Envoy would tell the filter.
 * @returns JSON
 */
export function pickerText(picker: Fields, pool: string): string {
  if (poolOfPicker(picker) !== undefined) return JSON.stringify(picker);
  const plugins = list(picker["plugins"]);
  const others = plugins.filter((plugin) => at(plugin, "type") !== GATEWAY_PLUGIN);
  const gateway = plugins.find((plugin) => at(plugin, "type") === GATEWAY_PLUGIN) ?? { type: GATEWAY_PLUGIN };
  const parameters = { ...(at(gateway, "parameters") as Fields | undefined), pool };
  return JSON.stringify({ ...picker, plugins: [...others, { ...(gateway as Fields), parameters }] });
}

/**
 * The configuration with the replicas' namespace, which need not be that of the proxy's pods.
 * @param namespace "" = there is no Kubernetes
 */
export function sidecarText(sidecar: Fields, namespace: string): string {
  const kubernetes = kubernetesOf(sidecar);
  if (namespace === "" || kubernetes === undefined || kubernetes["namespace"] !== undefined)
    return stringify(sidecar);
  const [pool] = list(sidecar["pools"]) as Fields[];
  return stringify({
    ...sidecar,
    pools: [{ ...pool, discovery: { kubernetes: { namespace, ...kubernetes } } }],
  });
}
