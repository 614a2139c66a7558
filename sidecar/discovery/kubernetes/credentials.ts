// Where the cluster is and how one proves to be allowed in: kubeconfig or the pod's service account.
//
// All of it is @kubernetes/client-node's KubeConfig, which knows exec plugins, OIDC, client certificates and
// proxies. It is imported when the first request is made, so that a sidecar without Kubernetes neither loads nor
// evaluates it.
import type { RequestOptions } from "node:https";
import { KubernetesConfigError } from "./errors.ts";

/** Where credentials come from; both null = KUBECONFIG, ~/.kube/config, or the pod's service account. */
export interface CredentialSettings {
  /** Path of a kubeconfig; null = the default places. */
  readonly kubeconfig: string | null;
  /** Context in it; null = the current one. */
  readonly context: string | null;
}

/** A cluster that can be asked. */
export interface ClusterAccess {
  /** `https://host:port`, perhaps with a path, without a slash at the end. */
  readonly server: string;
  /** Namespace of the context or of the pod; "" = none is said. */
  readonly namespace: string;
  /** Headers, agent and TLS of one request. Tokens and certificates are read anew when they are due. */
  requestOptions(): Promise<RequestOptions>;
}

/** Makes access; called again when the API server no longer accepts what was made. */
export type AccessSource = () => Promise<ClusterAccess>;

/**
 * @param environment KUBERNETES_SERVICE_HOST tells a pod from a workstation
 * @param rootFolder put before the path of the service account's files; "" but in tests
 * @throws KubernetesConfigError when called, not here
 */
export function accessSource(
  settings: CredentialSettings,
  environment: NodeJS.ProcessEnv = process.env,
  rootFolder = "",
): AccessSource {
  return async () => {
    const inCluster =
      settings.kubeconfig === null &&
      !environment["KUBECONFIG"] &&
      Boolean(environment["KUBERNETES_SERVICE_HOST"]);
    const source =
      settings.kubeconfig ??
      (inCluster ? "the pod's service account" : "KUBECONFIG, ~/.kube/config or a service account");
    try {
      const { KubeConfig } = await import("@kubernetes/client-node/dist/config.js");
      const config = new KubeConfig();
      if (settings.kubeconfig !== null) config.loadFromFile(settings.kubeconfig);
      else if (inCluster) config.loadFromCluster(rootFolder);
      else config.loadFromDefault();
      if (settings.context !== null) config.setCurrentContext(settings.context);
      const context = config.getContextObject(config.getCurrentContext());
      const cluster = config.getCurrentCluster();
      if (context === null || cluster === null || config.getCurrentUser() === null) {
        const name = JSON.stringify(config.getCurrentContext() ?? "");
        throw new Error(`context ${name} does not name a cluster and a user`);
      }
      return {
        server: cluster.server.replace(/\/+$/, ""),
        namespace: (context.namespace ?? "").trim(),
        requestOptions: async () => {
          const options: RequestOptions = {};
          await config.applyToHTTPSOptions(options);
          return options;
        },
      };
    } catch (error) {
      throw new KubernetesConfigError(source, error);
    }
  };
}
