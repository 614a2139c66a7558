// What is understood of the gateway's status, whatever it is.
import { describe, expect, it } from "vitest";
import { POOL_ENDPOINTS_MAX, POOLS_MAX } from "../../assembly/wire/limits.ts";
import { STATUS_COUNTERS_MAX } from "../../sidecar/limits.ts";
import { readGatewayStatus } from "../../sidecar/serve/gateway-status.ts";

describe("the gateway's status", () => {
  it("becomes figures of pools and endpoints, and counters", () => {
    const status = {
      version: 1,
      counters: { decisions: 5, text: "x" },
      pools: [
        {
          name: "p",
          snapshotAgeMs: 30,
          loadIgnored: false,
          endpoints: [
            {
              address: "10.0.0.1:8000",
              name: "e",
              setAside: true,
              inflightRequests: 2,
              waiting: null,
              running: 4,
            },
          ],
        },
      ],
      truncated: false,
    };
    expect(readGatewayStatus(status)).toEqual({
      figures: [
        { pool: "p", endpoint: "", field: "snapshotAgeMs", value: 30 },
        { pool: "p", endpoint: "", field: "loadIgnored", value: 0 },
        { pool: "p", endpoint: "10.0.0.1:8000", field: "setAside", value: 1 },
        { pool: "p", endpoint: "10.0.0.1:8000", field: "inflightRequests", value: 2 },
      ],
      counters: [{ name: "decisions", value: 5 }],
      dropped: 1,
    });
  });

  it.each([
    [null],
    [7],
    ["x"],
    [[]],
    [{}],
    [{ pools: {}, counters: [] }],
    [{ pools: null, counters: null }],
    [{ pools: [], counters: { nan: Number.NaN } }],
  ])("is nothing when it is %j", (status) => {
    expect(readGatewayStatus(status)).toMatchObject({ figures: [], counters: [] });
  });

  it("leaves out and counts what has no name", () => {
    const status = {
      pools: [null, { endpoints: [{ address: "a", x: 1 }] }, { name: "p", endpoints: [{ x: 1 }, 3] }],
    };
    expect(readGatewayStatus(status)).toEqual({ figures: [], counters: [], dropped: 5 });
  });

  it("is cut to its limits, and the rest is counted", () => {
    const endpoints = Array.from({ length: POOL_ENDPOINTS_MAX + 1 }, (_, index) => ({
      address: `a${index}`,
      x: 1,
    }));
    const pools = Array.from({ length: POOLS_MAX + 2 }, (_, index) => ({ name: `p${index}`, endpoints }));
    const counters = Object.fromEntries(
      Array.from({ length: STATUS_COUNTERS_MAX + 3 }, (_, index) => [`c${index}`, 1]),
    );
    const read = readGatewayStatus({ pools, counters });
    expect(read.figures).toHaveLength(POOLS_MAX * POOL_ENDPOINTS_MAX);
    expect(read.counters).toHaveLength(STATUS_COUNTERS_MAX);
    expect(read.dropped).toBe(2 + POOLS_MAX + 3);
    const wide = Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`f${index}`, 1]));
    expect(readGatewayStatus({ pools: [{ name: "p", ...wide }] })).toMatchObject({ dropped: 8 });
  });
});
