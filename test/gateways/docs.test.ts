// docs/ATTACHING.md promises findings that doctor has, and names every base.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { ROOT } from "../../cli/envoy.ts";
import { BASES, kustomizations } from "./folders.ts";

const text = readFileSync(join(ROOT, "docs", "ATTACHING.md"), "utf8");
const doctor = join(ROOT, "cli", "commands", "doctor");
const source = [...readdirSync(doctor).map((file) => join(doctor, file)), `${doctor}.ts`]
  .map((file) => readFileSync(file, "utf8"))
  .join("\n");

it("names only findings that doctor has", () => {
  const [, table = ""] = text.split("## The traps");
  const rows = table.split("\n").filter((line) => line.startsWith("|"));
  const traps = rows.filter((row) => row.split("|").length === 5).slice(2);
  const codes = traps.flatMap((row) =>
    [...row.split("|")[3]!.matchAll(/`([a-z-]+)`/g)].map(([, code]) => code!),
  );
  expect(codes.length).toBeGreaterThan(traps.length);
  expect(codes.filter((code) => !source.includes(`"${code}"`))).toEqual([]);
});

it("says of each gateway what was run on its control plane, and names every overlay", () => {
  const [, ran = ""] = text.split("## What has been run");
  for (const gateway of ["Envoy Gateway", "kgateway", "Istio"])
    expect(ran).toMatch(new RegExp(`^- \\*\\*${gateway}[ *]`, "m"));
  for (const folder of kustomizations().filter((path) => path.includes("/overlays/")))
    expect(text).toContain(folder.slice(folder.indexOf("overlays/")));
});

it("says how each base is applied", () => {
  for (const base of BASES) expect(text).toContain(`kubectl apply -k ${base}\n`);
});
