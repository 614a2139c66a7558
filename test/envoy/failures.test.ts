// Replicas that refuse, reset, answer 5xx, die and come back: who answers instead, and who hears of it.
import { describe, expect, it } from "vitest";
import type { Bootstrap } from "../../cli/envoy-config.ts";
import { open, PROTOCOLS, type Reply, ReplyCutError } from "./clients.ts";
import { ENVOY_VERSIONS, type Gateway, POOL, until, withEnvoy } from "./harness.ts";
import { endpointStatus, settled } from "./status.ts";
import {
  ask,
  CHAT_PATH,
  destinationsOf,
  echoOf,
  LONG_ASIDE,
  settings,
  showDestination,
  text,
  trustClients,
} from "./support.ts";
import { answer, echo, held, refusingAddress, reset, type Upstream } from "./upstream.ts";

const SHOWN = {
  replicas: 3,
  pluginConfig: settings(LONG_ASIDE),
  edit: (bootstrap: Bootstrap): void => {
    showDestination(bootstrap);
    trustClients(bootstrap);
  },
};
const WARM = text("a prompt that one replica has seen");
/** After a tick every worker has read what the others published before. */
const TICK_MS = 5;

/** Sends the prompt once, and returns the replica that took it: from now on the first choice for it. */
async function warm(gateway: Gateway, prompt = WARM): Promise<Upstream> {
  const name = gateway.servedBy((await ask(gateway, prompt)).headers);
  return gateway.replicas.find((replica) => replica.name === name)!;
}

function others(gateway: Gateway, than: Upstream): Upstream[] {
  return gateway.replicas.filter((replica) => replica !== than);
}

function kinds(gateway: Gateway, kind: string): Promise<number> {
  return gateway.metric("epp_decisions_total", { pool: POOL, kind });
}

describe.each(ENVOY_VERSIONS)("a failing replica on Envoy %s", (version) => {
  it.each(PROTOCOLS)(
    "that refuses connections: the second on the list answers, over %s",
    async (protocol) => {
      await withEnvoy(version, SHOWN, async (gateway) => {
        const dead = await warm(gateway);
        await dead.kill();
        const reply = await ask(gateway, WARM, { protocol });
        expect(reply.status).toBe(200);
        const [first, second] = destinationsOf(reply);
        expect(first).toBe(dead.address);
        expect(gateway.servedBy(reply.headers)).toBe(
          gateway.replicas.find(({ address }) => address === second)!.name,
        );
        const { counters } = await settled(gateway);
        expect(counters).toMatchObject({ requestsRetried: 1, hostsSetAside: 1, prefixesMoved: 1 });
        expect(await endpointStatus(gateway, dead.name)).toMatchObject({ setAside: true, failures: 1 });
      });
    },
  );

  it("that refuses connections: the prompt is then expected where it was answered, and only there", async () => {
    await withEnvoy(version, SHOWN, async (gateway) => {
      const dead = await warm(gateway);
      await dead.kill();
      const rescuer = gateway.servedBy((await ask(gateway, WARM)).headers);
      const before = await kinds(gateway, "prefix");
      for (let i = 0; i < 5; i++) expect(gateway.servedBy((await ask(gateway, WARM)).headers)).toBe(rescuer);
      expect(await kinds(gateway, "prefix")).toBe(before + 5);
    });
  });

  it.each(["headers", "body"] as const)(
    "that resets after the request's %s: the next one gets the same request",
    async (when) => {
      await withEnvoy(version, SHOWN, async (gateway) => {
        const broken = await warm(gateway);
        broken.behave(reset(when));
        const reply = await ask(gateway, WARM);
        expect(reply.status).toBe(200);
        expect(gateway.servedBy(reply.headers)).not.toBe(broken.name);
        expect(echoOf(reply).text).toContain(WARM);
        expect(await endpointStatus(gateway, broken.name)).toMatchObject({ setAside: true, failures: 1 });
      });
    },
  );

  it("that breaks off in the middle of its answer: the client sees that, and nobody is asked again", async () => {
    await withEnvoy(version, SHOWN, async (gateway) => {
      const broken = await warm(gateway);
      broken.behave(reset("answer"));
      const cut = ask(gateway, WARM);
      await expect(cut).rejects.toMatchObject({ code: "ERR_REPLY_CUT", status: 200 });
      expect(broken.received).toHaveLength(2);
      for (const other of others(gateway, broken)) expect(other.received).toHaveLength(0);
      await settled(gateway);
    });
  });

  it.each([500, 502, 503, 504, 429, 404])(
    "that answers %i: the client gets that answer, and one only",
    async (status) => {
      await withEnvoy(version, SHOWN, async (gateway) => {
        const overloaded = await warm(gateway);
        overloaded.behave(answer(status, `status ${status} of the engine`, { "x-reason": "engine" }));
        const headers = { "x-envoy-retry-on": "5xx,retriable-4xx", "x-envoy-max-retries": "5" };
        const reply = await ask(gateway, WARM, { headers });
        expect(reply).toMatchObject({ status, text: `status ${status} of the engine` });
        expect(reply.headers["x-reason"]).toBe("engine");
        expect(overloaded.received).toHaveLength(2);
        for (const other of others(gateway, overloaded)) expect(other.received).toHaveLength(0);
        expect((await settled(gateway)).counters).toMatchObject({ requestsRetried: 0, hostsSetAside: 0 });
      });
    },
  );

  it("that answers 5xx in a burst: it is set aside after the fifth", async () => {
    await withEnvoy(version, SHOWN, async (gateway) => {
      const sick = gateway.replicas[0]!;
      sick.behave(answer(500));
      const sent = await askUntil(gateway, "a fifth 500", (replies) => count(replies, 500) === 5);
      expect(await endpointStatus(gateway, sick.name)).toMatchObject({ setAside: true });
      sick.forget();
      for (let i = 0; i < 12; i++) expect((await ask(gateway, text(`later ${i}`))).status).toBe(200);
      expect(sick.received).toHaveLength(0);
      expect(sent.every(({ status }) => status === 200 || status === 500)).toBe(true);
    });
  });

  it("that answers four 5xx and then well again: it stays in service", async () => {
    await withEnvoy(version, SHOWN, async (gateway) => {
      const [sick] = gateway.replicas;
      sick!.behave((context) => (sick!.received.length <= 4 ? answer(500)(context) : echo(context)));
      await askUntil(gateway, "a fifth request", () => sick!.received.length >= 5);
      sick!.behave(answer(500));
      await askUntil(gateway, "four more", (replies) => count(replies, 500) === 4);
      expect(await endpointStatus(gateway, sick!.name)).toMatchObject({ setAside: false });
    });
  });

  it("fails again when it is tried again, then recovers: back-off counts up, then starts from the beginning", async () => {
    await withEnvoy(version, { ...SHOWN, pluginConfig: settings({}) }, async (gateway) => {
      const dead = await warm(gateway);
      await dead.kill();
      await ask(gateway, WARM);
      let round = 0;
      const failures = async (): Promise<number> => {
        await ask(gateway, text(`round ${round++}`, 200));
        return (await endpointStatus(gateway, dead.name)).failures;
      };
      await until("a second failure", async () => (await failures()) === 2);
      await dead.revive();
      dead.behave(echo);
      await until("a success", async () => (await failures()) === 0);
      const setAside = async (): Promise<boolean> => (await endpointStatus(gateway, dead.name)).setAside;
      expect(await setAside()).toBe(false);
      expect(dead.received.length).toBeGreaterThan(1);
    });
  });

  it("is tried all the same when every other one is set aside too", async () => {
    await withEnvoy(version, { ...SHOWN, replicas: 2 }, async (gateway) => {
      for (const replica of gateway.replicas) await replica.kill();
      expect((await ask(gateway, WARM)).status).toBe(503);
      await gateway.replicas[1]!.revive();
      const reply = await ask(gateway, WARM);
      expect(reply.status).toBe(200);
      expect(gateway.servedBy(reply.headers)).toBe(gateway.replicas[1]!.name);
      await settled(gateway);
    });
  });

  it("that Envoy's cluster does not have: Envoy's own policy serves, and that is counted", async () => {
    const stranger = await refusingAddress();
    try {
      await withEnvoy(
        version,
        { ...SHOWN, replicas: 1, snapshot: { address: stranger.address } },
        async (gateway) => {
          const reply = await ask(gateway, WARM);
          expect(reply.status).toBe(200);
          expect(destinationsOf(reply)).toEqual([stranger.address]);
          expect((await settled(gateway)).counters).toMatchObject({ unknownUpstreams: 1, hostsSetAside: 0 });
        },
      );
    } finally {
      stranger.release();
    }
  });

  it("that came back as a new process: what its cache held is forgotten, and so are its failures", async () => {
    await withEnvoy(version, SHOWN, async (gateway) => {
      const restarted = await warm(gateway);
      await ask(gateway, WARM);
      expect(await kinds(gateway, "prefix")).toBe(1);
      await restarted.kill();
      await gateway.push(gateway.replicas.map((replica) => ({ generation: replica === restarted ? 2 : 1 })));
      await restarted.revive();
      await ask(gateway, WARM);
      expect(await kinds(gateway, "prefix")).toBe(1);
      expect(await kinds(gateway, "cold")).toBe(2);
      expect(await endpointStatus(gateway, restarted.name)).toMatchObject({ setAside: false, failures: 0 });
    });
  });
});

function count(replies: readonly Reply[], status: number): number {
  return replies.filter((reply) => reply.status === status).length;
}

/** Sends prompts that nobody has seen until the answers so far are what is wanted. */
async function askUntil(
  gateway: Gateway,
  what: string,
  isEnough: (replies: readonly Reply[]) => boolean,
): Promise<Reply[]> {
  const replies: Reply[] = [];
  await until(what, async () => {
    replies.push(await ask(gateway, text(`${what} ${replies.length}`, 200)));
    return isEnough(replies);
  });
  return replies;
}

describe.each(ENVOY_VERSIONS)("a replica that dies on Envoy %s with four workers", (version) => {
  it("is on nobody's list any more once its failure is known", async () => {
    await withEnvoy(version, { ...SHOWN, concurrency: 4 }, async (gateway) => {
      await until("all workers have streams", async () => {
        await ask(gateway, text("worker", 100));
        return (await gateway.status<{ workers: number }>()).workers === 4;
      });
      const oneTick = async (): Promise<void> => {
        const from = performance.now();
        while (performance.now() < from + TICK_MS) await new Promise((settle) => setImmediate(settle));
      };
      const dead = await warm(gateway);
      await dead.kill();
      // Whichever worker has the next request must know of the prompt, or another replica answers.
      await oneTick();
      await ask(gateway, WARM);
      await oneTick();
      const lists = await Promise.all(
        Array.from({ length: 60 }, async (_, i) =>
          destinationsOf(await ask(gateway, text(`after ${i % 2}`))),
        ),
      );
      for (const list of lists) expect(list).not.toContain(dead.address);
      expect((await settled(gateway)).counters["requestsRetried"]).toBe(1);
    });
  });

  it("under 100 requests costs none of those that were not yet being answered", async () => {
    await withEnvoy(version, { replicas: 3, concurrency: 4 }, async (gateway) => {
      const hold = held();
      for (const replica of gateway.replicas) {
        replica.behave((context) => {
          if (context.received.headers["x-begin"] === undefined) return hold.behaviour(context);
          context.response.writeHead(200, { "content-type": "text/event-stream" });
          context.response.write("data: begun\n\n");
        });
      }
      const exchanges = Array.from({ length: 100 }, (_, i) => {
        const begins = i % 10 === 0;
        const headers = { "content-type": "application/json", ...(begins ? { "x-begin": "1" } : {}) };
        const exchange = open(gateway.url, { path: CHAT_PATH, headers });
        exchange.end(JSON.stringify({ model: "test-model", messages: [{ role: "user", content: text(i) }] }));
        return { begins, exchange };
      });
      const arrived = (): number => gateway.replicas.reduce((sum, { received }) => sum + received.length, 0);
      await until("100 requests at the replicas", () => arrived() === 100);
      const [dead] = gateway.replicas;
      const lost = dead!.received.filter(({ headers }) => headers["x-begin"] !== undefined).length;
      expect(dead!.received.length).toBeGreaterThan(lost);
      await until("those begun are being answered", () =>
        exchanges.every(({ begins, exchange }) => !begins || exchange.received().includes("begun")),
      );
      await dead!.kill();
      await until("the others have its requests", () => arrived() === 100 + dead!.received.length - lost);
      hold.release();
      const waiting = exchanges.filter(({ begins }) => !begins);
      const replies = await Promise.all(waiting.map(({ exchange }) => exchange.reply));
      expect(replies.map(({ status }) => status)).toEqual(waiting.map(() => 200));
      let cut = 0;
      for (const { begins, exchange } of exchanges) {
        if (!begins) continue;
        exchange.reply.catch((error: unknown) => (cut += error instanceof ReplyCutError ? 1 : 0));
      }
      await until("answers that had begun are cut", () => cut === lost);
      for (const { exchange } of exchanges) exchange.abort();
      await settled(gateway);
    });
  });
});

describe("a gateway whose replicas all died and came back", () => {
  it("serves again without a new snapshot", async () => {
    await withEnvoy(ENVOY_VERSIONS.at(-1)!, { ...SHOWN, replicas: 2 }, async (gateway) => {
      await ask(gateway, WARM);
      for (const replica of gateway.replicas) await replica.kill();
      for (let i = 0; i < 4; i++) expect((await ask(gateway, WARM)).status).toBe(503);
      for (const replica of gateway.replicas) await replica.revive();
      expect((await ask(gateway, WARM)).status).toBe(200);
    });
  });
});
