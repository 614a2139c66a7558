// The bill of materials of a release: CycloneDX 1.6, from package-lock.json alone, the same for the same input.
import { createHash } from "node:crypto";

/** Packages of which parts end up in epp.wasm, though they are tools: the language's library and the host's names. */
const COMPILED_IN = ["assemblyscript", "@solo-io/proxy-runtime"];
/** Packages walked; a lockfile has hundreds. */
const PACKAGES_MAX = 10_000;

/** A package that is needed and that the lockfile does not have, or lacks a fact about. */
export class LockfileGapError extends Error {
  code = "ERR_LOCKFILE_GAP";
  constructor(what) {
    super(`package-lock.json: ${what}`);
    this.name = "LockfileGapError";
  }
}

/**
 * What is handed out and what it is made of: every package bundled into the Node programs, those compiled into
 * epp.wasm, and the products themselves with their hashes. Build and test tools are no part of it.
 * @param lockfile package-lock.json, version 3
 * @param products {name, sha256}: the files handed out
 * @throws LockfileGapError
 */
export function billOfMaterials(lockfile, products) {
  const own = lockfile.packages[""];
  const nodes = reachable(lockfile.packages);
  const root = purl(own.name, own.version);
  const components = [
    ...products.map(({ name, sha256 }) => ({
      type: "file",
      "bom-ref": `file:${name}`,
      name,
      version: own.version,
      licenses: licenses(own.license, name),
      hashes: [{ alg: "SHA-256", content: sha256 }],
    })),
    ...[...nodes.values()].map(component),
  ];
  const direct = [...neededBy(own), ...COMPILED_IN].map((name) => resolve(nodes, "", name));
  const dependencies = [
    { ref: root, dependsOn: sorted([...products.map(({ name }) => `file:${name}`), ...direct.map(refOf)]) },
    ...[...nodes.values()].map((node) => ({
      ref: refOf(node),
      dependsOn: sorted(node.needs.map((name) => refOf(resolve(nodes, node.path, name)))),
    })),
  ];
  const body = {
    metadata: {
      component: {
        type: "application",
        "bom-ref": root,
        name: own.name,
        version: own.version,
        purl: root,
        licenses: licenses(own.license, own.name),
      },
    },
    components: unique(components, "bom-ref"),
    dependencies: unique(dependencies, "ref"),
  };
  return {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    serialNumber: serialNumber(body),
    version: 1,
    ...body,
  };
}

/** Packages that ours names; optional ones are native code that goes into the sidecar's image as it is. */
function neededBy({ dependencies = {}, optionalDependencies = {} }) {
  return [...Object.keys(dependencies), ...Object.keys(optionalDependencies)];
}

/** Every package that ours needs when it runs, by its path in the lockfile, in the order of the paths. */
function reachable(packages) {
  const wanted = neededBy(packages[""]).map((name) => ["", name]);
  const found = new Map();
  for (let next = wanted.pop(); next !== undefined && found.size < PACKAGES_MAX; next = wanted.pop()) {
    const path = locate(packages, ...next);
    if (found.has(path)) continue;
    const { version, license, integrity, dependencies = {}, optionalDependencies = {} } = packages[path];
    const optional = Object.keys(optionalDependencies).filter((name) => tryLocate(packages, path, name));
    const needs = sorted([...new Set([...Object.keys(dependencies), ...optional])]);
    found.set(path, { path, name: nameOf(path), version, license, integrity, needs });
    for (const name of needs) wanted.push([path, name]);
  }
  for (const name of COMPILED_IN) {
    const path = locate(packages, "", name);
    const { version, license, integrity } = packages[path];
    found.set(path, { path, name, version, license, integrity, needs: [] });
  }
  return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Where Node finds `name` from a package: in its own node_modules, else in one of those around it. */
function tryLocate(packages, from, name) {
  for (let folder = from; ; folder = folder.slice(0, Math.max(folder.lastIndexOf("/node_modules/"), 0))) {
    const path = `${folder === "" ? "" : `${folder}/`}node_modules/${name}`;
    if (packages[path] !== undefined) return path;
    if (folder === "") return undefined;
  }
}

function locate(packages, from, name) {
  const path = tryLocate(packages, from, name);
  if (path === undefined)
    throw new LockfileGapError(`${from || "the project"} needs ${name}, which is not there`);
  return path;
}

function resolve(nodes, from, name) {
  return nodes.get(locate(Object.fromEntries(nodes), from, name));
}

function component({ path, name, version, license, integrity }) {
  if (integrity === undefined) throw new LockfileGapError(`${path} has no integrity`);
  return {
    type: "library",
    "bom-ref": purl(name, version),
    ...(name.startsWith("@") ? { group: name.split("/")[0] } : {}),
    name: name.split("/").at(-1),
    version,
    scope: "required",
    hashes: [hash(integrity, path)],
    licenses: licenses(license, path),
    purl: purl(name, version),
  };
}

/** Subresource integrity → CycloneDX. */
function hash(integrity, path) {
  const [, algorithm, content] = /^(sha512|sha384|sha256)-(\S+)$/.exec(integrity.split(" ")[0]) ?? [];
  if (algorithm === undefined) throw new LockfileGapError(`${path} has an integrity of an unknown kind`);
  return {
    alg: algorithm.replace("sha", "SHA-"),
    content: Buffer.from(content, "base64").toString("hex"),
  };
}

function licenses(license, path) {
  if (license === undefined) throw new LockfileGapError(`${path} has no license`);
  const text = license.trim();
  return / (OR|AND|WITH) /.test(text) ? [{ expression: text }] : [{ license: { id: text } }];
}

function nameOf(path) {
  return path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
}

/** package-url of an npm package: the @ of a scope is encoded. */
function purl(name, version) {
  return `pkg:npm/${name.replace("@", "%40")}@${version}`;
}

function refOf({ name, version }) {
  return purl(name, version);
}

function sorted(texts) {
  return [...new Set(texts)].sort();
}

/** One package may stand at two places of the lockfile. */
function unique(items, key) {
  return [...new Map(items.map((item) => [item[key], item])).values()];
}

/** A UUID of the contents (RFC 9562, version 8), so that the same release has the same number. */
function serialNumber(body) {
  const digits = createHash("sha256").update(JSON.stringify(body)).digest("hex").slice(0, 32).split("");
  digits[12] = "8";
  digits[16] = "89ab"[Number.parseInt(digits[16], 16) % 4];
  const text = digits.join("");
  return `urn:uuid:${[text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join("-")}`;
}
