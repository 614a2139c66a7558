// The pods that a gateway makes of our manifests: volumes, mounts, the sidecar, the account that they run as.
import { parse } from "yaml";
import { at, find } from "./folders.ts";
import type { Resource } from "./resource-schemas.ts";
import type { Json } from "./shape.ts";

/** A gateway's pod as its manifests make it. */
export interface Pod {
  readonly fsGroup: unknown;
  readonly volumes: readonly Json[];
  readonly envoyMounts: readonly Json[];
  readonly sidecar: Json;
  /** Where the pods run, and so the ConfigMaps that they mount. */
  readonly namespace: string;
  /** The account that they run as, and whether its token is put into every container. */
  readonly serviceAccount: { readonly name: string; readonly automount: boolean };
}

/** What a gateway makes its pods of. */
export function gatewayPod(resources: readonly Resource[]): Pod {
  const gateway = find(resources, "Gateway");
  const proxy = resources.find(({ kind }) => kind === "EnvoyProxy");
  const parameters = resources.find(({ kind }) => kind === "GatewayParameters");
  const sidecarOf = (spec: unknown): Json =>
    at<Json[]>(spec, "containers")!.find(({ name }) => name === "epp-sidecar")!;
  if (proxy !== undefined) {
    const deployment = at<Json>(proxy, "spec.provider.kubernetes.envoyDeployment")!;
    return {
      fsGroup: at(deployment, "pod.securityContext.fsGroup"),
      volumes: at<Json[]>(deployment, "pod.volumes")!,
      envoyMounts: at<Json[]>(deployment, "container.volumeMounts")!,
      sidecar: sidecarOf(at(deployment, "patch.value.spec.template.spec")),
      namespace: "envoy-gateway-system",
      // internal/infrastructure/kubernetes/proxy/resource_provider.go: never mounted, a generated name unless one is set.
      serviceAccount: {
        name: at(proxy, "spec.provider.kubernetes.envoyServiceAccount.name") ?? "",
        automount: false,
      },
    };
  }
  if (parameters !== undefined) {
    const kube = at<Json>(parameters, "spec.kube")!;
    return {
      fsGroup: at(kube, "podTemplate.securityContext.fsGroup"),
      volumes: at<Json[]>(kube, "podTemplate.extraVolumes")!,
      envoyMounts: at<Json[]>(kube, "envoyContainer.extraVolumeMounts")!,
      sidecar: sidecarOf(at(kube, "deploymentOverlay.spec.template.spec")),
      namespace: gateway.metadata.namespace!,
      // Its deployer's output: the Gateway's name, never mounted.
      serviceAccount: { name: gateway.metadata.name, automount: false },
    };
  }
  const overlay = parse(find(resources, "ConfigMap", "epp-gateway").data!["deployment"]!) as Json;
  const spec = at<Json>(overlay, "spec.template.spec")!;
  const envoy = at<Json[]>(spec, "containers")!.find(({ name }) => name === "istio-proxy")!;
  return {
    fsGroup: at(spec, "securityContext.fsGroup"),
    volumes: at<Json[]>(spec, "volumes")!,
    envoyMounts: at<Json[]>(envoy, "volumeMounts")!,
    sidecar: sidecarOf(spec),
    namespace: gateway.metadata.namespace!,
    // files/kube-gateway.yaml of istiod's chart: <Gateway>-<GatewayClass>, mounted unless the overlay says otherwise.
    serviceAccount: {
      name: `${gateway.metadata.name}-${at<string>(gateway, "spec.gatewayClassName")}`,
      automount: at<boolean>(spec, "automountServiceAccountToken") ?? true,
    },
  };
}
