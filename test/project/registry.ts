// A registry in small, after the OCI distribution specification 1.1: blobs, manifests, tags, and tokens if asked for.
import { createHash, randomUUID } from "node:crypto";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Registry {
  /** "http://127.0.0.1:port". */
  readonly url: string;
  readonly blobs: ReadonlyMap<string, Buffer>;
  /** By digest and by tag. */
  readonly manifests: ReadonlyMap<string, { readonly type: string; readonly bytes: Buffer }>;
  /** "METHOD path" of every request, without queries. */
  readonly requests: readonly string[];
  stop(): Promise<void>;
}

export interface RegistryOptions {
  /** Who may push and pull; anybody when left out. */
  readonly login?: { readonly user: string; readonly password: string; readonly kind: "basic" | "bearer" };
}

interface Descriptor {
  readonly digest: string;
  readonly size: number;
}

export function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

export async function startRegistry(options: RegistryOptions = {}): Promise<Registry> {
  const registry = new SmallRegistry(options);
  const server = createServer((request, response) => void registry.serve(request, response));
  await new Promise<void>((settle) => server.listen(0, "127.0.0.1", settle));
  registry.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return Object.assign(registry, {
    stop: () =>
      new Promise<void>((settle) => {
        server.close(() => settle());
        server.closeAllConnections();
      }),
  });
}

/** An answer on its way. */
interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly bytes?: Buffer;
}
interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

class SmallRegistry {
  url = "";
  readonly blobs = new Map<string, Buffer>();
  readonly manifests = new Map<string, { type: string; bytes: Buffer }>();
  readonly requests: string[] = [];
  private readonly uploads = new Set<string>();
  private readonly tokens = new Map<string, string>();

  constructor(private readonly options: RegistryOptions) {}

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const { pathname: path, searchParams: query } = new URL(request.url!, this.url);
    const method = request.method!;
    this.requests.push(`${method} ${path}`);
    const asked = { method, path, query, headers: request.headers, body: Buffer.concat(pieces) };
    const { status, headers, bytes } = this.answer(asked);
    response.writeHead(status, headers);
    response.end(method === "HEAD" ? undefined : bytes);
  }

  private answer(asked: Asked): Answer {
    if (asked.path === "/token") return this.token(asked);
    const challenge = this.challenge(asked);
    if (challenge !== undefined) return { status: 401, headers: { "www-authenticate": challenge } };
    const [, kind, name] = /^\/v2\/epp\/wasm\/(blobs|manifests)\/(.*)$/.exec(asked.path) ?? [];
    if (kind === "manifests") return this.manifest(name!, asked);
    return kind === "blobs" ? this.blob(name!, asked) : refusal(404, "NAME_UNKNOWN");
  }

  private challenge({ method, headers }: Asked): string | undefined {
    const { login } = this.options;
    const given = headers.authorization ?? "";
    if (login === undefined) return undefined;
    if (login.kind === "basic") return given === basic(login) ? undefined : 'Basic realm="small"';
    const isReading = method === "GET" || method === "HEAD";
    const scope = this.tokens.get(given.replace(/^Bearer /, "")) ?? "";
    if (scope.includes(isReading ? "pull" : "push")) return undefined;
    const wanted = `repository:epp/wasm:${isReading ? "pull" : "pull,push"}`;
    return `Bearer realm="${this.url}/token",service="small",scope="${wanted}"`;
  }

  private token({ headers, query }: Asked): Answer {
    if (headers.authorization !== basic(this.options.login!)) return { status: 401 };
    if (query.get("service") !== "small") return { status: 400 };
    const token = randomUUID();
    this.tokens.set(token, query.get("scope") ?? "");
    return { status: 200, bytes: Buffer.from(JSON.stringify({ token })) };
  }

  private blob(name: string, { method, query, body }: Asked): Answer {
    if (method === "POST" && name === "uploads/") {
      const id = randomUUID();
      this.uploads.add(id);
      return { status: 202, headers: { location: `/v2/epp/wasm/blobs/uploads/${id}?state=begun` } };
    }
    if (method === "PUT" && this.uploads.delete(name.replace("uploads/", ""))) {
      if (query.get("state") !== "begun") return refusal(400, "BLOB_UPLOAD_INVALID");
      if (query.get("digest") !== sha256(body)) return refusal(400, "DIGEST_INVALID");
      this.blobs.set(sha256(body), body);
      return { status: 201, headers: { location: `/v2/epp/wasm/blobs/${sha256(body)}` } };
    }
    const bytes = this.blobs.get(name);
    if (bytes === undefined) return refusal(404, "BLOB_UNKNOWN");
    return { status: 200, headers: { "docker-content-digest": name }, bytes };
  }

  private manifest(name: string, { method, headers, body }: Asked): Answer {
    if (method !== "PUT") {
      const found = this.manifests.get(name);
      if (found === undefined) return refusal(404, "MANIFEST_UNKNOWN");
      const { type, bytes } = found;
      return {
        status: 200,
        headers: { "content-type": type, "docker-content-digest": sha256(bytes) },
        bytes,
      };
    }
    const type = headers["content-type"] ?? "";
    const manifest = JSON.parse(body.toString()) as {
      mediaType: string;
      config: Descriptor;
      layers: Descriptor[];
    };
    if (manifest.mediaType !== type) return refusal(400, "MANIFEST_INVALID");
    for (const { digest, size } of [manifest.config, ...manifest.layers])
      if (this.blobs.get(digest)?.length !== size) return refusal(400, "MANIFEST_BLOB_UNKNOWN");
    this.manifests.set(name, { type, bytes: body }).set(sha256(body), { type, bytes: body });
    return { status: 201, headers: { location: `/v2/epp/wasm/manifests/${sha256(body)}` } };
  }
}

function refusal(status: number, code: string): Answer {
  return { status, bytes: Buffer.from(JSON.stringify({ errors: [{ code }] })) };
}

function basic({ user, password }: { user: string; password: string }): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
}
