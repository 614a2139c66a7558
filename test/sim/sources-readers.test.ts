// Recorded traces: every field checked, times spread, shared blocks kept as shared spans.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { FleetRequest, Workload } from "../../host-sim/fleet/types.ts";
import {
  readAzureCsv,
  readMooncake,
  readTrace,
  SourceOptionsError,
  TraceLineError,
} from "../../host-sim/fleet/sources/index.ts";
import { LINE_BYTES_MAX, readLines } from "../../host-sim/fleet/sources/lines.ts";

const MOONCAKE = fileURLToPath(new URL("fixtures/mooncake-format.jsonl", import.meta.url));
const AZURE_2023 = fileURLToPath(new URL("fixtures/azure-2023-format.csv", import.meta.url));
const AZURE_2024 = fileURLToPath(new URL("fixtures/azure-2024-format.csv", import.meta.url));
const GOOD_ROW = '{"timestamp": 5, "input_length": 600, "output_length": 2, "hash_ids": [1, 2]}';

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "sources-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** Arrivals do not decrease, indices count, and prompts are as long as their spans. */
function expectSound({ requests }: Workload): void {
  requests.forEach((request, index) => {
    expect(request.index).toBe(index);
    expect(request.arrivalMs).toBeGreaterThanOrEqual(requests[index - 1]?.arrivalMs ?? 0);
    expect(request.spans.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(request.promptTokens);
  });
}

function byLengths({ requests }: Workload, prompt: number, output: number): FleetRequest {
  return requests.find((request) => request.promptTokens === prompt && request.outputTokens === output)!;
}

describe("readMooncake", () => {
  it("makes a span of every block and cuts the last one to the prompt's length", async () => {
    const workload = await readMooncake(MOONCAKE, { model: "m" });
    expectSound(workload);
    expect(workload.name).toBe("mooncake-format");
    expect(workload.requests).toHaveLength(10);
    const request = byLengths(workload, 2100, 250);
    expect(request.model).toBe("m");
    expect(request.spans).toEqual([
      { id: 0, tokens: 512, role: "user" },
      { id: 1, tokens: 512, role: "user" },
      { id: 4, tokens: 512, role: "user" },
      { id: 5, tokens: 512, role: "user" },
      { id: 6, tokens: 52, role: "user" },
    ]);
  });

  it("takes the first two blocks for the conversation", async () => {
    const { requests } = await readMooncake(MOONCAKE);
    const sessions = requests.map(({ session }) => session);
    expect(sessions.filter((session) => session === "0-1")).toHaveLength(4);
    expect(new Set(sessions)).toEqual(new Set(["0-1", "0-3", "0", "0-7", "11"]));
  });

  it("spreads rounded times by less than their step, differently by seed", async () => {
    const recorded = await readMooncake(MOONCAKE, { seed: 3 });
    const steps = recorded.requests.map(({ arrivalMs }) => Math.floor(arrivalMs / 3000));
    expect(steps.filter((step) => step === 0)).toHaveLength(3);
    expect(recorded.requests.at(-1)!.arrivalMs).toBeGreaterThanOrEqual(12_000);
    expect(recorded.requests.at(-1)!.arrivalMs).toBeLessThan(12_000 + 2999);
    expect(new Set(recorded.requests.map(({ arrivalMs }) => arrivalMs)).size).toBe(10);
    expect(await readMooncake(MOONCAKE, { seed: 3 })).toEqual(recorded);
    expect(await readMooncake(MOONCAKE, { seed: 4 })).not.toEqual(recorded);
  });

  it("moves times that were not rounded by less than a millisecond", async () => {
    const rows = [0, 40, 41, 529].map((timestamp) => GOOD_ROW.replace("5,", `${timestamp},`)).join("\n");
    const { requests } = await readMooncake(file("exact.jsonl", rows));
    expect(requests.map(({ arrivalMs }) => Math.floor(arrivalMs))).toEqual([0, 40, 41, 529]);
  });

  it("divides times by the rate factor and stops after as many rows as asked for", async () => {
    const once = await readMooncake(MOONCAKE, { seed: 9 });
    const twice = await readMooncake(MOONCAKE, { seed: 9, rateFactor: 2 });
    expect(twice.requests.map(({ arrivalMs }) => arrivalMs * 2)).toEqual(
      once.requests.map(({ arrivalMs }) => arrivalMs),
    );
    expect((await readMooncake(MOONCAKE, { requests: 4 })).requests).toHaveLength(4);
  });

  it.each([
    ["[1]", /:2: line is "\[1\]", expected a JSON object/],
    ["{", /:2: line is "\{", expected a JSON object/],
    ["null", /:2: line is "null"/],
    [GOOD_ROW.replace("5", "-1"), /:2: timestamp is -1, expected milliseconds ≥ 0/],
    [GOOD_ROW.replace("5", '"5"'), /:2: timestamp is "5"/],
    [GOOD_ROW.replace('"timestamp": 5, ', ""), /:2: timestamp is absent/],
    [GOOD_ROW.replace("600", "0"), /:2: input_length is 0, expected an integer from 1 to 10000000/],
    [GOOD_ROW.replace("600", "600.5"), /:2: input_length is 600\.5/],
    [GOOD_ROW.replace("600", "10000001"), /:2: input_length is 10000001/],
    [GOOD_ROW.replace('"output_length": 2', '"output_length": 0'), /:2: output_length is 0, expected/],
    [GOOD_ROW.replace("[1, 2]", "7"), /:2: hash_ids is 7, expected a list of 2 block ids/],
    [GOOD_ROW.replace("[1, 2]", "[1, -2]"), /:2: hash_ids\[1\] is -2, expected an integer ≥ 0/],
    [GOOD_ROW.replace("[1, 2]", "[1]"), /:2: hash_ids length is 1, expected 2 for an input_length of 600/],
    [GOOD_ROW.replace("600", "512"), /:2: hash_ids length is 2, expected 1 for an input_length of 512/],
  ])("refuses %s", async (row, message) => {
    const path = file("bad.jsonl", `${GOOD_ROW}\n${row}\n`);
    await expect(readMooncake(path)).rejects.toThrow(TraceLineError);
    await expect(readMooncake(path)).rejects.toThrow(message);
  });

  it("refuses a file without rows, and options out of range", async () => {
    await expect(readMooncake(file("empty.jsonl", "\n\n"))).rejects.toThrow("expected at least one row");
    await expect(readMooncake(MOONCAKE, { rateFactor: 0 })).rejects.toThrow(SourceOptionsError);
    await expect(readMooncake(MOONCAKE, { rateFactor: Number.NaN })).rejects.toThrow("rateFactor");
    await expect(readMooncake(MOONCAKE, { requests: 0 })).rejects.toThrow(
      "requests is 0, expected an integer",
    );
    await expect(readMooncake(MOONCAKE, { seed: -1 })).rejects.toThrow("seed is -1");
  });
});

describe("readAzureCsv", () => {
  it("reads the format of 2023: CR LF, 100 ns, no zone", async () => {
    const workload = await readAzureCsv(AZURE_2023);
    expectSound(workload);
    expect(workload.name).toBe("azure-2023-format");
    expect(workload.requests.map(({ promptTokens }) => promptTokens)).toEqual([374, 396, 879]);
    expect(workload.requests.map(({ outputTokens }) => outputTokens)).toEqual([44, 109, 1]);
    expect(workload.requests[1]!.arrivalMs).toBeCloseTo(4314.579, 3);
  });

  it("reads the format of 2024, zones included, in order of time", async () => {
    const { requests } = await readAzureCsv(AZURE_2024, { rateFactor: 0.5 });
    expect(requests.map(({ promptTokens }) => promptTokens)).toEqual([2162, 76, 2399]);
    expect(requests[1]!.arrivalMs).toBeCloseTo(2 * (1500 - 9.93), 3);
  });

  it("shares nothing between prompts", async () => {
    const { requests } = await readAzureCsv(AZURE_2023);
    expect(new Set(requests.map(({ spans }) => spans[0]!.id)).size).toBe(3);
    expect(new Set(requests.map(({ session }) => session)).size).toBe(3);
  });

  it("finds columns by name, in any order and among others", async () => {
    const path = file(
      "columns.csv",
      "id,generatedtokens,Timestamp,contexttokens\n7,3,2024-05-10T00:00:00Z,12\n",
    );
    const [request] = (await readAzureCsv(path)).requests;
    expect(request).toMatchObject({ arrivalMs: 0, promptTokens: 12, outputTokens: 3 });
  });

  it.each([
    ["TIMESTAMP,ContextTokens\n", /:1: GeneratedTokens is absent, expected a column/],
    ["TIMESTAMP,ContextTokens,GeneratedTokens\n", /expected a line of names and one row/],
    ["TIMESTAMP,ContextTokens,GeneratedTokens\n10:00,1,1\n", /:2: TIMESTAMP is "10:00", expected a time/],
    ["TIMESTAMP,ContextTokens,GeneratedTokens\n2024-13-40 00:00:00,1,1\n", /:2: TIMESTAMP is/],
    [
      "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00,0,1\n",
      /:2: ContextTokens is "0", expected/,
    ],
    ["TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00,1\n", /:2: GeneratedTokens is absent/],
    ["TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00,1,1e3\n", /:2: GeneratedTokens is "1e3"/],
  ])("refuses %j", async (text, message) => {
    await expect(readAzureCsv(file("bad.csv", text))).rejects.toThrow(message);
  });
});

describe("readTrace", () => {
  it("goes by the ending of the file's name", async () => {
    expect(await readTrace(AZURE_2024)).toEqual(await readAzureCsv(AZURE_2024));
    expect(await readTrace(MOONCAKE, { seed: 2 })).toEqual(await readMooncake(MOONCAKE, { seed: 2 }));
  });
});

describe("readLines", () => {
  async function lines(path: string, bytesMax?: number): Promise<string[]> {
    const found: string[] = [];
    for await (const { text, number } of readLines(path, bytesMax)) found.push(`${number} ${text}`);
    return found;
  }

  it("numbers lines from 1, skips blank ones, and needs no end after the last", async () => {
    expect(await lines(file("lines.txt", "a\r\n\n b \nc"))).toEqual(["1 a", "3 b", "4 c"]);
    expect(await lines(file("none.txt", ""))).toEqual([]);
  });

  it("keeps lines whole that the file system delivers in pieces", async () => {
    const rows = Array.from({ length: 3000 }, (_, i) => `${i}-${"ü".repeat(i % 97)}`);
    expect(await lines(file("long.txt", rows.join("\n")))).toEqual(rows.map((row, i) => `${i + 1} ${row}`));
  });

  it("takes a line of the longest length and refuses one byte more, with and without an end", async () => {
    expect(await lines(file("fits.txt", `x\n${"y".repeat(8)}`), 8)).toHaveLength(2);
    for (const end of ["", "\n"]) {
      const path = file("over.txt", `x\n${"y".repeat(9)}${end}`);
      await expect(lines(path, 8)).rejects.toThrow(":2: line length is 9, expected at most 8 bytes");
    }
    const path = file("huge.txt", "z".repeat(LINE_BYTES_MAX + 200_000));
    await expect(lines(path)).rejects.toThrow(TraceLineError);
  });
});
