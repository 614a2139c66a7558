// The bill of materials: complete, licensed, hashed, the same for the same lockfile, and CycloneDX in its structure.
import { describe, expect, it } from "vitest";
import { type Bom, billOfMaterials, type Lock, LockfileGapError } from "../../scripts/release/sbom.mjs";
import { readText } from "./files.ts";

const PRODUCTS = [{ name: "epp.wasm", sha256: "ab".repeat(32) }];
const INTEGRITY = `sha512-${Buffer.alloc(64, 7).toString("base64")}`;
const lockfile = JSON.parse(readText("package-lock.json")) as Lock;
const manifest = JSON.parse(readText("package.json")) as {
  dependencies: Record<string, string>;
  optionalDependencies: Record<string, string>;
};

/** A locked package with all that is asked of one. */
function locked(version: string, fields: object = {}): object {
  return { version, license: "MIT", integrity: INTEGRITY, ...fields };
}

/** A lockfile of a project that needs `dependencies`. */
function lock(dependencies: Record<string, string>, packages: Record<string, object>): Lock {
  const tools = {
    "node_modules/assemblyscript": locked("0.1.0"),
    "node_modules/@solo-io/proxy-runtime": locked("0.2.0"),
  };
  const own = { name: "epp-wasm", version: "1.0.0", license: "Apache-2.0", dependencies };
  return { packages: { "": own, ...tools, ...packages } } as Lock;
}

/** Faults by the parts of the CycloneDX 1.6 schema that a bill of ours uses. */
function faults(bom: Bom): string[] {
  const found: string[] = [];
  const check = (isRight: boolean, what: string): void => {
    if (!isRight) found.push(what);
  };
  check(bom.bomFormat === "CycloneDX" && bom.specVersion === "1.6" && bom.version === 1, "format");
  check(/^urn:uuid:[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/.test(bom.serialNumber), "serial number");
  const all = [bom.metadata.component, ...bom.components];
  const refs = all.map((component) => component["bom-ref"]);
  check(new Set(refs).size === refs.length, "references are not unique");
  for (const component of all) {
    const name = component["bom-ref"];
    check(["application", "library", "file"].includes(component.type), `${name}: type`);
    check(component.name !== "" && component.version !== "", `${name}: name or version`);
    check(component.licenses.length === 1, `${name}: licences`);
    for (const { alg, content } of component.hashes ?? []) {
      const digits = { "SHA-256": 64, "SHA-512": 128 }[alg];
      check(digits !== undefined && new RegExp(`^[0-9a-f]{${digits}}$`).test(content), `${name}: hash`);
    }
    if (component.type === "library")
      check(/^pkg:npm\/(%40[\w.-]+\/)?[\w.-]+@[\w.+-]+$/.test(component.purl ?? ""), `${name}: purl`);
  }
  for (const { ref, dependsOn } of bom.dependencies) {
    check(refs.includes(ref), `${ref} depends, and is no component`);
    for (const needed of dependsOn) check(refs.includes(needed), `${ref} needs ${needed}, which is none`);
  }
  return found;
}

describe("the bill of materials", () => {
  const bom = billOfMaterials(lockfile, PRODUCTS);
  const names = bom.components.map(({ group, name }) => (group === undefined ? name : `${group}/${name}`));

  it("is well-formed", () => {
    expect(faults(bom)).toEqual([]);
  });

  it("is found faulty where it is", () => {
    const [first] = bom.components;
    const twice: Bom = {
      ...bom,
      components: [...bom.components, { ...first!, licenses: [] }],
      serialNumber: "1",
    };
    expect(faults(twice)).toEqual([
      "serial number",
      "references are not unique",
      `${first!["bom-ref"]}: licences`,
    ]);
    const dangling: Bom = { ...bom, dependencies: [{ ref: "a", dependsOn: ["b"] }] };
    expect(faults(dangling)).toEqual(["a depends, and is no component", "a needs b, which is none"]);
  });

  it("has the products, every runtime dependency and what is compiled into the module, and no other tool", () => {
    expect(bom.components[0]).toMatchObject({
      type: "file",
      name: "epp.wasm",
      hashes: [{ alg: "SHA-256", content: PRODUCTS[0]!.sha256 }],
    });
    expect(names).toEqual(expect.arrayContaining(Object.keys(manifest.dependencies)));
    expect(names).toEqual(expect.arrayContaining(Object.keys(manifest.optionalDependencies)));
    expect(names).toEqual(expect.arrayContaining(["assemblyscript", "@solo-io/proxy-runtime"]));
    for (const tool of ["vitest", "prettier", "typescript", "esbuild"]) expect(names).not.toContain(tool);
  });

  it("is the same for the same lockfile, and another for another", () => {
    expect(JSON.stringify(billOfMaterials(lockfile, PRODUCTS))).toBe(JSON.stringify(bom));
    const other = billOfMaterials(lockfile, [{ name: "epp.wasm", sha256: "cd".repeat(32) }]);
    expect(other.serialNumber).not.toBe(bom.serialNumber);
  });

  it("follows dependencies to where Node finds them", () => {
    const packages = {
      "node_modules/a": locked("1.0.0", { dependencies: { shared: "^2.0.0" } }),
      "node_modules/a/node_modules/shared": locked("2.0.0", {
        dependencies: { deep: "^1.0.0", a: "^1.0.0" },
      }),
      "node_modules/shared": locked("1.0.0", { optionalDependencies: { absent: "1.0.0" } }),
      "node_modules/deep": locked("1.1.0", { license: "MIT OR Apache-2.0" }),
      "node_modules/unused": locked("9.0.0"),
    };
    const found = billOfMaterials(lock({ a: "^1.0.0", shared: "^1.0.0" }, packages), []);
    expect(faults(found)).toEqual([]);
    const needs = Object.fromEntries(found.dependencies.map(({ ref, dependsOn }) => [ref, dependsOn]));
    expect(needs).toEqual({
      "pkg:npm/epp-wasm@1.0.0": [
        "pkg:npm/%40solo-io/proxy-runtime@0.2.0",
        "pkg:npm/a@1.0.0",
        "pkg:npm/assemblyscript@0.1.0",
        "pkg:npm/shared@1.0.0",
      ],
      "pkg:npm/a@1.0.0": ["pkg:npm/shared@2.0.0"],
      "pkg:npm/shared@2.0.0": ["pkg:npm/a@1.0.0", "pkg:npm/deep@1.1.0"],
      "pkg:npm/shared@1.0.0": [],
      "pkg:npm/deep@1.1.0": [],
      "pkg:npm/assemblyscript@0.1.0": [],
      "pkg:npm/%40solo-io/proxy-runtime@0.2.0": [],
    });
    const licences = Object.fromEntries(found.components.map(({ purl, licenses: [one] }) => [purl, one]));
    expect(licences["pkg:npm/deep@1.1.0"]).toEqual({ expression: "MIT OR Apache-2.0" });
    expect(licences["pkg:npm/a@1.0.0"]).toEqual({ license: { id: "MIT" } });
  });

  it.each([
    ["a package that is not there", { gone: "1.0.0" }, {}, /the project needs gone/],
    [
      "no licence",
      { a: "1.0.0" },
      { "node_modules/a": locked("1.0.0", { license: undefined }) },
      /no license/,
    ],
    [
      "no hash",
      { a: "1.0.0" },
      { "node_modules/a": locked("1.0.0", { integrity: undefined }) },
      /no integrity/,
    ],
    [
      "a weak hash",
      { a: "1.0.0" },
      { "node_modules/a": locked("1.0.0", { integrity: "sha1-abc=" }) },
      /unknown kind/,
    ],
  ])("is not made with %s", (_, dependencies, packages, message) => {
    const make = (): Bom => billOfMaterials(lock(dependencies, packages), []);
    expect(make).toThrow(LockfileGapError);
    expect(make).toThrow(message);
  });
});
