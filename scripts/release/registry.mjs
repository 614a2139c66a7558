// Pushes an image to a registry by the OCI distribution specification, so that a release needs no container engine.

const BODY_CHARS_MAX = 500;
const REFERENCE =
  /^(?:(https?):\/\/)?([\w.-]+(?::\d+)?)\/([a-z0-9]+(?:[._/-]+[a-z0-9]+)*):([\w][\w.-]{0,127})$/;

/** A target that is not "[scheme://]host[:port]/name:tag". */
export class ImageReferenceError extends Error {
  code = "ERR_IMAGE_REFERENCE";
  constructor(text) {
    super(`not an image reference: ${JSON.stringify(text)}; expected "host[:port]/name:tag"`);
    this.name = "ImageReferenceError";
  }
}

/** The registry did not take a part of the image. */
export class RegistryError extends Error {
  code = "ERR_REGISTRY";
  constructor(step, status, body) {
    super(`the registry answered ${status} to ${step}: ${body.slice(0, BODY_CHARS_MAX)}`);
    this.name = "RegistryError";
    this.status = status;
  }
}

/** @returns {base, name, tag}: base URL; plain HTTP only where the reference says "http://" */
export function parseReference(text) {
  const match = REFERENCE.exec(text);
  if (match === null) throw new ImageReferenceError(text);
  const [, scheme = "https", host, name, tag] = match;
  return { base: `${scheme}://${host}`, name, tag };
}

/**
 * Pushes an image: first the blobs that the registry lacks, then the manifest under its tag.
 * @param reference "host[:port]/name:tag"; "http://" before it for a registry without TLS
 * @param credentials {user, password}, or undefined for none
 * @returns the manifest's digest, as the registry has it
 * @throws ImageReferenceError, RegistryError
 */
export async function pushImage(reference, { manifest, blobs }, credentials) {
  const { base, name, tag } = parseReference(reference);
  const session = new Session(base, name, credentials);
  for (const blob of blobs) await pushBlob(session, blob);
  const headers = { "content-type": manifest.mediaType };
  const reply = await session.send("PUT", `/v2/${name}/manifests/${tag}`, { headers, body: manifest.bytes });
  await expectStatus(reply, 201, `PUT manifest ${tag}`);
  return manifest.digest;
}

async function pushBlob(session, { digest, bytes }) {
  const { name } = session;
  const known = await session.send("HEAD", `/v2/${name}/blobs/${digest}`);
  if (known.status === 200) return;
  const begun = await session.send("POST", `/v2/${name}/blobs/uploads/`);
  await expectStatus(begun, 202, `POST upload of ${digest}`);
  // Relative or absolute, perhaps with a query of its own.
  const upload = new URL(begun.headers.get("location") ?? "", session.base);
  upload.searchParams.set("digest", digest);
  const headers = { "content-type": "application/octet-stream" };
  const done = await session.send("PUT", upload, { headers, body: bytes });
  await expectStatus(done, 201, `PUT blob ${digest}`);
}

async function expectStatus(reply, status, step) {
  const body = await reply.text();
  if (reply.status !== status) throw new RegistryError(step, reply.status, body);
}

/** Requests to one repository; logs in when the registry asks for it. */
class Session {
  authorization;

  constructor(base, name, credentials) {
    this.base = base;
    this.name = name;
    this.credentials = credentials;
  }

  async send(method, target, { headers = {}, body } = {}) {
    const url = new URL(target, this.base);
    // An upload may lead to another host, which has no business with what this one gave us.
    const isOurs = url.origin === new URL(this.base).origin;
    const request = () => {
      const { authorization } = this;
      return fetch(url, {
        method,
        body,
        headers: isOurs && authorization !== undefined ? { ...headers, authorization } : headers,
      });
    };
    const reply = await request();
    if (reply.status !== 401 || !isOurs || this.authorization !== undefined) return reply;
    this.authorization = await this.logIn(reply.headers.get("www-authenticate") ?? "");
    return request();
  }

  /** Answers a challenge: Basic, or a token from the realm that it names (distribution's token specification). */
  async logIn(challenge) {
    const { user, password } = this.credentials ?? {};
    const basic =
      user === undefined ? undefined : `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
    const bearer = /^bearer\s/i.test(challenge);
    if (!bearer && basic === undefined)
      throw new RegistryError("a request without credentials", 401, challenge);
    if (!bearer) return basic;
    const value = (key) => new RegExp(`${key}="([^"]*)"`).exec(challenge)?.[1];
    const realm = new URL(value("realm") ?? "", this.base);
    const service = value("service");
    if (service !== undefined) realm.searchParams.set("service", service);
    // The challenge names only what the first request needs, which is reading.
    realm.searchParams.set("scope", `repository:${this.name}:pull,push`);
    const reply = await fetch(realm, basic === undefined ? {} : { headers: { authorization: basic } });
    const text = await reply.text();
    if (reply.status !== 200) throw new RegistryError("the request for a token", reply.status, text);
    const { token, access_token: accessToken } = JSON.parse(text);
    return `Bearer ${token ?? accessToken}`;
  }
}
