// What package.json and package-lock.json must hold to: exact versions, hashes, licences that go with Apache-2.0.

export interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}
export interface Lockfile {
  readonly packages: Readonly<Record<string, LockedPackage>>;
}
export interface LockedPackage {
  readonly version?: string;
  readonly integrity?: string;
  readonly license?: string;
  readonly dev?: boolean;
  readonly devOptional?: boolean;
  /** Shipped inside another package's archive, under that one's hash. */
  readonly inBundle?: boolean;
}

/** May be part of what is handed out: ends up in the bundles under build/. */
const PERMISSIVE = new Set([
  "MIT",
  "ISC",
  "0BSD",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "Apache-2.0",
  "BlueOak-1.0.0",
  "CC0-1.0",
  "Unlicense",
  "Python-2.0",
]);
/** May be used to build and test, as a whole and unchanged. */
const TOOLS_ONLY = new Set(["MPL-2.0", "Artistic-2.0", "CC-BY-3.0", "CC-BY-4.0"]);
/**
 * Handed out as files of their own, unchanged, with their licences (scripts/release/native-packages.mjs): the MPL asks
 * no more of whoever adds files of other licences (§3.3), and npm has the sources.
 */
const UNCHANGED = new Set(["node_modules/zeromq"]);

const EXACT_VERSION = /^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$/;

/** Direct dependencies whose version is a range. */
export function rangedVersions(manifest: Manifest): string[] {
  const { dependencies, optionalDependencies, devDependencies } = manifest;
  return Object.entries({ ...dependencies, ...optionalDependencies, ...devDependencies })
    .filter(([, version]) => !EXACT_VERSION.test(version))
    .map(([name, version]) => `${name}@${version}`);
}

/** Packages without an exact version and a hash, by their path in the lockfile. */
export function unlockedPackages({ packages }: Lockfile): string[] {
  return Object.entries(packages)
    .filter(([path]) => path !== "")
    .filter(
      ([, { version, integrity, inBundle }]) =>
        !EXACT_VERSION.test(version ?? "") || !(integrity || inBundle),
    )
    .map(([path]) => path);
}

/** Packages whose licence does not allow what is done with them. `licenseOf` finds what the lockfile leaves out. */
export function unfitLicenses(
  { packages }: Lockfile,
  licenseOf: (path: string) => string | undefined,
): string[] {
  return Object.entries(packages).flatMap(([path, locked]) => {
    if (path === "") return [];
    const license = locked.license ?? licenseOf(path) ?? "none given";
    const tool = locked.dev === true || locked.devOptional === true || UNCHANGED.has(path);
    return isFit(license, tool) ? [] : [`${path}: ${license}`];
  });
}

/** SPDX expressions of one level: any alternative of an OR, all parts of an AND. */
function isFit(license: string, tool: boolean): boolean {
  const parts = license.replace(/[()]/g, "");
  const fits = (name: string): boolean => PERMISSIVE.has(name) || (tool && TOOLS_ONLY.has(name));
  return parts.split(" OR ").some((choice) => choice.split(" AND ").every((name) => fits(name.trim())));
}
