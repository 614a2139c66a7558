// Dependencies are pinned, hashed and licensed to go with Apache-2.0.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packagesInstalled } from "../../scripts/setup.mjs";
import {
  type Lockfile,
  type Manifest,
  rangedVersions,
  unfitLicenses,
  unlockedPackages,
} from "./dependencies.ts";
import { readText, ROOT } from "./files.ts";

const manifest = JSON.parse(readText("package.json")) as Manifest & { license: string };
const lockfile = JSON.parse(readText("package-lock.json")) as Lockfile;

/** Packages whose manifest names no licence: what their licence file or README says. */
const SAID_ELSEWHERE: Readonly<Record<string, string>> = { cyclist: "MIT", "qrcode-terminal": "Apache-2.0" };

/** The licence that an installed package names itself; packages for other platforms are not installed. */
function installedLicense(path: string): string | undefined {
  const file = join(ROOT, path, "package.json");
  if (!existsSync(file)) return undefined;
  const { name, license } = JSON.parse(readFileSync(file, "utf8")) as { name: string; license?: string };
  return license ?? SAID_ELSEWHERE[name];
}

describe("dependencies", () => {
  it("have exact versions", () => {
    expect(rangedVersions(manifest)).toEqual([]);
    expect(
      rangedVersions({
        dependencies: { a: "1.2.3", b: "^1.2.3" },
        optionalDependencies: { d: "~1.0.0" },
        devDependencies: { c: "latest" },
      }),
    ).toEqual(["b@^1.2.3", "d@~1.0.0", "c@latest"]);
  });

  it("are locked with a hash each", () => {
    expect(Object.keys(lockfile.packages).length).toBeGreaterThan(50);
    expect(unlockedPackages(lockfile)).toEqual([]);
    const packages = {
      "": {},
      "node_modules/a": { version: "1.0.0" },
      "node_modules/b": { version: "1.0.0", integrity: "x" },
    };
    expect(unlockedPackages({ packages })).toEqual(["node_modules/a"]);
  });

  it("have licences that go with Apache-2.0", () => {
    expect(unfitLicenses(lockfile, installedLicense)).toEqual([]);
    const packages = {
      "node_modules/gpl": { license: "GPL-3.0" },
      "node_modules/mpl": { license: "MPL-2.0" },
      "node_modules/zeromq": { license: "MIT AND MPL-2.0" },
      "node_modules/a/node_modules/zeromq": { license: "MIT AND MPL-2.0" },
      "node_modules/tool": { license: "MPL-2.0", dev: true },
      "node_modules/either": { license: "(GPL-2.0 OR MIT)" },
      "node_modules/both": { license: "MIT AND GPL-2.0" },
      "node_modules/none": {},
    };
    expect(unfitLicenses({ packages }, () => undefined)).toEqual([
      "node_modules/gpl: GPL-3.0",
      "node_modules/mpl: MPL-2.0",
      "node_modules/a/node_modules/zeromq: MIT AND MPL-2.0",
      "node_modules/both: MIT AND GPL-2.0",
      "node_modules/none: none given",
    ]);
  });

  it("are what is installed", async () => {
    expect(await packagesInstalled(ROOT)).toBe(true);
    expect(await packagesInstalled(join(ROOT, "test", "project", "fixtures", "stale-packages"))).toBe(false);
  });

  it("come with the licence's text", () => {
    expect(manifest.license).toBe("Apache-2.0");
    expect(readText("LICENSE")).toContain(
      "Apache License\n                           Version 2.0, January 2004",
    );
  });
});
