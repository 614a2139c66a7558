// Who may import whom: the folder table of docs/ARCHITECTURE.md as a checker over import statements.
import { posix } from "node:path";
import ts from "typescript";

/** The pure folders of assembly/: they import the leaves and one another, in one direction only. */
export const PURE = ["json", "prompt", "prefix", "pool", "schedule", "schema", "flow", "guard"];

const PURE_FOLDERS = PURE.map((name) => `assembly/${name}`);
/** Constants and bytes that anything in assembly/ may use; they import nothing. */
const LEAVES = ["assembly/wire", "assembly/text"];
const ASSEMBLY_INDEX = "assembly/index.ts";

/** What each part may import besides itself. A part that is not listed may not exist. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  "assembly/wire": [],
  "assembly/text": [],
  "assembly/abi": ["assembly/text"],
  ...Object.fromEntries(PURE_FOLDERS.map((folder) => [folder, [...LEAVES, ...PURE_FOLDERS]])),
  "assembly/filter": [...LEAVES, "assembly/abi", ...PURE_FOLDERS],
  [ASSEMBLY_INDEX]: ["assembly/filter", "assembly/abi"],
  sidecar: ["assembly/wire"],
  "host-sim": ["assembly/wire"],
  // The release's number is package.json's.
  cli: ["sidecar", "host-sim", "scripts", "assembly/wire", "package.json"],
  scripts: [],
};

/** The only package that assembly/ may import, and the only folder that may do so. */
const HOST_PACKAGE = /^@solo-io\/proxy-runtime\/assembly\/imports$/;

export interface SourceFile {
  /** From the root, forward slashes. */
  readonly path: string;
  readonly text: string;
}

/** Module names that a source file imports, exports from, or loads. */
export function importsOf(text: string): string[] {
  return ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName);
}

/**
 * Import statements that break the folder table, one sentence each; also folders of assembly/ that import one
 * another in a circle. Files outside the table (tests, configuration) are not looked at.
 */
export function importViolations(files: readonly SourceFile[]): string[] {
  const edges = new Map<string, Set<string>>();
  const violations = files.flatMap(({ path, text }) => {
    const from = partOf(path);
    if (from === undefined) return [];
    return importsOf(text).flatMap((name) => {
      if (!name.startsWith(".")) return packageViolation(path, from, name);
      const target = posix.join(posix.dirname(path), name);
      const to = partOf(target) ?? target;
      if (to === from) return [];
      if (PURE_FOLDERS.includes(from)) edges.set(from, (edges.get(from) ?? new Set()).add(to));
      return ALLOWED[from]!.includes(to) ? [] : [`${path} imports ${target}: ${from} may not import ${to}`];
    });
  });
  return [...violations, ...circles(edges)];
}

/** assembly/ has no packages but the host's declarations; all other parts may use any. */
function packageViolation(path: string, from: string, name: string): string[] {
  if (!from.startsWith("assembly/")) return [];
  if (from === "assembly/abi" && HOST_PACKAGE.test(name)) return [];
  return [`${path} imports ${name}: ${from} may not import packages`];
}

function partOf(path: string): string | undefined {
  if (path === ASSEMBLY_INDEX) return path;
  const [first, second, ...rest] = path.split("/");
  if (first === "assembly") return rest.length > 0 ? `assembly/${second}` : undefined;
  return first !== undefined && second !== undefined && first in ALLOWED ? first : undefined;
}

/** Circles among the pure folders: "downwards only" means there is none. */
function circles(edges: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const done = new Set<string>();
  const found: string[] = [];
  const visit = (folder: string, path: readonly string[]): void => {
    if (path.includes(folder)) {
      found.push(`${[...path.slice(path.indexOf(folder)), folder].join(" → ")}: imports go in a circle`);
      return;
    }
    if (done.has(folder)) return;
    for (const next of edges.get(folder) ?? []) visit(next, [...path, folder]);
    done.add(folder);
  };
  for (const folder of edges.keys()) visit(folder, []);
  return found;
}

/** Folders of assembly/ that the table does not know. */
export function unknownFolders(paths: readonly string[]): string[] {
  const folders = paths.filter((path) => /^assembly\/[^/]+\//.test(path)).map((path) => partOf(path)!);
  return [...new Set(folders)].filter((folder) => !(folder in ALLOWED));
}
