// What the shipped configuration itself promises: labels, buckets, access log, private control socket, clean headers.
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { request } from "undici";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { send } from "./clients.ts";
import { chat, ENVOY_VERSIONS, type Gateway, POOL, startGateway, until } from "./harness.ts";
import { DRAIN_SECONDS, startLiveGateway } from "./live-config.ts";
import { held } from "./upstream.ts";

const CHAT = "/v1/chat/completions";

describe.each(ENVOY_VERSIONS)("the plain configuration on Envoy %s", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  let folder: string;
  let accessLogPath: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "epp-log-"));
    accessLogPath = join(folder, "access.log");
    gateway = await startGateway(version, { accessLogPath });
    const reply = await send(gateway.url, {
      path: CHAT,
      body: chat("How are you?"),
      headers: {
        "x-gateway-destination-endpoint": "10.9.9.9:1",
        "x-envoy-max-retries": "9",
        "x-envoy-retry-on": "5xx",
      },
    });
    expect(reply.status).toBe(200);
  });

  afterAll(async () => {
    await gateway.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const stats = async (): Promise<string> => {
    const { body } = await request(`${gateway.envoy.adminUrl}/stats/prometheus`);
    return body.text();
  };

  it("keeps steering headers from the replica", () => {
    const [received] = gateway.replicas.flatMap((replica) => replica.received);
    expect(
      Object.keys(received!.headers).filter((name) => /^x-(gateway|envoy-(retry|max))/.test(name)),
    ).toEqual([]);
  });

  it("turns every label of the filter's metrics into a Prometheus label", async () => {
    await until(
      "decisions",
      async () => (await gateway.metric("epp_decisions_total", { pool: POOL, kind: "cold" })) === 1,
    );
    await until("totals", async () => (await gateway.metric("epp_requests_total")) === 1);
    const names = [...(await stats()).matchAll(/^# TYPE (epp_\S+)/gm)].map(([, name]) => name!);
    expect(names.length).toBeGreaterThan(5);
    expect(names.filter((name) => !/^epp_[a-z]+(_[a-z]+)*$/.test(name))).toEqual([]);
  });

  it("gives the filter's histograms buckets of their own", async () => {
    const text = await until("histograms", async () => {
      const page = await stats();
      return page.includes("epp_decision_time_us_bucket") && page;
    });
    const bounds = (name: string): string[] =>
      [...text.matchAll(new RegExp(`^${name}_bucket\\{.*?le="([^"]+)"\\}`, "gm"))].map(([, bound]) => bound!);
    expect(bounds("epp_decision_time_us")).toEqual([
      "5",
      "10",
      "20",
      "50",
      "100",
      "200",
      "500",
      "1000",
      "5000",
      "+Inf",
    ]);
    expect(bounds("epp_prefix_hit_percent")).toContain("95");
  });

  it("logs each request with the replica that served it", async () => {
    const line = await until(
      "an access log line",
      async () => /^.+(?=\n)/.exec(await readFile(accessLogPath, "utf8"))?.[0],
    );
    expect(JSON.parse(line)).toMatchObject({
      path: CHAT,
      status: 200,
      attempts: 1,
      upstream: expect.stringMatching(/^127\.0\.0\.1:/),
    });
  });

  it("opens the control socket to its own user alone", async () => {
    expect((await stat(gateway.envoy.controlSocket)).mode & 0o777).toBe(0o600);
  });
});

describe.each(ENVOY_VERSIONS)("a listener update on Envoy %s", (version) => {
  it("is taken with a good configuration, refused with a bad one, and cuts no stream that has begun", async () => {
    const options = { concurrency: 2, replicas: 1, drainSeconds: DRAIN_SECONDS };
    const gateway = await startLiveGateway(version, options);
    try {
      const hold = held();
      gateway.replicas[0]!.behave(hold.behaviour);
      const begun = send(gateway.url, { path: CHAT, body: chat("before") });
      await until("the request at the replica", () => gateway.replicas[0]!.received.length === 1);
      expect(await gateway.reconfigure("{")).toBe("refused");
      expect(await gateway.reconfigure("")).toBe("taken");
      hold.release();
      expect((await begun).status).toBe(200);
      expect((await send(gateway.url, { path: CHAT, body: chat("after") })).status).toBe(200);
    } finally {
      await gateway.stop();
    }
  });
});
