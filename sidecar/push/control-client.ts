// Talks to the gateway's control listener: snapshots and policies in, status out, over a unix socket or loopback.
import { Client, type Dispatcher } from "undici";
import { POOL_ENDPOINTS_MAX } from "../../assembly/wire/limits.ts";
import { LEASE_HEADER, LEASE_HELD_STATUS } from "../../assembly/wire/lease.ts";
import { POLICY_ID_HEADER } from "../../assembly/wire/policy.ts";
import { PROMPTS_ID_HEADER } from "../../assembly/wire/prompt-programs.ts";
import type { ControlSettings } from "../config/settings.ts";
import {
  ConnectionError,
  ControlRefusedError,
  ResponseTooLargeError,
  StandbyError,
  TimeoutError,
} from "../errors.ts";
import { CONTROL_ANSWER_BYTES_MAX } from "../limits.ts";

/** A request to the control listener ends, well or not, within this by default. */
const CONTROL_TIMEOUT_MS = 1_000;
/**
 * A new connection is made at least this often. Over a kept one, an Envoy that is being replaced by a hot
 * restart would go on taking snapshots that the new process needs.
 */
const CONNECTION_LIFE_MS = 500;
/** Characters of a refusal that go into the log. */
const DETAIL_MAX = 300;

/** Ids of a pool's documents that the gateway has, 0 = none; null = it does not say. */
export interface HeldIds {
  readonly policy: number | null;
  readonly prompts: number | null;
}

/** What pushers and status readers need. */
export interface ControlListener {
  /**
   * Hands over a pool's snapshot.
   * @param snapshot used until the promise settles
   * @throws ControlRefusedError when it was read and refused; StandbyError when another sidecar brings the pool;
   * ConnectionError, TimeoutError when it was not read
   */
  push(pool: string, snapshot: Buffer): Promise<HeldIds>;
  /** Hands over a pool's policy. Like `push`. */
  pushPolicy(pool: string, policy: Buffer): Promise<HeldIds>;
  /** Hands over a pool's prompt programs. Like `push`. */
  pushPrompts(pool: string, prompts: Buffer): Promise<HeldIds>;
  /**
   * Hands over a batch of changes of a pool's exact index. Like `push`.
   * @throws ControlRefusedError with 409 when another session is to be begun, 503 when the batch is to come again later
   */
  pushKv(pool: string, batch: Buffer): Promise<KvAnswer>;
  /** Lets go of a pool, so that another sidecar need not wait. Throws like `push`. */
  release(pool: string): Promise<void>;
  /** The gateway's status as parsed JSON. Throws like `push`. */
  status(): Promise<unknown>;
}

/** What the gateway says to a batch of changes. */
export interface KvAnswer {
  /** Number of the last batch that it has. */
  readonly sequence: number;
  /** Slots that are to be sent as a whole. */
  readonly wanted: readonly number[];
}

/** The real listener. */
export class ControlClient implements ControlListener {
  /** Where it is, for messages. */
  readonly target: string;
  private readonly client: Client;
  private readonly headers: Readonly<Record<string, string>>;
  private renewAtMs = 0;

  /**
   * @param sidecarId names the process before the gateway; "" = it takes part in no choice between several
   * @param timeoutMs within which a request ends, well or not
   */
  constructor(
    settings: ControlSettings,
    private readonly now: () => number,
    sidecarId = "",
    private readonly timeoutMs = CONTROL_TIMEOUT_MS,
  ) {
    const { socketPath, origin, token } = settings;
    this.target = socketPath ?? origin;
    this.client = new Client(socketPath === null ? origin : "http://control", {
      ...(socketPath === null ? {} : { socketPath }),
      connectTimeout: timeoutMs,
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      maxResponseSize: CONTROL_ANSWER_BYTES_MAX,
      pipelining: 1,
    });
    this.headers = {
      ...(token === "" ? {} : { authorization: `Bearer ${token}` }),
      ...(sidecarId === "" ? {} : { [LEASE_HEADER]: sidecarId }),
    };
  }

  async push(pool: string, snapshot: Buffer): Promise<HeldIds> {
    return (await this.post(`/v1/pools/${pool}/snapshot`, snapshot)).held;
  }

  async pushPolicy(pool: string, policy: Buffer): Promise<HeldIds> {
    return (await this.post(`/v1/pools/${pool}/policy`, policy)).held;
  }

  async pushPrompts(pool: string, prompts: Buffer): Promise<HeldIds> {
    return (await this.post(`/v1/pools/${pool}/prompts`, prompts)).held;
  }

  async pushKv(pool: string, batch: Buffer): Promise<KvAnswer> {
    const { status, text } = await this.post(`/v1/pools/${pool}/kv`, batch);
    return kvAnswer(status, text);
  }

  private async post(path: string, body: Buffer): Promise<Answer> {
    const nowMs = this.now();
    const renew = nowMs >= this.renewAtMs;
    if (renew) this.renewAtMs = nowMs + CONNECTION_LIFE_MS;
    const answer = await this.request({
      method: "POST",
      path,
      headers: { ...this.headers, "content-type": "application/octet-stream" },
      body,
      reset: renew,
    });
    if (answer.status !== 204 && answer.status !== 200) throw refusal(answer.status, answer.text);
    return answer;
  }

  async release(pool: string): Promise<void> {
    const path = `/v1/pools/${pool}/lease`;
    const { status, text } = await this.request({ method: "DELETE", path, headers: this.headers });
    if (status !== 204) throw refusal(status, text);
  }

  async status(): Promise<unknown> {
    const { status, text } = await this.request({ method: "GET", path: "/status", headers: this.headers });
    if (status !== 200) throw refusal(status, text);
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new ControlRefusedError(status, "", `status is not JSON: ${(error as Error).message}`);
    }
  }

  async close(): Promise<void> {
    await this.client.destroy();
  }

  private async request(options: Dispatcher.RequestOptions): Promise<Answer> {
    try {
      const signal = AbortSignal.timeout(this.timeoutMs);
      const { statusCode, headers, body } = await this.client.request({ ...options, signal });
      const text = await body.text();
      const held = { policy: idOf(headers[POLICY_ID_HEADER]), prompts: idOf(headers[PROMPTS_ID_HEADER]) };
      return { status: statusCode, text, held };
    } catch (error) {
      throw this.translate(error as Error & { code?: string });
    }
  }

  private translate(error: Error & { code?: string }): Error {
    if (error.name === "TimeoutError" || /TIMEOUT$/.test(error.code ?? "")) {
      return new TimeoutError(`control listener ${this.target}`, this.timeoutMs);
    }
    if (error.code === "UND_ERR_RES_EXCEEDED_MAX_SIZE") {
      return new ResponseTooLargeError(CONTROL_ANSWER_BYTES_MAX, "control listener's answer");
    }
    return new ConnectionError(`control listener ${this.target}`, error);
  }
}

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly held: HeldIds;
}

function idOf(header: string | string[] | undefined): number | null {
  return typeof header === "string" && /^\d{1,15}$/.test(header) ? Number(header) : null;
}

function kvAnswer(status: number, text: string): KvAnswer {
  try {
    const { sequence, wanted } = JSON.parse(text) as { sequence?: unknown; wanted?: unknown };
    if (isWhole(sequence, 0xffffffff) && Array.isArray(wanted) && wanted.length <= POOL_ENDPOINTS_MAX) {
      if (wanted.every((slot) => isWhole(slot, POOL_ENDPOINTS_MAX - 1))) return { sequence, wanted };
    }
  } catch {
    // Told below, like any other answer that is not of this kind.
  }
  const quoted = JSON.stringify(text.slice(0, DETAIL_MAX));
  throw new ControlRefusedError(
    status,
    "answer",
    `${quoted}, expected {"sequence":number,"wanted":[slot,…]}`,
  );
}

function isWhole(value: unknown, max: number): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= max;
}

/** The listener's refusals are `{"error":{"field","message"}}`; anything else is quoted as it came. */
function refusal(status: number, text: string): ControlRefusedError | StandbyError {
  try {
    const { error } = JSON.parse(text) as { error?: { field?: unknown; message?: unknown } };
    if (typeof error?.message === "string") {
      if (status === LEASE_HELD_STATUS) return new StandbyError(error.message);
      return new ControlRefusedError(
        status,
        typeof error.field === "string" ? error.field : "",
        error.message,
      );
    }
  } catch {
    // Not JSON: an error page of a proxy, say.
  }
  return new ControlRefusedError(status, "", JSON.stringify(text.slice(0, DETAIL_MAX)));
}
