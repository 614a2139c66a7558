// Every cause of failure in the sidecar as one class with a stable `code`; messages carry the offending
// value.

/** Base of all: `code` is part of metrics labels and logs and never changes its meaning. */
export abstract class SidecarError extends Error {
  abstract readonly code: string;
  override get name(): string {
    return this.constructor.name;
  }
}

/** A configuration field has a value it must not have. `issues` has one line a field. */
export class ConfigError extends SidecarError {
  readonly code = "config-invalid";
  constructor(
    readonly source: string,
    readonly issues: readonly string[],
  ) {
    super(`${source} is not valid:\n${issues.map((issue) => `  ${issue}`).join("\n")}`);
  }
}

/** A configuration, token or CA file cannot be read. */
export class FileReadError extends SidecarError {
  readonly code = "file-unreadable";
  constructor(
    readonly path: string,
    what: string,
    cause: unknown,
  ) {
    super(`cannot read ${what} ${JSON.stringify(path)}: ${messageOf(cause)}`);
  }
}

/** An endpoints file does not have llm-d's file-discovery shape. */
export class EndpointsFileError extends SidecarError {
  readonly code = "endpoints-file-invalid";
  constructor(
    readonly path: string,
    readonly issues: readonly string[],
  ) {
    super(`endpoints file ${JSON.stringify(path)} is not valid: ${issues.join("; ")}`);
  }
}

/** A DNS name did not resolve. */
export class ResolveError extends SidecarError {
  readonly code = "resolve-failed";
  constructor(
    readonly host: string,
    cause: unknown,
  ) {
    super(`cannot resolve ${JSON.stringify(host)}: ${messageOf(cause)}`);
  }
}

/** No connection, or it broke before the answer was complete. */
export class ConnectionError extends SidecarError {
  readonly code = "connection-failed";
  constructor(
    readonly target: string,
    cause: unknown,
  ) {
    super(`connection to ${target} failed: ${messageOf(cause)}`);
  }
}

/** The answer did not come in time. */
export class TimeoutError extends SidecarError {
  readonly code = "timeout";
  constructor(
    readonly target: string,
    readonly timeoutMs: number,
  ) {
    super(`${target} did not answer within ${timeoutMs} ms`);
  }
}

/** The bytes that came are not an HTTP/1.1 response. */
export class FramingError extends SidecarError {
  readonly code = "framing-invalid";
}

/** The response is larger than its limit; it is not read further. */
export class ResponseTooLargeError extends SidecarError {
  readonly code = "response-too-large";
  constructor(
    readonly limitBytes: number,
    what: string,
  ) {
    super(`${what} is larger than ${limitBytes} bytes`);
  }
}

/** HTTP status other than 200. */
export class StatusError extends SidecarError {
  readonly code = "status-unexpected";
  constructor(
    readonly target: string,
    readonly status: number,
  ) {
    super(`${target} answered status ${status}, expected 200`);
  }
}

/** The page has none of the metrics of any engine. */
export class UnknownPageError extends SidecarError {
  readonly code = "page-unknown";
  constructor(
    readonly target: string,
    start: string,
  ) {
    super(`${target} has no metric of a known engine; it starts with ${JSON.stringify(start)}`);
  }
}

/** /v1/models is not the OpenAI list of models. */
export class ModelsListError extends SidecarError {
  readonly code = "models-invalid";
}

/** A pool does not fit into one snapshot. */
export class SnapshotTooLargeError extends SidecarError {
  readonly code = "snapshot-too-large";
  constructor(
    readonly bytes: number,
    readonly limitBytes: number,
  ) {
    super(`snapshot needs ${bytes} bytes, the limit is ${limitBytes}`);
  }
}

/** A pool's policy does not fit into its wire form. */
export class PolicyTooLargeError extends SidecarError {
  readonly code = "policy-too-large";
  constructor(
    readonly bytes: number,
    readonly limitBytes: number,
  ) {
    super(`policy needs ${bytes} bytes, the limit is ${limitBytes}: use fewer or shorter names`);
  }
}

/** Bytes are not a snapshot; `field` names what is wrong. */
export class SnapshotInvalidError extends SidecarError {
  readonly code = "snapshot-invalid";
  constructor(
    readonly field: string,
    readonly value: number | string,
    expected: string,
  ) {
    super(`${field} is ${value}, expected ${expected}`);
  }
}

/** The control listener refused what was sent. */
export class ControlRefusedError extends SidecarError {
  readonly code = "control-refused";
  constructor(
    readonly status: number,
    readonly field: string,
    detail: string,
  ) {
    super(`control listener answered ${status}${field === "" ? "" : ` for field ${field}`}: ${detail}`);
  }
}

/** Another sidecar brings the pool to the gateway, and this one is to wait. */
export class StandbyError extends SidecarError {
  readonly code = "standby";
  constructor(readonly holder: string) {
    super(`sidecar ${JSON.stringify(holder)} brings the pool to the gateway`);
  }
}

/** A KV event message of an engine is not what engines publish; `field` names what is wrong. */
export class BadEventError extends SidecarError {
  readonly code = "kv-event-invalid";
  constructor(
    readonly field: string,
    value: unknown,
    expected: string,
  ) {
    super(`${field} is ${shown(value)}, expected ${expected}`);
  }
}

/** A tokenizer file, or what a server says of its tokens, does not tell the bytes of token ids. */
export class TokenizerError extends SidecarError {
  readonly code = "tokenizer-invalid";
  constructor(source: string, field: string, expected: string) {
    super(`tokenizer ${JSON.stringify(source)}: ${field}: expected ${expected}`);
  }
}

/** KV events are configured and the library that receives them cannot be loaded. */
export class ZeromqMissingError extends SidecarError {
  readonly code = "zeromq-missing";
  constructor(cause: unknown) {
    super(
      `KV events need the npm package zeromq beside the sidecar (npm install zeromq): ${messageOf(cause)}`,
    );
  }
}

/** Longest quotation of a value, characters. */
const SHOWN_MAX = 60;

function shown(value: unknown): string {
  if (value === undefined) return "missing";
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === "object" && value !== null) return "a map";
  const text = String(value);
  return text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text;
}

/** The text of anything that was thrown. */
export function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/** The stable code of anything that was thrown: a SidecarError's own, "internal" for the rest. */
export function codeOf(cause: unknown): string {
  return cause instanceof SidecarError ? cause.code : "internal";
}
