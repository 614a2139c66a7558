// The demonstration's course: cold replicas for every gateway, ours measured last and left running.
import { describe, expect, it, onTestFinished } from "vitest";
import { type DemoGateway, describeDemo, runDemo } from "../../cli/demo.ts";
import { Progress } from "../../cli/progress.ts";
import { addressOf, type ReplicaStatus, serveAdmin } from "../../host-sim/model-server/admin.ts";
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import { defaultWorkload, generateWorkload } from "../../host-sim/workload/generate.ts";
import { startReplica } from "./support/replica.ts";

const PLAN = generateWorkload(defaultWorkload({ requests: 20, ratePerSecond: 200, model: "tiny" }));

async function startFleet(): Promise<{ replicas: SimulatedReplica[]; adminUrl: string }> {
  const replicas = [];
  for (const name of ["a", "b"]) {
    replicas.push(await startReplica({ name, modelTokensMax: 60_000 }, { blockCount: 20_001 }));
  }
  const admin = await serveAdmin(replicas, 0);
  onTestFinished(() => void admin.close());
  return { replicas, adminUrl: `http://${addressOf(admin)}` };
}

async function control(adminUrl: string, path: string, body?: object): Promise<Response> {
  return fetch(adminUrl + path, {
    method: body === undefined ? "GET" : "POST",
    ...(body && { body: JSON.stringify(body) }),
  });
}

async function statusOf(adminUrl: string): Promise<ReplicaStatus[]> {
  return (await (await control(adminUrl, "/replicas")).json()) as ReplicaStatus[];
}

describe("runDemo", () => {
  it("sends the same requests through every gateway over restarted replicas", async () => {
    const { replicas, adminUrl } = await startFleet();
    const events: string[] = [];
    const gateway = (policy: string, url: string): DemoGateway => ({
      policy,
      start: async () => {
        events.push(`start ${policy}`);
        return { url, stop: async () => void events.push(`stop ${policy}`) };
      },
    });
    const report = await runDemo({
      gateways: [
        gateway("ours", replicas[0]!.url),
        gateway("x", replicas[1]!.url),
        gateway("y", replicas[1]!.url),
      ],
      fleet: {
        size: 2,
        restart: async () => {
          events.push("restart");
          await control(adminUrl, "/replicas/all/restart", {});
        },
        status: () => statusOf(adminUrl),
      },
      plan: PLAN,
      progress: new Progress({ write: () => true }),
    });
    expect(events).toEqual([
      "restart",
      "start x",
      "stop x",
      "restart",
      "start y",
      "stop y",
      "restart",
      "start ours",
    ]);
    expect(report.runs.map(({ policy }) => policy)).toEqual(["ours", "x", "y"]);
    const [ours, x, y] = report.runs;
    for (const run of report.runs) expect([run.requests, run.errors, run.busiestShare]).toEqual([20, 0, 1]);
    // Which of two requests at one moment comes first is chance; a fleet that was not restarted would hit nearly all.
    expect(Math.abs(x!.prefixHitRatio - y!.prefixHitRatio)).toBeLessThan(0.1);
    expect(y!.prefixHitRatio).toBeLessThan(0.9);
    expect(ours!.prefillLoad).toBeGreaterThan(0);
    expect(report.gateway.url).toBe(replicas[0]!.url);
    const text = describeDemo(report.runs, PLAN);
    expect(text).toContain("better than x");
    expect(text).toMatch(/Prefill came to \d+ % with ours/);
  });

  it.each([
    ["in the middle of the requests", 300],
    ["before the first of them", 0],
  ])("ends at once when told to %s, and leaves nothing that fails later", async (_when, afterMs) => {
    const { replicas, adminUrl } = await startFleet();
    const abort = new AbortController();
    const demo = runDemo({
      gateways: [
        { policy: "ours", start: async () => ({ url: replicas[0]!.url, stop: async () => undefined }) },
      ],
      fleet: {
        size: 2,
        restart: async () => undefined,
        status: async () => {
          if (abort.signal.aborted) throw new Error("the replicas are gone");
          return statusOf(adminUrl);
        },
      },
      plan: [...PLAN, { ...PLAN[0]!, atMs: 3_600_000 }],
      progress: new Progress({ write: () => true }),
      signal: abort.signal,
    });
    setTimeout(() => abort.abort(new Error("SIGINT")), afterMs);
    await expect(demo).rejects.toThrow("SIGINT");
  });
});

describe("control port", () => {
  it("injects faults into one replica and shows what it did", async () => {
    const { replicas, adminUrl } = await startFleet();
    expect((await control(adminUrl, "/replicas/a/faults", { errors: 3, slowdown: 2 })).status).toBe(200);
    expect(replicas.map(({ faults }) => [faults.errors, faults.slowdown])).toEqual([
      [3, 2],
      [0, 1],
    ]);
    await control(adminUrl, "/replicas/b/kill", {});
    await expect(fetch(`${replicas[1]!.url}/health`)).rejects.toThrow();
    await control(adminUrl, "/replicas/b/start", {});
    expect((await fetch(`${replicas[1]!.url}/health`)).status).toBe(200);
    expect((await statusOf(adminUrl)).map(({ name }) => name)).toEqual(["a", "b"]);
  });

  it.each([
    ["an unknown replica", "/replicas/z/kill", {}],
    ["an unknown action", "/replicas/a/explode", {}],
    ["an unknown fault", "/replicas/a/faults", { eror: 1 }],
    ["a fault of another type", "/replicas/a/faults", { errors: "3" }],
    ["an unknown path", "/else", {}],
  ])("refuses %s", async (_, path, body) => {
    const { adminUrl } = await startFleet();
    expect((await control(adminUrl, path, body)).status).toBe(400);
  });
});
