// docs/MIGRATING.md and docs/CLI.md say what the code does: every plugin type with its class, every finding with its code.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { FilterCheck } from "../../cli/commands/filter-check.ts";
import { describeValidation, validateDocument } from "../../cli/commands/validate.ts";
import { ROOT } from "../../cli/envoy.ts";
import { ACCEPTED, IMPLEMENTED, REFUSED, REQUIRED } from "../unit/support/plugin-types.ts";

const text = (path: string): string => readFileSync(join(ROOT, path), "utf8");
const ROW = /^\| `([\w-]+)`\s*\| (same|better|not needed(?: \(side\))?|not yet)\s*\| (.*?)\s*\|$/gm;
const rows = [...text("docs/MIGRATING.md").matchAll(ROW)].map(([, type, answer, how]) => ({
  type: type!,
  answer: answer!,
  how: how!,
}));

describe("the migration table", () => {
  let check: FilterCheck;
  beforeAll(() => {
    check = new FilterCheck();
  });
  afterAll(() => check.close());

  it("has each of llm-d's 97 types once", () => {
    const types = [...IMPLEMENTED, ...ACCEPTED, ...REFUSED].sort();
    expect(types).toHaveLength(97);
    expect(rows.map(({ type }) => type).sort()).toEqual(types);
  });

  it.each(rows)("says of $type what the filter says", async ({ type, answer, how }) => {
    const parameters = REQUIRED[type];
    const plugin = { type, ...(parameters === undefined ? {} : { parameters }) };
    const document = { apiVersion: "llm-d.ai/v1alpha1", kind: "EndpointPickerConfig", plugins: [plugin] };
    const { errors, notes } = await check.document(document);
    const idle = notes.find((note) => note.startsWith("plugins[0]"));
    if (errors.length > 0) {
      expect(answer).toBe("not yet");
      expect(errors[0]).toMatch(/known in llm-d and not supported/);
      expect(`nearest: ${errors[0]!.split("the nearest that is: ")[1]}`).toBe(how);
    } else if (idle !== undefined) {
      expect(answer).toBe(idle.endsWith("the sidecar's") ? "not needed (side)" : "not needed");
      expect(how).not.toBe("");
    } else {
      expect(answer).toMatch(/^(same|better)$/);
      expect(answer === "same" || how !== "").toBe(true);
    }
  });
});

describe("the command's page", () => {
  it("shows what validate prints", async () => {
    const check = new FilterCheck();
    onTestFinished(() => check.close());
    const plugins = [
      { type: "latency-scorer" },
      { type: "load-aware-scorer", parameters: { threshold: "many" } },
    ];
    const document = { apiVersion: "llm-d.ai/v1alpha1", kind: "EndpointPickerConfig", plugins };
    const [result] = await validateDocument(document, "picker.json", check);
    expect(text("docs/CLI.md")).toContain(describeValidation(result!));
  });

  const CODE = /(?:error|warning)\(\s*"([a-z-]+)",/g;
  const folder = "cli/commands/doctor";
  const files = [
    ...readdirSync(join(ROOT, folder)).map((name) => `${folder}/${name}`),
    "cli/commands/doctor.ts",
  ];
  const codes = new Set(files.flatMap((path) => [...text(path).matchAll(CODE)].map(([, code]) => code!)));
  const [, table = ""] = text("docs/CLI.md").split("## doctor");
  const written = [...table.matchAll(/^\| (`[^|]*)\|/gm)].flatMap(([, cell]) =>
    [...cell!.matchAll(/`([a-z-]+)`/g)].map(([, code]) => code!),
  );

  it("names every finding of doctor, and no other", () => {
    expect(codes.size).toBeGreaterThan(20);
    expect([...written].sort()).toEqual([...codes].sort());
  });
});
