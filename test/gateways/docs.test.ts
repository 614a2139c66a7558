// docs/ATTACHING.md promises findings that doctor has, and names every base.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { ROOT } from "../../cli/envoy.ts";
import { BASES } from "./folders.ts";

const text = readFileSync(join(ROOT, "docs", "ATTACHING.md"), "utf8");
const doctor = join(ROOT, "cli", "commands", "doctor");
const source = readdirSync(doctor)
  .map((file) => readFileSync(join(doctor, file), "utf8"))
  .join("\n");

it("names only findings that doctor has", () => {
  const rows = text.split("\n").filter((line) => line.startsWith("|"));
  const traps = rows.filter((row) => row.split("|").length === 5).slice(2);
  const codes = traps.flatMap((row) =>
    [...row.split("|")[3]!.matchAll(/`([a-z-]+)`/g)].map(([, code]) => code!),
  );
  expect(codes.length).toBeGreaterThan(traps.length);
  expect(codes.filter((code) => !source.includes(`"${code}"`))).toEqual([]);
});

it("says how each base is applied", () => {
  for (const base of BASES) expect(text).toContain(`kubectl apply -k ${base}\n`);
});
