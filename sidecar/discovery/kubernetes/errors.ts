// Why the Kubernetes API did not give what discovery needs: one class a cause.
import { messageOf, SidecarError } from "../../errors.ts";

/** There are no credentials for a cluster, or they cannot be used. */
export class KubernetesConfigError extends SidecarError {
  readonly code = "kubernetes-config";
  constructor(source: string, cause: unknown) {
    super(`cannot reach Kubernetes by ${source}: ${messageOf(cause)}`);
  }
}

/** 403: the service account lacks a right. */
export class KubernetesForbiddenError extends SidecarError {
  readonly code = "kubernetes-forbidden";
  constructor(
    readonly verb: string,
    readonly resource: string,
    readonly namespace: string,
    detail: string,
  ) {
    super(
      `Kubernetes does not let this service account ${verb} ${resource} in namespace ${namespace}: ` +
        `grant it by a Role as under envoy/kubernetes/ (${detail})`,
    );
  }
}

/** 401: the token is not, or no longer, accepted. */
export class KubernetesUnauthorizedError extends SidecarError {
  readonly code = "kubernetes-unauthorized";
  constructor(readonly target: string) {
    super(`Kubernetes does not accept the credentials for ${target}: they are read again for the next try`);
  }
}

/** 404: the API server does not know the resource. */
export class KubernetesResourceError extends SidecarError {
  readonly code = "kubernetes-resource-unknown";
  constructor(
    readonly resource: string,
    readonly apiVersion: string,
  ) {
    super(`Kubernetes does not know ${resource} of ${apiVersion}: install its CustomResourceDefinition`);
  }
}

/** Any other answer than the one expected. */
export class KubernetesApiError extends SidecarError {
  readonly code = "kubernetes-api";
  constructor(
    readonly target: string,
    readonly status: number,
    detail: string,
    /** What Retry-After asks for, ms; 0 = nothing. */
    readonly retryAfterMs = 0,
  ) {
    super(`${target} answered ${status}: ${detail}`);
  }
}

/** 410: the resource version, or the continue token, is too old. */
export class KubernetesExpiredError extends SidecarError {
  readonly code = "kubernetes-expired";
  constructor(readonly target: string) {
    super(`${target}: the resource version is too old: listing again`);
  }
}

/** The connection failed, broke or stood still. */
export class KubernetesConnectionError extends SidecarError {
  readonly code = "kubernetes-connection";
  constructor(
    readonly target: string,
    cause: unknown,
  ) {
    super(`connection to ${target} failed: ${messageOf(cause)}`);
  }
}

/** The bytes that came are not what the API is to send. */
export class KubernetesProtocolError extends SidecarError {
  readonly code = "kubernetes-protocol";
  constructor(
    readonly target: string,
    detail: string,
  ) {
    super(`${target} sent what cannot be read: ${detail}`);
  }
}

/** The pool or service that was configured does not exist, or says what cannot be used. */
export class KubernetesObjectError extends SidecarError {
  readonly code = "kubernetes-object";
}

/** Whether the cluster does not have a kind of objects for us: it is not defined, or not ours to read. */
export function isAbsent(error: Error | null): boolean {
  return error instanceof KubernetesResourceError || error instanceof KubernetesForbiddenError;
}
