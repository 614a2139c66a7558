// A release: the module rebuilt bit for bit, the npm package's contents, and a sha256 for every file handed out.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildBundles, buildWasm } from "../../scripts/build.mjs";
import { ForeignFolderError, makeRelease, type Release } from "../../scripts/release.mjs";
import { packPackage, publishedManifest, stagePackage } from "../../scripts/release/npm-package.mjs";
import { rebuildWasm } from "../../scripts/release/rebuild.mjs";
import { readText, repositoryFiles, ROOT } from "./files.ts";

const BUILD_TIMEOUT_MS = 480_000;
const run = promisify(execFile);
const manifest = JSON.parse(readText("package.json")) as {
  readonly name: string;
  readonly version: string;
  readonly bin: Record<string, string>;
};
let folder: string;

beforeAll(async () => {
  await buildWasm();
  await buildBundles();
  folder = await mkdtemp(join(tmpdir(), "epp-release-"));
}, BUILD_TIMEOUT_MS);

afterAll(() => rm(folder, { recursive: true, force: true }));

const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

describe("epp.wasm", () => {
  it(
    "is the same, bit for bit, when it is built from the sources in another folder",
    async () => {
      const here = await readFile(join(ROOT, "build", "epp.wasm"));
      const there = await rebuildWasm(ROOT);
      expect(sha256(there)).toBe(sha256(here));
    },
    BUILD_TIMEOUT_MS,
  );

  it("names no folder of the machine that built it", async () => {
    const text = (await readFile(join(ROOT, "build", "epp.wasm"))).toString("latin1");
    for (const path of [ROOT, tmpdir(), "node_modules", "assembly/"]) {
      expect(text).not.toContain(path);
      expect(text).not.toContain(Buffer.from(path, "utf16le").toString("latin1"));
    }
  });
});

describe("the npm package", () => {
  it("has the programs, the module, the manifests and the documentation, and nothing else", async () => {
    const stage = join(folder, "npm");
    await stagePackage(ROOT, stage);
    const { files, bundled, filename } = await packPackage(stage);
    const handed = repositoryFiles().filter((path) => /^(charts|docs|envoy)\//.test(path));
    const programs = Object.values(manifest.bin);
    expect(files).toEqual(
      [...new Set([...programs, ...handed, "build/epp.wasm", "LICENSE", "README.md", "package.json"])].sort(),
    );
    expect(bundled).toEqual([]);
    expect(filename).toBe(`${manifest.name}-${manifest.version}.tgz`);
    expect(await readdir(folder)).toEqual(["npm"]);
  });

  it("runs its programs with nothing installed beside them", async () => {
    for (const path of Object.values(manifest.bin)) {
      const { stdout } = await run(process.execPath, [join(folder, "npm", path), "--help"]);
      expect(stdout).toMatch(/usage/i);
    }
    const config = join(folder, "config.yaml");
    await writeFile(
      config,
      "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins: [{ type: queue-scorer }]\n",
    );
    // The filter itself judges, so the package's own module is found and runs.
    const tool = join(folder, "npm", manifest.bin["epp-wasm"]!);
    const { stdout } = await run(process.execPath, [tool, "validate", config], { cwd: folder });
    expect(stdout).toContain("valid");
    await writeFile(
      config,
      "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins: [{ type: none-such }]\n",
    );
    await expect(run(process.execPath, [tool, "validate", config], { cwd: folder })).rejects.toMatchObject({
      stdout: expect.stringContaining("none-such"),
    });
    await rm(config);
  });

  it("asks for nothing but optional native code and runs no script at the user's", () => {
    const source = {
      ...{ name: "n", version: "1.0.0", bin: {}, files: [], type: "module", license: "MIT" },
      ...{
        private: true,
        scripts: { postinstall: "x" },
        dependencies: { a: "1" },
        optionalDependencies: { c: "1" },
        devDependencies: { b: "1" },
      },
    };
    const fields = Object.keys(publishedManifest(source));
    expect(fields).toEqual(["name", "version", "license", "type", "bin", "files", "optionalDependencies"]);
  });
});

describe("a release", () => {
  let release: Release;
  let out: string;
  beforeAll(async () => {
    out = join(folder, "dist");
    release = await makeRelease(out);
  }, BUILD_TIMEOUT_MS);

  it("lists every file with its sha256, in the form that sha256sum checks", async () => {
    const lines = (await readFile(join(out, "SHA256SUMS"), "utf8")).trimEnd().split("\n");
    const listed = lines.map((line) => /^([0-9a-f]{64}) {2}(\S+)$/.exec(line)!.slice(1) as [string, string]);
    for (const [sum, name] of listed)
      expect([name, sha256(await readFile(join(out, name)))]).toEqual([name, sum]);
    const entries = await readdir(out, { recursive: true, withFileTypes: true });
    expect(listed).toHaveLength(entries.filter((entry) => entry.isFile()).length - 1);
  });

  it("holds the module, the programs, the package, both images and the bill of materials", () => {
    const { name, version } = manifest;
    const names = release.files
      .map((file) => file.name)
      .filter((path) => !/^(oci|node_modules)\//.test(path));
    const programs = Object.values(manifest.bin).map((path) => path.replace("build/", ""));
    expect(names.sort()).toEqual(
      ["epp.wasm", ...programs, `${name}-${version}.tgz`, `${name}-${version}.cdx.json`].sort(),
    );
    for (const variant of ["compat", "oci"])
      expect(release.files.map((file) => file.name)).toContain(`oci/${variant}/index.json`);
  });

  it("has what the sidecar loads at run time beside it, unchanged, with its licences", async () => {
    const beside = release.files.map((file) => file.name).filter((path) => path.startsWith("node_modules/"));
    for (const path of beside)
      expect(sha256(await readFile(join(out, path)))).toBe(sha256(await readFile(join(ROOT, path))));
    expect(beside).toContain("node_modules/zeromq/LICENSE_MPL-2.0.txt");
    for (const machine of ["x64", "arm64"])
      expect(beside.some((path) => path.includes(`linux/${machine}/node/glibc-`))).toBe(true);
    const sidecar = await readFile(join(out, "sidecar.mjs"), "utf8");
    expect(sidecar).toContain('import("zeromq")');
    const load = 'import("zeromq").then(({ default: { version } }) => process.stdout.write(version))';
    const program = join(out, "loads.mjs");
    await writeFile(program, load);
    const { stdout } = await run(process.execPath, [program]);
    await rm(program);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+$/);
  });

  it("has the same module everywhere", async () => {
    const wasm = await readFile(join(out, "epp.wasm"));
    const layer = release.images.oci.blobs.find(({ bytes }) => bytes.equals(wasm));
    expect(layer?.digest).toBe(`sha256:${sha256(wasm)}`);
    const archive = gunzipSync(await readFile(join(out, `${manifest.name}-${manifest.version}.tgz`)));
    expect(archive.includes(wasm)).toBe(true);
    const bom = await readFile(join(out, `${manifest.name}-${manifest.version}.cdx.json`), "utf8");
    expect(bom).toContain(sha256(wasm));
  });

  it("replaces an earlier release, and no folder that is something else", async () => {
    const other = join(folder, "other");
    await mkdir(other);
    await writeFile(join(other, "precious"), "kept");
    await expect(makeRelease(other)).rejects.toThrow(ForeignFolderError);
    expect(await readFile(join(other, "precious"), "utf8")).toBe("kept");
    await writeFile(join(out, "left-over"), "");
    expect((await makeRelease(out)).files).toEqual(release.files);
  });

  it("is the same every time", async () => {
    expect((await makeRelease(join(folder, "again"))).files).toEqual(release.files);
  });
});
