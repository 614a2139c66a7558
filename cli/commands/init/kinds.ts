// The kinds of gateway that init knows: each is a folder under envoy/, and what in its files is filled in.
//
// The files are shipped as they stand there, tested against real Envoys and CRDs. Filling in replaces text and nothing
// else, so that comments stay; a replacement that finds nothing to replace is an error, not a silence.
import { isIP } from "node:net";
import { parseEndpoint } from "../../envoy-config.ts";
import { FlagError } from "../errors.ts";

/** What is asked. */
export interface Answers {
  readonly kind: string;
  /** The pool's name in the filter and the sidecar. */
  readonly pool: string;
  readonly namespace: string;
  /** Labels of the replicas' pods. */
  readonly selector: Readonly<Record<string, string>>;
  /** Name of the headless Service that init writes for them. */
  readonly service: string;
  /** Port of the replicas. */
  readonly port: number;
  /** "ip:port" each, or one "name:port": of a gateway without Kubernetes. */
  readonly endpoints: readonly string[];
  readonly moduleImage?: string | undefined;
  readonly sidecarImage?: string | undefined;
}

/** One replacement in all files of a kind. */
export interface Filling {
  readonly what: string;
  readonly pattern: RegExp;
  readonly value: string;
}

/** A kind of gateway. */
export interface Kind {
  readonly title: string;
  /** Below the package's root. */
  readonly folder: string;
  /** Which of the folder's files, by the name they get; undefined = all of them. */
  readonly files?: (answers: Answers) => Readonly<Record<string, string>>;
  readonly asksEndpoints: boolean;
  readonly fillings: (answers: Answers) => readonly Filling[];
  /** What to do with the files; `folder` is where they are. */
  readonly nextSteps: (answers: Answers, folder: string) => readonly string[];
}

const MODULE = "epp.wasm from the release (or build/epp.wasm after `npm run build`)";

export const KINDS: Readonly<Record<string, Kind>> = {
  plain: {
    title: "plain Envoy, without Kubernetes",
    folder: "envoy/plain",
    files: (answers) => ({
      "envoy.yaml": hostName(answers) === undefined ? "envoy.yaml" : "envoy-dns.yaml",
      "sidecar.yaml": "sidecar.yaml",
    }),
    asksEndpoints: true,
    fillings: (answers) => [...poolFillings(answers), ...endpointFillings(answers)],
    nextSteps: (_, folder) => [
      `Put ${MODULE} to /etc/epp/epp.wasm, and make /run/epp for Envoy's user.`,
      `envoy -c ${folder}/envoy.yaml`,
      `npx epp-wasm-sidecar --config ${folder}/sidecar.yaml`,
      "npx epp-wasm doctor --sidecar http://127.0.0.1:9902",
    ],
  },
  "envoy-gateway": inKubernetes("Envoy Gateway", "envoy/envoy-gateway/base", "envoy-gateway-system", [
    "Set extensionApis.enableEnvoyPatchPolicy: true in Envoy Gateway's own configuration.",
  ]),
  kgateway: inKubernetes("kgateway", "envoy/kgateway/base"),
  istio: inKubernetes("Istio", "envoy/istio/base"),
};

/** @param proxyNamespace where the proxy's pods run; undefined = beside the Gateway */
function inKubernetes(
  title: string,
  folder: string,
  proxyNamespace?: string,
  first: readonly string[] = [],
): Kind {
  return {
    title,
    folder,
    asksEndpoints: false,
    fillings: (answers) => [...poolFillings(answers), ...objectFillings(answers)],
    nextSteps: ({ namespace }, written) => [
      ...first,
      `kubectl create configmap epp-filter -n ${proxyNamespace ?? namespace} --from-file=epp.wasm  # ${MODULE}`,
      `kubectl apply -k ${written}`,
      "kubectl port-forward to the proxy pod's admin port, then: npx epp-wasm doctor --admin http://127.0.0.1:<port>",
    ],
  };
}

function poolFillings({ pool }: Answers): Filling[] {
  return [
    {
      what: "the pool's name",
      pattern: /((?:\b(?:name|pool|cluster|cluster_name): )|"pool":")pool(?![-\w.])/g,
      value: `$1${pool}`,
    },
  ];
}

function objectFillings(answers: Answers): Filling[] {
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

function endpointFillings(answers: Answers): Filling[] {
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
function hostName({ endpoints }: Answers): string | undefined {
  const names = endpoints.map((text) => parseEndpoint(text).host).filter((host) => isIP(host) === 0);
  if (names.length === 0) return undefined;
  if (endpoints.length > 1)
    throw new FlagError("--endpoints", endpoints.join(","), "IP addresses, or one DNS name alone");
  return names[0];
}
