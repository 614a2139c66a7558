// CA, client certificate and bearer token of a kind of page, read from files and read again when those
// change.
import { X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { ConfigError, FileReadError, messageOf } from "../errors.ts";
import { TOKEN_BYTES_MAX } from "../limits.ts";
import type { TlsSettings } from "../scrape/page-client.ts";
import type { FetchSettings, TlsFiles, TokenSource } from "./settings.ts";

/** How often files are read again: Kubernetes renews a projected token long before it ends. */
const REFRESH_INTERVAL_MS = 30_000;

/** What a transport needs. */
export interface Credentials {
  readonly tls: TlsSettings | null;
  readonly token: string | null;
}

/** Credentials that stay fresh. */
export class CredentialStore {
  private credentials: Credentials;
  private timer: NodeJS.Timeout | null = null;
  private listeners: (() => void)[] = [];

  /** @throws FileReadError, ConfigError: the first reading must succeed */
  constructor(
    private readonly settings: Pick<FetchSettings, "scheme" | "tls" | "token">,
    private readonly environment: NodeJS.ProcessEnv = process.env,
  ) {
    this.credentials = this.load();
  }

  get current(): Credentials {
    return this.credentials;
  }

  /** Reads the files again now and then, and calls `changed` when they say something else. */
  watch(changed: () => void, failed: (error: Error) => void, intervalMs = REFRESH_INTERVAL_MS): void {
    this.listeners.push(changed);
    if (this.timer !== null || !this.hasFiles()) return;
    this.timer = setInterval(() => this.refresh(failed), intervalMs);
    this.timer.unref();
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.listeners = [];
  }

  private refresh(failed: (error: Error) => void): void {
    let fresh: Credentials;
    try {
      fresh = this.load();
    } catch (error) {
      failed(error as Error);
      return;
    }
    if (JSON.stringify(fresh) === JSON.stringify(this.credentials)) return;
    this.credentials = fresh;
    for (const listener of this.listeners) listener();
  }

  private hasFiles(): boolean {
    const { tls, token, scheme } = this.settings;
    const hasTokenFile = token !== null && "file" in token;
    return hasTokenFile || (scheme === "https" && (tls.caFile !== null || tls.certFile !== null));
  }

  private load(): Credentials {
    const { tls, token, scheme } = this.settings;
    return {
      tls: scheme === "http" ? null : readTls(tls),
      token: token === null ? null : readToken(token, this.environment),
    };
  }
}

/** @throws ConfigError when what the files hold is no certificate or no key */
function readTls(files: TlsFiles): TlsSettings {
  const ca = readOptional(files.caFile, "CA file");
  const cert = readOptional(files.certFile, "client certificate");
  const key = readOptional(files.keyFile, "client key");
  try {
    // A context takes an authority that is no certificate without a word, and then trusts nobody.
    if (ca !== null) new X509Certificate(ca);
    createSecureContext({
      ...(ca === null ? {} : { ca }),
      ...(cert === null || key === null ? {} : { cert, key }),
    });
  } catch (error) {
    throw new ConfigError("TLS files", [`${JSON.stringify(files)}: expected PEM: ${messageOf(error)}`]);
  }
  return { ca, cert, key, serverName: files.serverName, insecureSkipVerify: files.insecureSkipVerify };
}

function readOptional(path: string | null, what: string): string | null {
  return path === null ? null : readText(path, what);
}

function readText(path: string, what: string): string {
  try {
    if (statSync(path).size > 1_048_576) throw new Error("it is larger than 1048576 bytes");
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new FileReadError(path, what, error);
  }
}

/**
 * @throws ConfigError when the token cannot be a header value (RFC 6750 §2.1 b64token, wider: visible ASCII)
 */
function readToken(source: TokenSource, environment: NodeJS.ProcessEnv): string {
  const text = "file" in source ? readText(source.file, "token file") : (environment[source.env] ?? "");
  const token = text.trim();
  const where = "file" in source ? `token file ${source.file}` : `environment variable ${source.env}`;
  if (token === "") throw new ConfigError(where, ["it is empty: expected a bearer token"]);
  if (token.length > TOKEN_BYTES_MAX || !/^[\x21-\x7e]+$/.test(token)) {
    throw new ConfigError(where, [
      `it is not a bearer token: expected at most ${TOKEN_BYTES_MAX} visible characters`,
    ]);
  }
  return token;
}
