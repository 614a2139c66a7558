// epp.wasm as OCI images, in the two forms that gateways take, made without a container engine.
//
// Specification: github.com/solo-io/wasm spec/spec-compat.md ("compat") and spec/spec.md ("oci"), as read by Envoy
// Gateway (internal/wasm/imagefetcher.go) and Istio (pkg/wasm/imagefetcher.go).
import { createHash } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzip, tar } from "./archive.mjs";

export const MEDIA = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  imageConfig: "application/vnd.oci.image.config.v1+json",
  layer: "application/vnd.oci.image.layer.v1.tar+gzip",
  empty: "application/vnd.oci.empty.v1+json",
  wasmConfig: "application/vnd.module.wasm.config.v1+json",
  wasmLayer: "application/vnd.module.wasm.content.layer.v1+wasm",
};
export const VARIANTS = ["compat", "oci"];
/** The two roles of the module, as the plugin's root_id names them. */
const ROOT_IDS = ["picker", "ingest"];
const ABI_EXPORT = /^proxy_abi_version_(\d+)_(\d+)_(\d+)$/;

/** The module says of itself that it is no Proxy-Wasm plugin. */
export class NoProxyWasmError extends Error {
  code = "ERR_NO_PROXY_WASM";
  constructor(exports) {
    super(`the module exports no proxy_abi_version_X_Y_Z; its exports: ${exports.join(", ")}`);
    this.name = "NoProxyWasmError";
  }
}

/** "sha256:…" of some bytes. */
export function digestOf(bytes) {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/**
 * An image: its manifest and the blobs that it names.
 * @param variant "compat": an ordinary image of one layer, whose only file is plugin.wasm, which every registry
 * stores. "oci": an artifact of the module itself and its runtime configuration.
 * @param about {version, source}: what stands in the annotations
 * @returns {manifest: {mediaType, digest, size, bytes}, blobs: [{mediaType, digest, size, bytes}]}
 * @throws NoProxyWasmError
 */
export function wasmImage(variant, wasm, about) {
  return variant === "compat" ? compatImage(wasm, about) : artifact(wasm, about);
}

function compatImage(wasm, about) {
  const archive = tar([{ name: "plugin.wasm", bytes: wasm }]);
  const layer = blob(MEDIA.layer, gzip(archive));
  // The platform that the gateways' fetchers ask for when nobody says another.
  const platform = { architecture: "amd64", os: "linux" };
  const config = json(MEDIA.imageConfig, {
    ...platform,
    config: {},
    rootfs: { type: "layers", diff_ids: [digestOf(archive)] },
  });
  return image({}, config, [layer], { ...annotations(about), "module.wasm.image/variant": "compat" });
}

/** The fetchers want exactly two layers and look the module up by its media type, so the configuration is one. */
function artifact(wasm, about) {
  const runtime = json(MEDIA.wasmConfig, runtimeConfig(wasm));
  const module = blob(MEDIA.wasmLayer, wasm);
  const layers = [title(runtime, "runtime-config.json"), title(module, "plugin.wasm")];
  return image({ artifactType: MEDIA.wasmConfig }, json(MEDIA.empty, {}), layers, annotations(about));
}

/** The specification writes root_ids, and its own tool reads rootIds. */
function runtimeConfig(wasm) {
  const exports = WebAssembly.Module.exports(new WebAssembly.Module(wasm)).map(({ name }) => name);
  const version = exports.map((name) => ABI_EXPORT.exec(name)).find((match) => match !== null);
  if (version === undefined) throw new NoProxyWasmError(exports);
  return {
    type: "envoy_proxy",
    abiVersions: [`v${version.slice(1).join(".")}`],
    config: { rootIds: ROOT_IDS, root_ids: ROOT_IDS },
  };
}

function image(fields, config, layers, notes) {
  const manifest = json(MEDIA.manifest, {
    schemaVersion: 2,
    mediaType: MEDIA.manifest,
    ...fields,
    config: descriptor(config),
    layers: layers.map(descriptor),
    annotations: notes,
  });
  return { manifest, blobs: [config, ...layers] };
}

function annotations({ version, source }) {
  return {
    "org.opencontainers.image.title": "epp-wasm",
    "org.opencontainers.image.version": version,
    "org.opencontainers.image.licenses": "Apache-2.0",
    ...(source === undefined ? {} : { "org.opencontainers.image.source": source }),
  };
}

function blob(mediaType, bytes) {
  return { mediaType, digest: digestOf(bytes), size: bytes.length, bytes };
}

function json(mediaType, value) {
  return blob(mediaType, Buffer.from(JSON.stringify(value)));
}

function title(part, name) {
  return { ...part, annotations: { "org.opencontainers.image.title": name } };
}

function descriptor({ mediaType, digest, size, annotations: notes }) {
  return { mediaType, digest, size, ...(notes === undefined ? {} : { annotations: notes }) };
}

/**
 * Writes an image as an OCI image layout (image-spec, image-layout.md), replacing what stands there.
 * @param tag the name that `crane`, `oras` and `skopeo` find it by
 */
export async function writeLayout(folder, { manifest, blobs }, tag) {
  await rm(folder, { recursive: true, force: true });
  await mkdir(join(folder, "blobs", "sha256"), { recursive: true });
  for (const { digest, bytes } of [manifest, ...blobs]) {
    await writeFile(join(folder, "blobs", "sha256", digest.slice("sha256:".length)), bytes);
  }
  const entry = { ...descriptor(manifest), annotations: { "org.opencontainers.image.ref.name": tag } };
  const index = { schemaVersion: 2, mediaType: MEDIA.index, manifests: [entry] };
  await writeFile(join(folder, "index.json"), JSON.stringify(index));
  await writeFile(join(folder, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
}
