// The kinds of gateway that init knows: each is a folder under envoy/, and what in its files is filled in.
//
// The files are shipped as they stand there, tested against real Envoys and CRDs. Filling in replaces text and nothing
// else, so that comments stay; a replacement that finds nothing to replace is an error, not a silence.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../../envoy.ts";
import type { Fields } from "../documents.ts";
import type { Discovery } from "./converted.ts";
import {
  endpointFillings,
  type Filling,
  hostName,
  kubernetesFillings,
  objectFillings,
  pickerFillings,
  poolFillings,
} from "./fillings.ts";

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
  /** How the sidecar finds the replicas; dns where there is no Kubernetes. */
  readonly discovery: Discovery;
  /** Name of the InferencePool that the sidecar watches. */
  readonly inferencePool: string;
  /** For the filter, in the place of the shipped default. */
  readonly picker?: Fields | undefined;
  /** The sidecar's whole configuration, in the place of the one that would be filled in. */
  readonly sidecar?: Fields | undefined;
}

/** A kind of gateway. */
export interface Kind {
  readonly title: string;
  /** Below the package's root. */
  readonly folder: string;
  /** Which files, by the name they get: paths from the folder. */
  readonly files: (answers: Answers) => Readonly<Record<string, string>>;
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
    fillings: (answers) => [
      ...poolFillings(answers),
      ...endpointFillings(answers),
      ...pickerFillings(answers),
    ],
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
    files: ({ kind, discovery }) => (discovery === "dns" ? filesOf(folder) : treeOf(kind, discovery)),
    asksEndpoints: false,
    fillings: (answers) => [
      ...poolFillings(answers),
      ...objectFillings(answers),
      ...kubernetesFillings(answers),
      ...pickerFillings(answers),
    ],
    nextSteps: ({ kind, namespace, discovery }, written) => [
      ...first,
      `kubectl create configmap epp-filter -n ${proxyNamespace ?? namespace} --from-file=epp.wasm  # ${MODULE}`,
      `kubectl apply -k ${discovery === "dns" ? written : `${written}/${kind}/overlays/${discovery}`}`,
      "kubectl port-forward to the proxy pod's admin port, then: npx epp-wasm doctor --admin http://127.0.0.1:<port>",
    ],
  };
}

/** All files of a folder, which keep their names. */
function filesOf(folder: string): Record<string, string> {
  return Object.fromEntries(readdirSync(join(ROOT, folder)).map((name) => [name, name]));
}

/** An overlay and all that it builds on, in the folders in which they find one another. */
function treeOf(kind: string, discovery: Discovery): Record<string, string> {
  const folders = [
    ...["base", "components/kubernetes-api", `overlays/${discovery}`].map((name) => `${kind}/${name}`),
    `kubernetes/${discovery}`,
  ];
  return Object.fromEntries(
    folders
      .flatMap((folder) => readdirSync(join(ROOT, "envoy", folder)).map((name) => `${folder}/${name}`))
      .map((path) => [path, `../../${path}`]),
  );
}
