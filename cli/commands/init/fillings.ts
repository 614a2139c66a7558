// What init replaces in the shipped files: text and nothing else, so that comments stay.
import { isIP } from "node:net";
import { stringify } from "yaml";
import { parseEndpoint } from "../../envoy-config.ts";
import { FlagError } from "../errors.ts";
import { pickerText, sidecarText } from "./converted.ts";
import type { Answers } from "./kinds.ts";

/** One replacement in all files of a kind. */
export interface Filling {
  readonly what: string;
  readonly pattern: RegExp;
  readonly value: string;
}

/** The file that every kind has the sidecar's configuration in. */
export const SIDECAR_FILE = "sidecar.yaml";

/** The name that the filter and the sidecar agree on. */
export function poolFillings({ pool }: Answers): Filling[] {
  return [
    {
      what: "the pool's name",
      pattern: /((?:\b(?:name|pool|cluster|cluster_name): )|"pool":")pool(?![-\w.])/g,
      value: `$1${pool}`,
    },
  ];
}

/** Names, labels, ports and images of a gateway in Kubernetes. */
export function objectFillings(answers: Answers): Filling[] {
  const { namespace, service, port, moduleImage, sidecarImage } = answers;
  const selector = Object.entries(answers.selector).map(([key, value]) => `${key}: ${JSON.stringify(value)}`);
  const fillings: Filling[] = [
    {
      what: "the replicas' labels",
      pattern: /selector: \{ app: vllm \}/g,
      value: `selector: { ${selector.join(", ")} }`,
    },
    { what: "the Service's host", pattern: /\bvllm\.default\.svc\b/g, value: `${service}.${namespace}.svc` },
    { what: "the Service's name", pattern: /\bname: vllm(?![-\w.])/g, value: `name: ${service}` },
    { what: "the namespace", pattern: /\bnamespace: default(?![-\w.])/g, value: `namespace: ${namespace}` },
    {
      what: "the replicas' port",
      pattern: /\b(port|targetPort|port_value|portNumber): 8000\b/g,
      value: `$1: ${port}`,
    },
  ];
  if (answers.kind === "envoy-gateway")
    fillings.push({ what: "the listener's name", pattern: /\bdefault\/llm\//g, value: `${namespace}/llm/` });
  if (moduleImage !== undefined && answers.kind === "envoy-gateway")
    fillings.push({
      what: "the module's image",
      pattern: /registry\.example\.com\/epp-wasm\/epp:[\w.-]+/g,
      value: moduleImage,
    });
  if (sidecarImage !== undefined)
    fillings.push({
      what: "the sidecar's image",
      pattern: /registry\.example\.com\/epp-wasm\/sidecar:[\w.-]+/g,
      value: sidecarImage,
    });
  return fillings;
}

/** What the overlays say that the bases do not. */
export function kubernetesFillings({
  kind,
  discovery,
  namespace,
  service,
  port,
  inferencePool,
}: Answers): Filling[] {
  if (discovery === "dns") return [];
  const watched = discovery === "service" ? service : inferencePool;
  const object: Filling[] =
    discovery === "selector"
      ? [{ what: "the replicas' ports", pattern: /\bports: \[8000\]/g, value: `ports: [${port}]` }]
      : [
          {
            what: "the name in the Role",
            pattern: /resourceNames: \[vllm\]/g,
            value: `resourceNames: [${watched}]`,
          },
          {
            what: "the object that is watched",
            pattern: /\b(service|inferencePool): vllm(?![-\w.])/g,
            value: `$1: ${watched}`,
          },
        ];
  if (kind !== "envoy-gateway") return object;
  const account = {
    what: "the service account",
    pattern: /\bepp-default-llm\b/g,
    value: `epp-${namespace}-llm`,
  };
  return [...object, account];
}

/** The filter's document comes last: nothing in it is to be filled in. */
export function pickerFillings({ kind, picker, pool }: Answers): Filling[] {
  if (picker === undefined) return [];
  const text = pickerText(picker, pool);
  if (kind === "envoy-gateway") {
    const lines = stringify(JSON.parse(text)).trimEnd().split("\n");
    const value = lines.map((line) => `        ${line}\n`).join("");
    return [
      {
        what: "the filter's configuration",
        pattern: /(?<= {6}config:\n)(?: {8}.*\n)+/g,
        value: verbatim(value),
      },
    ];
  }
  return [
    {
      what: "the filter's configuration",
      pattern: /value: >-\n *\{"apiVersion":.*\n *"plugins":.*(?=\n)/g,
      value: verbatim(`value: '${text.replaceAll("'", "''")}'`),
    },
    ...(kind === "istio"
      ? []
      : [
          {
            what: "what is said of it",
            pattern: / It names no profile, so the default one is used\./g,
            value: "",
          },
        ]),
  ];
}

/** For String.replace, in whose replacement "$" has a meaning. */
function verbatim(text: string): string {
  return text.replaceAll("$", "$$$$");
}

/** The text of a shipped file, or what an answer puts in its place. */
export function replacedText(name: string, { sidecar, namespace }: Answers): string | undefined {
  const isSidecar = name === SIDECAR_FILE || name.endsWith(`/${SIDECAR_FILE}`);
  return isSidecar && sidecar !== undefined ? sidecarText(sidecar, namespace) : undefined;
}

/** The replicas of a gateway without Kubernetes. */
export function endpointFillings(answers: Answers): Filling[] {
  const name = hostName(answers);
  const addresses = answers.endpoints.map(parseEndpoint);
  const [first] = addresses;
  const discovery = addresses.map(
    ({ host, port }) => `          - { address: ${quoted(host)}, port: ${port} }\n`,
  );
  const sidecar: Filling = {
    what: "the sidecar's endpoints",
    pattern: /^ {6}static:\n {8}endpoints:\n(?: {10}- .*\n)+/gm,
    value:
      name === undefined
        ? `      static:\n        endpoints:\n${discovery.join("")}`
        : `      dns: { host: ${name}, port: ${first!.port} }\n`,
  };
  if (name !== undefined) {
    const value = `address: ${name}, port_value: ${first!.port}`;
    return [
      sidecar,
      {
        what: "the cluster's host",
        pattern: /address: vllm\.default\.svc\.cluster\.local, port_value: 8000/g,
        value,
      },
    ];
  }
  const lines = addresses.map(
    ({ host, port }) =>
      `              - endpoint: { address: { socket_address: { address: ${quoted(host)}, port_value: ${port} } } }\n`,
  );
  const pattern = /^(?: {14}- endpoint: \{ address: \{ socket_address: .*\n)+/gm;
  return [sidecar, { what: "the cluster's endpoints", pattern, value: lines.join("") }];
}

/** IPv6 has colons. */
function quoted(host: string): string {
  return isIP(host) === 6 ? JSON.stringify(host) : host;
}

/** The one DNS name that stands for all replicas; undefined = they are addresses. */
export function hostName({ endpoints }: Answers): string | undefined {
  const names = endpoints.map((text) => parseEndpoint(text).host).filter((host) => isIP(host) === 0);
  if (names.length === 0) return undefined;
  if (endpoints.length > 1)
    throw new FlagError("--endpoints", endpoints.join(","), "IP addresses, or one DNS name alone");
  return names[0];
}
