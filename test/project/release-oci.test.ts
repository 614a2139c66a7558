// epp.wasm as OCI images: what gateways' fetchers pull from a registry is the module, bit for bit.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { buildWasm } from "../../scripts/build.mjs";
import { ArchiveEntryError, gzip, tar } from "../../scripts/release/archive.mjs";
import {
  type Image,
  MEDIA,
  NoProxyWasmError,
  VARIANTS,
  type Variant,
  wasmImage,
  writeLayout,
} from "../../scripts/release/oci-image.mjs";
import {
  ImageReferenceError,
  parseReference,
  pushImage,
  RegistryError,
} from "../../scripts/release/registry.mjs";
import { ROOT } from "./files.ts";
import { type Registry, type RegistryOptions, sha256, startRegistry } from "./registry.ts";
import { readTar, TarHeaderError } from "./tar-reader.ts";

interface Manifest {
  readonly schemaVersion: number;
  readonly mediaType: string;
  readonly artifactType?: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly annotations: Readonly<Record<string, string>>;
}
interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
}

const ABOUT = { version: "1.2.3" };
const BUILD_TIMEOUT_MS = 180_000;
let wasm: Buffer;
let registry: Registry | undefined;

beforeAll(async () => {
  await buildWasm();
  wasm = await readFile(join(ROOT, "build", "epp.wasm"));
}, BUILD_TIMEOUT_MS);

afterEach(async () => {
  await registry?.stop();
  registry = undefined;
});

/** Starts a registry and gives the reference of an image in it. */
async function target(options: RegistryOptions = {}): Promise<string> {
  registry = await startRegistry(options);
  return `${registry.url}/epp/wasm:1.2.3`;
}

/** One blob of the registry, held to its descriptor. */
async function pull({ digest, size }: Descriptor): Promise<Buffer> {
  const reply = await fetch(`${registry!.url}/v2/epp/wasm/blobs/${digest}`);
  const bytes = Buffer.from(await reply.arrayBuffer());
  expect([sha256(bytes), bytes.length]).toEqual([digest, size]);
  return bytes;
}

/**
 * What Envoy Gateway (internal/wasm/imagefetcher.go) and Istio (pkg/wasm/imagefetcher.go) do: one tar+gzip layer with
 * a plugin.wasm, else two layers of which one has the module's media type.
 */
async function pullAsGateway(): Promise<{ wasm: Buffer; manifest: Manifest }> {
  const reply = await fetch(`${registry!.url}/v2/epp/wasm/manifests/1.2.3`);
  const manifest = JSON.parse(await reply.text()) as Manifest;
  expect(reply.headers.get("content-type")).toBe("application/vnd.oci.image.manifest.v1+json");
  const { layers } = manifest;
  if (layers.length === 1 && layers[0]!.mediaType === "application/vnd.oci.image.layer.v1.tar+gzip") {
    const entries = readTar(gunzipSync(await pull(layers[0]!)));
    return { wasm: entries.find(({ name }) => name === "plugin.wasm")!.bytes, manifest };
  }
  expect(layers).toHaveLength(2);
  const type = "application/vnd.module.wasm.content.layer.v1+wasm";
  return { wasm: await pull(layers.find(({ mediaType }) => mediaType === type)!), manifest };
}

describe("tar and gzip", () => {
  const bytes = Buffer.from("\0asm and more");

  it("keep names and contents, and nothing of the machine", () => {
    const entries = readTar(
      tar([
        { name: "a/b.txt", bytes },
        { name: "empty", bytes: Buffer.alloc(0) },
      ]),
    );
    expect(entries.map(({ name }) => name)).toEqual(["a/b.txt", "empty"]);
    expect(entries[0]!.bytes.equals(bytes)).toBe(true);
    for (const { mode, owner, mtimeS } of entries) expect([mode, owner, mtimeS]).toEqual([0o444, 0, 0]);
  });

  it.each([0, 1, 512, 65_535, 65_536, 200_000])("give %i bytes back unchanged", (size) => {
    const input = Buffer.from(Uint8Array.from({ length: size }, (_, index) => (index * 31) >> 3));
    expect(gunzipSync(gzip(input)).equals(input)).toBe(true);
    expect(readTar(gunzipSync(gzip(tar([{ name: "f", bytes: input }]))))[0]!.bytes.equals(input)).toBe(true);
  });

  it("write a header that says nothing of time and system", () => {
    expect([...gzip(bytes).subarray(0, 10)]).toEqual([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
  });

  it.each(["/absolute", "../up", "a/../b", "", "a//b", "x".repeat(101)])("refuse the name %j", (name) => {
    expect(() => tar([{ name, bytes }])).toThrow(ArchiveEntryError);
  });

  it("are held to their checksum by the reader", () => {
    const archive = tar([{ name: "f", bytes }]);
    archive[0] = 0x67;
    expect(() => readTar(archive)).toThrow(TarHeaderError);
  });
});

describe.each(VARIANTS)("the %s image", (variant: Variant) => {
  it("gives a gateway the module that was built", async () => {
    const reference = await target();
    const image = wasmImage(variant, wasm, ABOUT);
    const digest = await pushImage(reference, image);
    const pulled = await pullAsGateway();
    expect(pulled.wasm.equals(wasm)).toBe(true);
    expect(sha256(registry!.manifests.get("1.2.3")!.bytes)).toBe(digest);
    expect(pulled.manifest).toMatchObject({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      annotations: {
        "org.opencontainers.image.version": "1.2.3",
        "org.opencontainers.image.licenses": "Apache-2.0",
      },
    });
  });

  it("is the same every time", () => {
    const [first, second] = [wasmImage(variant, wasm, ABOUT), wasmImage(variant, wasm, ABOUT)];
    expect(first.manifest.bytes.equals(second.manifest.bytes)).toBe(true);
    expect(first.blobs.map(({ digest }) => digest)).toEqual(second.blobs.map(({ digest }) => digest));
    const other = wasmImage(variant, Buffer.concat([wasm, Buffer.from([0, 2, 1, 0x78])]), ABOUT);
    expect(other.manifest.digest).not.toBe(first.manifest.digest);
  });

  it("is a layout whose blobs are named by what they hold", async () => {
    const folder = await mkdtemp(join(tmpdir(), "epp-oci-"));
    try {
      const image = wasmImage(variant, wasm, ABOUT);
      await writeLayout(folder, image, "1.2.3");
      const json = async (name: string): Promise<unknown> =>
        JSON.parse(await readFile(join(folder, name), "utf8"));
      expect(await json("oci-layout")).toEqual({ imageLayoutVersion: "1.0.0" });
      const blobs = await readdir(join(folder, "blobs", "sha256"));
      expect(blobs).toHaveLength(1 + image.blobs.length);
      for (const name of blobs)
        expect(sha256(await readFile(join(folder, "blobs", "sha256", name)))).toBe(`sha256:${name}`);
      const { digest, size } = image.manifest;
      expect(await json("index.json")).toEqual({
        schemaVersion: 2,
        mediaType: "application/vnd.oci.image.index.v1+json",
        manifests: [
          {
            mediaType: "application/vnd.oci.image.manifest.v1+json",
            digest,
            size,
            annotations: { "org.opencontainers.image.ref.name": "1.2.3" },
          },
        ],
      });
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe("the compat image", () => {
  it("is an ordinary image of one layer with one file, marked as the specification asks", async () => {
    await pushImage(await target(), wasmImage("compat", wasm, ABOUT));
    const { manifest } = await pullAsGateway();
    const [layer] = manifest.layers;
    expect(manifest.annotations["module.wasm.image/variant"]).toBe("compat");
    const archive = gunzipSync(await pull(layer!));
    expect(readTar(archive).map(({ name }) => name)).toEqual(["plugin.wasm"]);
    expect(manifest.config.mediaType).toBe("application/vnd.oci.image.config.v1+json");
    expect(JSON.parse((await pull(manifest.config)).toString())).toEqual({
      architecture: "amd64",
      os: "linux",
      config: {},
      rootfs: { type: "layers", diff_ids: [sha256(archive)] },
    });
  });
});

describe("the oci image", () => {
  it("has the runtime's configuration beside the module, and an empty one of its own", async () => {
    await pushImage(await target(), wasmImage("oci", wasm, ABOUT));
    const { manifest } = await pullAsGateway();
    expect(manifest.artifactType).toBe(MEDIA.wasmConfig);
    expect(manifest.layers.map(({ mediaType, annotations }) => [mediaType, annotations])).toEqual([
      [MEDIA.wasmConfig, { "org.opencontainers.image.title": "runtime-config.json" }],
      [MEDIA.wasmLayer, { "org.opencontainers.image.title": "plugin.wasm" }],
    ]);
    const roots = ["picker", "ingest"];
    expect(JSON.parse((await pull(manifest.layers[0]!)).toString())).toEqual({
      type: "envoy_proxy",
      abiVersions: ["v0.2.1"],
      config: { rootIds: roots, root_ids: roots },
    });
    expect((await pull(manifest.config)).toString()).toBe("{}");
    expect(manifest.config.mediaType).toBe("application/vnd.oci.empty.v1+json");
  });

  it("is not made of a module that is no Proxy-Wasm plugin", () => {
    const empty = Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    expect(() => wasmImage("oci", empty, ABOUT)).toThrow(NoProxyWasmError);
  });
});

describe("a push", () => {
  const image = (): Image => wasmImage("compat", wasm, ABOUT);

  it("sends again only what the registry lacks", async () => {
    const reference = await target();
    await pushImage(reference, image());
    const before = registry!.requests.length;
    await pushImage(reference, image());
    const again = registry!.requests.slice(before).map((line) => line.split(" ")[0]);
    expect(again).toEqual(["HEAD", "HEAD", "PUT"]);
  });

  it.each(["basic", "bearer"] as const)("logs in where the registry asks for it (%s)", async (kind) => {
    const login = { user: "robot", password: "pass:word", kind };
    const reference = await target({ login });
    await pushImage(reference, image(), login);
    expect(registry!.manifests.has("1.2.3")).toBe(true);
    await expect(pushImage(reference, image(), { ...login, password: "wrong" })).rejects.toThrow(
      RegistryError,
    );
    await expect(pushImage(reference, image())).rejects.toThrow(RegistryError);
  });

  it("fails when a blob is not what its digest says", async () => {
    const { manifest, blobs } = image();
    const damaged = blobs.map((blob, index) =>
      index === 1 ? { ...blob, bytes: Buffer.from("damaged") } : blob,
    );
    const pushed = pushImage(await target(), { manifest, blobs: damaged });
    await expect(pushed).rejects.toThrow(/answered 400 to PUT blob sha256:.*DIGEST_INVALID/);
    expect(registry!.manifests.size).toBe(0);
  });

  it("fails when the manifest names a blob that was not sent", async () => {
    const { manifest, blobs } = image();
    const pushed = pushImage(await target(), { manifest, blobs: blobs.slice(1) });
    await expect(pushed).rejects.toThrow(/answered 400 to PUT manifest 1\.2\.3.*MANIFEST_BLOB_UNKNOWN/);
  });

  it.each([
    ["ghcr.io/org/epp-wasm:0.1.0", { base: "https://ghcr.io", name: "org/epp-wasm", tag: "0.1.0" }],
    ["http://localhost:5000/a:b", { base: "http://localhost:5000", name: "a", tag: "b" }],
  ])("goes where %s says", (text, expected) => {
    expect(parseReference(text)).toEqual(expected);
  });

  it.each([
    "ghcr.io/org/epp-wasm",
    "epp-wasm:0.1.0",
    "ftp://host/name:tag",
    "host/UPPER:tag",
    "host/name:",
    "",
  ])("has no target in %j", (text) => {
    expect(() => parseReference(text)).toThrow(ImageReferenceError);
  });
});
