// A listener update on a live VM: old streams end on their configuration, shared state stays, bad ones are refused.
import { describe, expect, it } from "vitest";
import { open } from "./clients.ts";
import { ENVOY_VERSIONS, POOL, until } from "./harness.ts";
import { DRAIN_SECONDS, type LiveGateway, startLiveGateway } from "./live-config.ts";
import { settled, type Status } from "./status.ts";
import { ask, CHAT_PATH, destinationsOf, settings, showDestination, text } from "./support.ts";
import { echo, held } from "./upstream.ts";

const OPTIONS = { replicas: 3, concurrency: 2, edit: showDestination } as const;

async function withLiveGateway(
  version: string,
  options: Parameters<typeof startLiveGateway>[1],
  test: (gateway: LiveGateway) => Promise<void>,
): Promise<void> {
  const gateway = await startLiveGateway(version, options);
  try {
    await test(gateway);
  } finally {
    await gateway.stop();
  }
}

describe.each(ENVOY_VERSIONS)("a listener update on Envoy %s", (version) => {
  it("puts a new configuration in force, and keeps snapshot, index and failures", async () => {
    await withLiveGateway(version, OPTIONS, async (gateway) => {
      const prompt = text("known before the update");
      const before = await ask(gateway, prompt);
      expect(destinationsOf(before)).toHaveLength(3);
      const dead = gateway.replicas.find(({ name }) => name !== gateway.servedBy(before.headers))!;
      const served = (await settled(gateway)).counters["indexEntries"]!;
      expect(served).toBeGreaterThan(0);

      expect(await gateway.reconfigure(settings({ destinations: 1 }))).toBe("taken");
      const prefix = await gateway.metric("epp_decisions_total", { pool: POOL, kind: "prefix" });
      for (let i = 0; i < 6; i++) {
        const after = await ask(gateway, prompt);
        expect(destinationsOf(after)).toEqual([destinationsOf(before)[0]]);
      }
      expect(await gateway.metric("epp_decisions_total", { pool: POOL, kind: "prefix" })).toBe(prefix + 6);
      const { pools, counters } = await settled(gateway);
      expect(pools).toHaveLength(1);
      expect(pools[0]!.endpoints.map(({ address }) => address)).toContain(dead.address);
      expect(counters["requests"]).toBe(7);
    });
  });

  it("leaves streams that have begun on the old configuration until they end", async () => {
    await withLiveGateway(
      version,
      { ...OPTIONS, pluginConfig: settings({ destinations: 2 }), drainSeconds: DRAIN_SECONDS },
      async (gateway) => {
        const hold = held();
        for (const replica of gateway.replicas) replica.behave(hold.behaviour);
        // One is answered late, of the other only half of the body has come.
        const answering = ask(gateway, text("decided before the update"));
        const uploading = open(gateway.url, { path: CHAT_PATH });
        const body = JSON.stringify({
          model: "test-model",
          messages: [{ role: "user", content: text("held over it") }],
        });
        await uploading.write(body.slice(0, 500));
        await until("both in the gateway", async () => {
          const { counters } = await gateway.status<Status>();
          return counters["streams"] === 2 && counters["inflightRequests"] === 1;
        });
        for (const destinations of [1, 3]) {
          expect(await gateway.reconfigure(settings({ destinations }))).toBe("taken");
        }
        uploading.end(body.slice(500));
        const received = (): number =>
          gateway.replicas.reduce((sum, replica) => sum + replica.received.length, 0);
        await until("both at replicas", () => received() === 2);
        hold.release();
        for (const reply of await Promise.all([answering, uploading.reply])) {
          expect(reply.status).toBe(200);
          expect(destinationsOf(reply)).toHaveLength(2);
        }
        for (const replica of gateway.replicas) replica.behave(echo);
        expect(destinationsOf(await ask(gateway, text("after")))).toHaveLength(3);
        await settled(gateway);
      },
    );
  });

  it.each([
    ["no JSON", "{", "no valid JSON"],
    ["an unknown plugin", settings({}, [{ type: "no-such-scorer" }]), "no-such-scorer"],
    ["an unknown parameter", settings({ destination: 2 }), "plugins[0].parameters.destination"],
    ["a value out of range", settings({ destinations: 4 }), "plugins[0].parameters.destinations: 4"],
    ["a value of another kind", settings({ fail: true }), "plugins[0].parameters.fail: true"],
    ["another kind of document", '{"kind":"Deployment","apiVersion":"apps/v1"}', "apiVersion"],
  ])("with %s is refused, the log names the place, and the old one stays", async (_, document, said) => {
    await withLiveGateway(
      version,
      { ...OPTIONS, pluginConfig: settings({ destinations: 2 }) },
      async (gateway) => {
        expect(await gateway.reconfigure(document)).toBe("refused");
        const place = /epp: configuration refused: .*\n/;
        const logged = await until("the refusal is logged", () => place.exec(gateway.envoy.log())?.[0]);
        expect(logged).toContain(said);
        expect(destinationsOf(await ask(gateway, text("still")))).toHaveLength(2);
        expect(await gateway.reconfigure(settings({ destinations: 1 }))).toBe("taken");
        expect(destinationsOf(await ask(gateway, text("again")))).toHaveLength(1);
      },
    );
  });

  it("with settings that do nothing is taken, and the log says so", async () => {
    await withLiveGateway(version, { ...OPTIONS, logLevel: "info" }, async (gateway) => {
      const document = settings({ destinations: 1 }, [{ type: "epp-wasm-disaggregation" }]);
      expect(await gateway.reconfigure(document)).toBe("taken");
      await until("it is logged", () =>
        gateway.envoy.log().includes("epp-wasm-disaggregation: no effect: no profile handler has a decider"),
      );
      expect(destinationsOf(await ask(gateway, text("taken")))).toHaveLength(1);
    });
  });

  it("can be repeated without end: places of old configurations are used again", async () => {
    const UPDATES = 24;
    // Each takes a place until it is drained, and a fast machine makes all of them within that time.
    const DRAINED_EVERY = 8;
    await withLiveGateway(version, OPTIONS, async (gateway) => {
      for (let update = 0; update < UPDATES; update++) {
        const destinations = 1 + (update % 3);
        expect(await gateway.reconfigure(settings({ destinations })), `update ${update}`).toBe("taken");
        expect(destinationsOf(await ask(gateway, text(update)))).toHaveLength(destinations);
        if (update % DRAINED_EVERY === DRAINED_EVERY - 1) await gateway.drained();
      }
      await settled(gateway);
    });
  });
});
