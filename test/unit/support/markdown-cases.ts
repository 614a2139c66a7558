// Test cases written as Markdown: a heading, why the case exists, and fenced blocks with input and expectation.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

export interface Block {
  /** First word behind the fence. */
  readonly kind: string;
  /** Further words behind the fence. */
  readonly options: readonly string[];
  /** Without the last line break. */
  readonly text: string;
}

export interface MarkdownCase {
  readonly name: string;
  readonly why: string;
  readonly blocks: readonly Block[];
}

/** A file that is not built as a list of cases. */
export class MarkdownCaseError extends Error {
  readonly code = "MARKDOWN_CASE";
  constructor(file: string, line: number, problem: string) {
    super(`${file}:${line + 1}: ${problem}`);
  }
}

/** Cases of every .md file of a folder: one for each `## ` heading. */
export function readCases(folder: string): MarkdownCase[] {
  const files = readdirSync(folder).filter((name) => name.endsWith(".md"));
  return files.sort().flatMap((name) => parseCases(join(folder, name)));
}

function parseCases(file: string): MarkdownCase[] {
  const cases: { name: string; why: string; blocks: Block[] }[] = [];
  const lines = readFileSync(file, "utf8").split("\n");
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at]!;
    const current = cases.at(-1);
    if (line.startsWith("## ")) cases.push({ name: line.slice(3), why: "", blocks: [] });
    else if (line.startsWith("```")) {
      if (current === undefined) throw new MarkdownCaseError(file, at, "a block before the first heading");
      const end = lines.indexOf("```", at + 1);
      if (end < 0) throw new MarkdownCaseError(file, at, "this block has no end");
      const [kind = "", ...options] = line.slice(3).split(" ");
      current.blocks.push({ kind, options, text: lines.slice(at + 1, end).join("\n") });
      at = end;
    } else if (current !== undefined) current.why += `${line} `;
  }
  for (const { name, why } of cases) {
    if (why.trim() === "") throw new MarkdownCaseError(file, 0, `"${name}" does not say why it exists`);
  }
  return cases;
}
