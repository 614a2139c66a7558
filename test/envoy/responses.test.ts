// What the client gets and what the operator sees of it: answers untouched, sessions, usage, metrics, access logs.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Bootstrap } from "../../cli/envoy-config.ts";
import { open, PROTOCOLS } from "./clients.ts";
import { chat, ENVOY_VERSIONS, POOL, until, withEnvoy } from "./harness.ts";
import { settled, type Status } from "./status.ts";
import { ask, CHAT_PATH, settings, text } from "./support.ts";
import { answer, held, stream } from "./upstream.ts";

const USAGE = { prompt_tokens: 600, completion_tokens: 3, prompt_tokens_details: { cached_tokens: 512 } };
const EVENTS =
  ': keep-alive\n\ndata: {"choices":[{"delta":{"content":"h\u00e9 \u2615"}}]}\n\n' +
  `data: ${JSON.stringify({ choices: [], usage: USAGE })}\n\ndata: [DONE]\n\n`;

/** The stream's text cut into pieces of `size` characters, wherever that falls. */
function cut(size: number): string[] {
  return EVENTS.match(new RegExp(`[^]{1,${size}}`, "g"))!;
}

describe.each(ENVOY_VERSIONS)("answers on Envoy %s", (version) => {
  it.each(PROTOCOLS)("pass byte for byte as they come, sampled or not, over %s", async (protocol) => {
    const pluginConfig = settings({ responseSampleEvery: 2 });
    await withEnvoy(version, { replicas: 1, pluginConfig }, async (gateway) => {
      const [replica] = gateway.replicas;
      for (const size of [1, 7, 64, 10_000, 1, 7]) {
        replica!.behave(stream(cut(size)));
        const reply = await ask(gateway, text(size), { protocol, fields: { stream: true } });
        expect(reply.status).toBe(200);
        expect(reply.headers["content-type"]).toBe("text/event-stream");
        expect(reply.text).toBe(EVENTS);
      }
      const { counters } = await settled(gateway);
      expect(counters).toMatchObject({ usagePromptTokens: 3 * 600, usageCachedTokens: 3 * 512 });
    });
  });

  it("arrive while they are being written", async () => {
    await withEnvoy(version, { replicas: 1 }, async (gateway) => {
      const hold = held(({ response }) => {
        response.end("data: last\n\n");
      });
      gateway.replicas[0]!.behave(async (context) => {
        context.response.writeHead(200, { "content-type": "text/event-stream" });
        context.response.write("data: first\n\n");
        await hold.behaviour(context);
      });
      const exchange = open(gateway.url, { path: CHAT_PATH });
      exchange.end(JSON.stringify(chat("x")));
      await until("the first event", () => exchange.received() === "data: first\n\n");
      hold.release();
      expect((await exchange.reply).text).toBe("data: first\n\ndata: last\n\n");
    });
  });

  it("keep their status, headers and length", async () => {
    await withEnvoy(version, { replicas: 1 }, async (gateway) => {
      const body = JSON.stringify({ id: "1", usage: USAGE });
      gateway.replicas[0]!.behave(answer(201, body, { "content-type": "application/json", "x-own": "kept" }));
      const reply = await ask(gateway, text("x"));
      expect(reply).toMatchObject({ status: 201, text: body });
      expect(reply.headers).toMatchObject({ "x-own": "kept", "content-type": "application/json" });
      expect(Object.keys(reply.headers).filter((name) => name.startsWith("x-llm-d"))).toEqual([]);
    });
  });

  it("teach the pool how many bytes a token has", async () => {
    await withEnvoy(
      version,
      { replicas: 1, pluginConfig: settings({ responseSampleEvery: 1 }) },
      async (gateway) => {
        const usage = { prompt_tokens: 1_000, completion_tokens: 1 };
        gateway.replicas[0]!.behave(
          answer(200, JSON.stringify({ usage }), { "content-type": "application/json" }),
        );
        const ratio = async (): Promise<number> =>
          (await settled(gateway).then(({ pools }) => pools[0]!)).bytesPerToken;
        await ask(gateway, "8 bytes ".repeat(1_000));
        const first = await ratio();
        for (let i = 0; i < 100; i++) await ask(gateway, "8 bytes ".repeat(1_000));
        const last = await ratio();
        expect(first).toBeGreaterThan(4);
        expect(last).toBeGreaterThan(first);
        expect(last).toBeLessThanOrEqual(8.1);
        expect(last).toBeGreaterThan(7.5);
      },
    );
  });
});

describe.each(ENVOY_VERSIONS)("the status on Envoy %s", (version) => {
  it("tells how many tokens of a request are in no cache, on average", async () => {
    await withEnvoy(version, { replicas: 1, concurrency: 1, pluginConfig: settings({}) }, async (gateway) => {
      const mean = async (): Promise<number | null> =>
        (await settled(gateway).then(({ pools }) => pools[0]!)).meanUncachedTokens;
      expect(await mean()).toBeNull();
      await ask(gateway, "a".repeat(40_000));
      const first = (await mean())!;
      expect(first).toBeGreaterThan(40_000 / 8);
      // The same again: only what is not held counts, so that the mean halves.
      await ask(gateway, "a".repeat(40_000));
      expect(await mean()).toBeLessThan(first * 0.6);
    });
  });
});

describe.each(ENVOY_VERSIONS)("a session on Envoy %s", (version) => {
  it("stays with the endpoint whose token the client brings back", async () => {
    const scorer = { type: "session-affinity-scorer" };
    await withEnvoy(
      version,
      { replicas: 4, concurrency: 2, pluginConfig: settings({}, [scorer]) },
      async (gateway) => {
        for (let session = 0; session < 4; session++) {
          const first = await ask(gateway, text(`session ${session}`));
          const token = first.headers["x-session-token"] as string;
          // A NamespacedName as Go writes it; without Kubernetes there is no namespace.
          expect(Buffer.from(token, "base64").toString()).toBe(`/${gateway.servedBy(first.headers)}`);
          for (let turn = 0; turn < 6; turn++) {
            const reply = await ask(gateway, text(`turn ${turn}`), { headers: { "x-session-token": token } });
            expect(gateway.servedBy(reply.headers)).toBe(gateway.servedBy(first.headers));
            expect(reply.headers["x-session-token"]).toBe(token);
          }
        }
        const strange = await ask(gateway, text("x"), {
          headers: { "x-session-token": "not base64 of anyone" },
        });
        expect(strange.status).toBe(200);
      },
    );
  });
});

describe.each(ENVOY_VERSIONS)("an operator of Envoy %s", (version) => {
  it("sees each decision in the access log where it is exposed", async () => {
    const folder = await mkdtemp(join(tmpdir(), "epp-access-"));
    const accessLogPath = join(folder, "access.log");
    try {
      const pluginConfig = settings({ exposeDecision: true });
      const address = await withEnvoy(
        version,
        { replicas: 2, accessLogPath, pluginConfig },
        async (gateway) => {
          const replies = [await ask(gateway, text("logged")), await ask(gateway, text("logged"))];
          const [served] = replies.map(({ headers }) => gateway.servedBy(headers));
          return gateway.replicas.find(({ name }) => name === served)!.address;
        },
      );
      // Envoy writes the rest of its log when it ends.
      const log = (await readFile(accessLogPath, "utf8")).trim().split("\n");
      const lines = log.map((line) => JSON.parse(line) as Record<string, string>);
      const told = (kind: string): RegExp =>
        new RegExp(`^pool=${POOL} endpoint=${address} kind=${kind} prompt_tokens=\\d+ matched_tokens=\\d+$`);
      expect(lines).toHaveLength(2);
      expect(lines[0]!["decision"]).toMatch(told("cold"));
      expect(lines[0]!["decision"]).toMatch(/matched_tokens=0$/);
      expect(lines[1]!["decision"]).toMatch(told("prefix"));
      expect(lines[1]!["decision"]).not.toMatch(/matched_tokens=0$/);
      expect(lines[1]!["upstream"]).toBe(address);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("sees totals, figures of the present and the fleet in Envoy's metrics", async () => {
    const edit = (bootstrap: Bootstrap): void => {
      // Histograms are shown as of the last flush, every 5 s unless told otherwise.
      bootstrap["stats_flush_interval"] = "0.2s";
    };
    await withEnvoy(version, { replicas: 2, concurrency: 2, edit }, async (gateway) => {
      const hold = held();
      for (const replica of gateway.replicas) replica.behave(hold.behaviour);
      // Streams: of an answer in one piece the prompt counts as computed after a while.
      const fields = { stream: true };
      const waiting = Array.from({ length: 5 }, (_, i) => ask(gateway, text(i), { fields }));
      const is = (name: string, value: number, labels = {}): Promise<boolean> =>
        until(`${name} ${value}`, async () => (await gateway.metric(name, labels)) === value);
      await is("epp_inflight_requests", 5, { pool: POOL });
      await until("tokens", async () => (await gateway.metric("epp_inflight_tokens", { pool: POOL })) > 0);
      await is("epp_ready_endpoints", 2, { pool: POOL });
      hold.release();
      await Promise.all(waiting);
      await is("epp_inflight_requests", 0, { pool: POOL });
      await is("epp_inflight_tokens", 0, { pool: POOL });
      await is("epp_requests_total", 5);
      // The histograms show the first decision of each worker and one in eight after it.
      for (let i = 0; i < 27; i++) await ask(gateway, text(0));
      for (const histogram of ["epp_prefix_hit_percent_count", "epp_decision_time_us_count"]) {
        await until(histogram, async () => (await gateway.metric(histogram)) >= 3);
        expect(await gateway.metric(histogram)).toBeLessThanOrEqual(5);
      }
      const { counters } = await settled(gateway);
      await is("epp_prompt_tokens_total", counters["promptTokens"]!);
      await is("epp_matched_tokens_total", counters["matchedTokens"]!);
      expect(counters["matchedTokens"]).toBeGreaterThan(0);
      expect((await gateway.status<Status>()).pools[0]!.snapshotAgeMs).toBeGreaterThan(0);
      expect(await gateway.metric("epp_index_entries")).toBeGreaterThan(0);
      expect(await gateway.metric("epp_snapshot_age_ms", { pool: POOL })).toBeGreaterThan(0);
    });
  });
});
