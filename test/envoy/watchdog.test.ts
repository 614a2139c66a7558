// Gateways that did not enable stop-iteration: no request hangs, the filter goes header-only and says so.
import { describe, expect, it } from "vitest";
import type { Bootstrap } from "../../cli/envoy-config.ts";
import { open, PROTOCOLS } from "./clients.ts";
import { chat, ENVOY_VERSIONS, POOL, until, withEnvoy } from "./harness.ts";
import { settled, type Status } from "./status.ts";
import { ask, CHAT_PATH, destinationsOf, inference, showDestination, text } from "./support.ts";

/** The listener that carries inference lacks it; the control listener has it. */
function withoutStopIteration(bootstrap: Bootstrap): void {
  showDestination(bootstrap);
  delete inference(bootstrap).http_filters[0]!.typed_config.config.allow_on_headers_stop_iteration;
}

const OFF = { replicas: 3, edit: withoutStopIteration } as const;

describe.each(ENVOY_VERSIONS)("without stop-iteration on Envoy %s", (version) => {
  it.each(PROTOCOLS)(
    "the first request is answered all the same, and later ones at once, over %s",
    async (protocol) => {
      await withEnvoy(version, OFF, async (gateway) => {
        const first = await ask(gateway, text("first"), { protocol });
        expect(first.status).toBe(200);
        expect(destinationsOf(first)).toHaveLength(3);
        const blind = (): Promise<number> =>
          gateway.metric("epp_decisions_total", { pool: POOL, kind: "blind" });
        expect(await blind()).toBe(1);
        for (let i = 0; i < 5; i++) {
          const reply = await ask(gateway, text(i, 100_000), { protocol });
          expect(reply.status).toBe(200);
          expect(destinationsOf(reply)).toHaveLength(3);
        }
        expect(await blind()).toBe(6);
        const { counters } = await settled(gateway);
        expect(counters).toMatchObject({ watchdogResumes: 1, headerOnlyDecisions: 5, headerOnly: 1 });
        await until("the metrics say so", async () => (await gateway.metric("epp_header_only")) === 1);
        expect(await gateway.metric("epp_watchdog_resumes_total")).toBe(1);
        expect(gateway.envoy.log()).toContain("allow_on_headers_stop_iteration: true");
      });
    },
  );

  it("many requests that wait at once are all answered, on every worker", async () => {
    await withEnvoy(version, { ...OFF, concurrency: 4 }, async (gateway) => {
      const replies = await Promise.all(Array.from({ length: 40 }, (_, i) => ask(gateway, text(i))));
      for (const reply of replies) {
        expect(reply.status).toBe(200);
        expect(destinationsOf(reply)).toHaveLength(3);
      }
      const served = new Set(replies.map(({ headers }) => gateway.servedBy(headers)));
      expect(served.size).toBe(3);
      await settled(gateway);
    });
  });

  it("a snapshot is refused where the control listener lacks it too, with what to do", async () => {
    await withEnvoy(version, { stopIteration: false, snapshot: false }, async (gateway) => {
      const { status, text: said } = await gateway.push();
      expect(status).toBe(500);
      expect(said).toContain("allow_on_headers_stop_iteration");
    });
  });
});

describe.each(ENVOY_VERSIONS)("with stop-iteration on Envoy %s", (version) => {
  it("a slow client waits as long as it likes, once the gateway has read one body", async () => {
    await withEnvoy(version, { replicas: 2 }, async (gateway) => {
      await ask(gateway, text("healthy"));
      const slow = open(gateway.url, { path: CHAT_PATH });
      await until("it waits", async () => (await gateway.status<Status>()).counters["streams"] === 1);
      // Longer than the watchdog waits in a gateway that it does not know yet.
      await new Promise((settle) => setTimeout(settle, 700));
      expect(gateway.replicas.flatMap(({ received }) => received)).toHaveLength(1);
      slow.end(JSON.stringify(chat(text("healthy"))));
      expect((await slow.reply).status).toBe(200);
      expect(await gateway.metric("epp_decisions_total", { pool: POOL, kind: "prefix" })).toBe(1);
      const { counters } = await settled(gateway);
      expect(counters).toMatchObject({ watchdogResumes: 0, headerOnlyDecisions: 0, headerOnly: 0 });
    });
  });
});

// Ten seconds long, by the time after which a body is tried again.
describe("with stop-iteration on the newest Envoy", () => {
  it("a slow client that comes first is picked for by load, and the gateway finds back to reading bodies", async () => {
    await withEnvoy(ENVOY_VERSIONS.at(-1)!, { replicas: 2 }, async (gateway) => {
      const slow = open(gateway.url, { path: CHAT_PATH });
      await until("it is resumed", async () =>
        gateway.replicas.some(({ received }) => received.length === 1),
      );
      slow.end(JSON.stringify(chat(text("slow"))));
      expect((await slow.reply).status).toBe(200);
      expect((await ask(gateway, text("meanwhile"))).status).toBe(200);
      await until("bodies are read again", async () => {
        await ask(gateway, text("again"));
        return (await gateway.metric("epp_decisions_total", { kind: "prefix" })) > 0;
      });
      expect((await settled(gateway)).counters).toMatchObject({ watchdogResumes: 1, headerOnly: 0 });
    });
  });
});
