// The repository's own files: everything but what is installed, built or kept by git.
import { readdirSync, readFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

const NOT_OURS = new Set([".git", "node_modules", "build", "dist", ".venv", "coverage"]);
const TEXT =
  /\.(ts|mts|mjs|js|cjs|json|jsonl|md|ya?ml|txt|sh)$|^\.ci\/run$|^\.[a-z]+rc(\.json)?$|^\.gitignore$/;

/** Paths from the root, with forward slashes, sorted. */
export function repositoryFiles(): string[] {
  return walk(ROOT)
    .map((path) => relative(ROOT, path).split(sep).join("/"))
    .sort();
}

/** The same, those that hold text. */
export function textFiles(): string[] {
  return repositoryFiles().filter((path) => TEXT.test(path));
}

export function readText(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

function walk(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (NOT_OURS.has(entry.name)) return [];
    const path = join(folder, entry.name);
    return entry.isDirectory() ? walk(path) : [path];
  });
}
