// Questions to a model server's API: a JSON object each way.
import { Client } from "undici";
import type { Credentials } from "../config/credentials.ts";
import { ConnectionError, StatusError, TimeoutError, TokenizerError } from "../errors.ts";

/** An answer takes at most this long. */
const TIMEOUT_MS = 2_000;
/** Bytes of an answer. A larger one is an error. */
const ANSWER_BYTES_MAX = 8_388_608;

/** Each call has a connection of its own. */
export class ServerApi {
  /** @param address "ip:port", for messages too */
  constructor(
    readonly address: string,
    private readonly credentials: () => Credentials,
  ) {}

  /** @throws ConnectionError, TimeoutError, StatusError for other than 200, TokenizerError for other than an object */
  async post(path: string, body: object): Promise<Record<string, unknown>> {
    const { tls, token } = this.credentials();
    const client = new Client(`${tls === null ? "http" : "https"}://${this.address}`, {
      maxResponseSize: ANSWER_BYTES_MAX,
      ...(tls === null ? {} : { connect: connectOptions(tls) }),
    });
    try {
      const { statusCode, body: answer } = await client.request({
        method: "POST",
        path,
        headers: {
          "content-type": "application/json",
          ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        },
        body: JSON.stringify(body),
        // Of the whole: the client's own timeouts begin anew with every byte that comes.
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const text = await answer.text();
      if (statusCode !== 200) throw new StatusError(this.address + path, statusCode);
      return parseObject(text, this.address + path);
    } catch (error) {
      if (error instanceof StatusError || error instanceof TokenizerError) throw error;
      throw (error as Error).name === "TimeoutError"
        ? new TimeoutError(this.address + path, TIMEOUT_MS)
        : new ConnectionError(this.address, error);
    } finally {
      await client.destroy();
    }
  }
}

/** Token ids as a server tells them. @throws TokenizerError naming the field */
export function tokenIds(value: unknown, source: string, field: string): readonly number[] {
  if (Array.isArray(value) && value.every((id) => Number.isInteger(id) && (id as number) >= 0)) {
    return value as number[];
  }
  throw new TokenizerError(source, field, "token ids");
}

function connectOptions(tls: NonNullable<Credentials["tls"]>): Record<string, unknown> {
  const { ca, cert, key, serverName, insecureSkipVerify } = tls;
  return {
    ...(ca === null ? {} : { ca }),
    ...(cert === null || key === null ? {} : { cert, key }),
    ...(serverName === null ? {} : { servername: serverName }),
    rejectUnauthorized: !insecureSkipVerify,
  };
}

function parseObject(text: string, source: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch {
    // Told below, like any other answer that is no object.
  }
  throw new TokenizerError(source, "answer", "a JSON object");
}
