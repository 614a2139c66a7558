// The folder table holds over the whole source, and the checker finds what breaks it.
import { describe, expect, it } from "vitest";
import { readText, repositoryFiles } from "./files.ts";
import { importsOf, importViolations, unknownFolders } from "./import-rules.ts";

const SOURCE = /^(assembly|sidecar|host-sim|cli|scripts)\/.*\.(ts|mts|mjs)$/;
const sources = repositoryFiles().filter((path) => SOURCE.test(path));

describe("import rules", () => {
  it("hold over the whole source", () => {
    expect(sources.length).toBeGreaterThan(20);
    expect(importViolations(sources.map((path) => ({ path, text: readText(path) })))).toEqual([]);
  });

  it("name every folder of assembly/", () => {
    expect(unknownFolders(sources)).toEqual([]);
    expect(unknownFolders(["assembly/magic/spell.ts"])).toEqual(["assembly/magic"]);
  });

  it("sees every way to import", () => {
    const text = [
      'import a from "./a";',
      'import type { B } from "./b";',
      'export * from "./c";',
      'export { d } from "./d";',
      'const e = await import("./e");',
      'import "./f";',
      '// import g from "./g";',
    ].join("\n");
    expect(importsOf(text)).toEqual(["./a", "./b", "./c", "./d", "./e", "./f"]);
  });

  it.each([
    ["assembly/wire/a.ts", "../pool/rows", "assembly/wire may not import assembly/pool"],
    ["assembly/json/a.ts", "../abi/host", "assembly/json may not import assembly/abi"],
    ["assembly/schedule/a.ts", "../filter/stream", "assembly/schedule may not import assembly/filter"],
    ["assembly/abi/a.ts", "../wire/limits", "assembly/abi may not import assembly/wire"],
    ["assembly/index.ts", "./pool/rows", "assembly/index.ts may not import assembly/pool"],
    [
      "assembly/pool/a.ts",
      "@solo-io/proxy-runtime/assembly/imports",
      "assembly/pool may not import packages",
    ],
    ["assembly/abi/a.ts", "left-pad", "assembly/abi may not import packages"],
    ["sidecar/push/a.ts", "../../host-sim/data-plane.ts", "sidecar may not import host-sim"],
    ["sidecar/a.ts", "../assembly/pool/rows.ts", "sidecar may not import assembly/pool"],
    ["host-sim/a.ts", "../sidecar/main.ts", "host-sim may not import sidecar"],
    ["cli/a.ts", "../test/envoy/harness.ts", "cli may not import test/envoy/harness.ts"],
    ["scripts/a.mjs", "../cli/envoy.ts", "scripts may not import cli"],
  ])("finds %s importing %s", (path, name, expected) => {
    const violations = importViolations([{ path, text: `import { x } from ${JSON.stringify(name)};` }]);
    expect(violations).toHaveLength(1);
    expect(violations[0]).toContain(expected);
  });

  it("finds pure folders that import one another in a circle", () => {
    const files = [
      { path: "assembly/pool/a.ts", text: 'import { x } from "../prefix/b";' },
      { path: "assembly/prefix/b.ts", text: 'import { y } from "../schedule/c";' },
      { path: "assembly/schedule/c.ts", text: 'import { z } from "../pool/a";' },
    ];
    expect(importViolations(files)).toEqual([
      "assembly/pool → assembly/prefix → assembly/schedule → assembly/pool: imports go in a circle",
    ]);
    expect(importViolations(files.slice(0, 2))).toEqual([]);
  });
});
