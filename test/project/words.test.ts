// No file holds a word that means unfinished work or a check switched off.
import { describe, expect, it } from "vitest";
import { readText, textFiles } from "./files.ts";
import { forbiddenWords } from "./words.ts";

/** The list itself, and texts that are not ours. */
const NOT_READ = /^(LICENSE|package-lock\.json|test\/project\/words(\.test)?\.ts)$/;

describe("forbidden words", () => {
  it("stand in no file", () => {
    const files = textFiles().filter((path) => !NOT_READ.test(path));
    expect(files.length).toBeGreaterThan(50);
    expect(files.flatMap((path) => forbiddenWords(path, readText(path)))).toEqual([]);
  });

  it.each([
    "// TODO: later",
    "// good enough for now",
    "a placeholder value",
    'it.skip("x", () => {})',
    'describe.each([1]).only("x", () => {})',
    "xit(1)",
    "// @ts-nocheck",
    "// @ts-ignore",
    "if (process.env.EPP_SKIP_ENVOY) return;",
    'const path = "/tmp/x";',
    "see /work/notes.md",
  ])("are found in %j", (line) => {
    expect(forbiddenWords("cli/x.ts", `fine\n${line}\n`)).toEqual([expect.stringMatching(/^cli\/x\.ts:2: /)]);
  });

  it.each(["const skipped = 0;", "queue.only", "const tmp = 1;", "https://example.com/tmp/x"])(
    "are not seen in %j",
    (line) => {
      expect(forbiddenWords("cli/x.ts", line)).toEqual([]);
    },
  );

  it("lets assembly/ mark what TypeScript cannot read", () => {
    expect(forbiddenWords("assembly/abi/x.ts", "// @ts-ignore: decorator")).toEqual([]);
  });
});
