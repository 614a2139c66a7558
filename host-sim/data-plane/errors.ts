// Errors of the data plane: one class per cause, each with a stable code and the offending value.

/** An endpoint that is not "host:port" or "[ipv6]:port". */
export class EndpointError extends Error {
  readonly code = "DATA_PLANE_ENDPOINT";

  constructor(readonly value: string) {
    super(`not an endpoint: ${JSON.stringify(value)}; expected "host:port" or "[ipv6]:port"`);
    this.name = "EndpointError";
  }
}

/** A connection that was not established in time. */
export class ConnectTimeoutError extends Error {
  readonly code = "DATA_PLANE_CONNECT_TIMEOUT";

  constructor(
    readonly address: string,
    readonly timeoutMs: number,
  ) {
    super(`no connection to ${address} within ${timeoutMs} ms`);
    this.name = "ConnectTimeoutError";
  }
}
