// Lists and watches when the API server fails: what is expired, broken, slow, or far too much.
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { accessSource } from "../../sidecar/discovery/kubernetes/credentials.ts";
import { KubernetesDiscovery } from "../../sidecar/discovery/kubernetes/discovery.ts";
import { watchEvents } from "../../sidecar/discovery/kubernetes/watch-stream.ts";
import { FakeApi } from "./kubernetes-api.ts";
import { discover, FAST, kubeconfig, pod, RecordingSink, SELECTOR_MEMBERS } from "./kubernetes-harness.ts";
import { seeded } from "./seeds.ts";
import { eventually } from "./servers.ts";

/** An API server with pods 1 … count, and a discovery that listed them and watches. */
async function watching(count = 2): Promise<{ api: FakeApi } & ReturnType<typeof discover>> {
  const api = await new FakeApi().start();
  for (let index = 1; index <= count; index += 1) api.put("pods", pod(index));
  const running = discover(api);
  await eventually("the watch stands", () => running.sink.last?.length === count && api.watched("pods"));
  return { api, ...running };
}

describe("a watch", () => {
  it("that ends is begun again from the last event, without a list", async () => {
    const { api, sink } = await watching();
    api.put("pods", pod(3));
    await eventually("the event came", () => sink.last?.length === 3);
    api.endWatches();
    api.put("pods", pod(4));
    api.remove("pods", "vllm-0001");
    await eventually("what was missed came", () => sink.find("10.0.0.4:8000") && sink.last?.length === 3);
    expect(api.count("list", "pods")).toBe(1);
    expect(sink.errors).toEqual([]);
  });

  it("goes on from a bookmark although nothing of its own changed for long", async () => {
    const { api, sink, discovery } = await watching();
    api.passTime();
    api.bookmark();
    await eventually("it was read", () => discovery.figures().get("pods_bookmarks") === 1);
    api.compact();
    api.endWatches();
    await eventually("it watches again", () => api.count("watch", "pods") === 2 && api.watched("pods"));
    api.put("pods", pod(3));
    await eventually("events come", () => sink.last?.length === 3);
    expect(api.count("list", "pods")).toBe(1);
    expect(api.count("watch", "pods", 410)).toBe(0);
  });

  it.each(["status", "event"] as const)(
    "that is too old, said by %s, begins with a new list",
    async (how) => {
      const { api, sink, discovery } = await watching();
      api.goneBy = how;
      api.endWatches();
      api.remove("pods", "vllm-0001");
      api.put("pods", pod(3));
      api.compact();
      await eventually("the list came", () => sink.addresses?.join() === "10.0.0.2:8000,10.0.0.3:8000");
      await eventually("it watches again", () => api.watched("pods"));
      expect(api.count("list", "pods")).toBe(2);
      expect(discovery.figures().get("pods_expired")).toBe(1);
      expect(sink.errors).toEqual([]);
    },
  );

  it("that is always too old is not asked for in a loop", async () => {
    const api = await new FakeApi().start();
    api.goneBy = "event";
    api.put("pods", pod(1));
    api.intercept = (verb, _plural, response) => {
      if (verb !== "watch") return false;
      response.end('{"type":"ERROR","object":{"kind":"Status","code":410}}\n');
      return true;
    };
    const random = vi.fn(() => 0);
    const sink = new RecordingSink();
    const access = accessSource({ kubeconfig: kubeconfig(api), context: null });
    const settings = { kind: "kubernetes", namespace: null, kubeconfig: null, context: null } as const;
    const discovery = new KubernetesDiscovery(
      { ...settings, members: SELECTOR_MEMBERS },
      { pool: "p", access, random, timing: { ...FAST, watchShortMs: 60_000, backoffMaxMs: 1_000_000 } },
    );
    discovery.start(sink);
    onTestFinished(() => discovery.stop());
    await eventually("it failed several times", () => sink.errors.length >= 3);
    // The first is free, the others are waited for: 20, 40, 80 ms … halved by chance 0.
    expect(api.count("list", "pods")).toBeLessThanOrEqual(sink.errors.length + 2);
    expect(sink.errors[0]).toMatchObject({ code: "kubernetes-expired" });
    expect(sink.addresses).toEqual(["10.0.0.1:8000"]);
  });

  it("that ends at once, again and again, is not begun in a loop", async () => {
    const api = await new FakeApi().start();
    api.intercept = (verb, _plural, response) => {
      if (verb === "watch") response.end();
      return verb === "watch";
    };
    const { sink } = discover(api, SELECTOR_MEMBERS, { timing: { watchShortMs: 60_000 } });
    await eventually("it failed several times", () => sink.errors.length >= 3);
    expect(sink.errors[0]!.message).toContain("the API server ended it at once, without an event");
    expect(api.count("watch", "pods")).toBeLessThanOrEqual(sink.errors.length + 1);
    expect(api.count("list", "pods")).toBe(1);
  });

  it("that breaks in the middle of an event misses nothing", async () => {
    const { api, sink } = await watching();
    api.cutWatches();
    api.put("pods", pod(3));
    await eventually("the event came", () => sink.last?.length === 3);
    expect(api.count("list", "pods")).toBe(1);
    expect(sink.errors.map((error) => (error as { code?: string }).code)).toEqual(["kubernetes-connection"]);
  });

  it("keeps the last list while the API server answers errors, and says when it is back", async () => {
    const { api, sink } = await watching();
    api.intercept = (_verb, _plural, response) => {
      response.writeHead(503).end("etcd is away");
      return true;
    };
    api.endWatches();
    await eventually("it failed three times", () => sink.errors.length >= 3);
    expect(sink.errors[0]).toMatchObject({ code: "kubernetes-api", status: 503 });
    expect(sink.errors[0]!.message).toBe("watch pods answered 503: etcd is away");
    expect(sink.last?.length).toBe(2);
    const lists = sink.lists.length;
    api.intercept = null;
    await eventually("the list is given again", () => sink.lists.length > lists);
    expect(sink.last?.length).toBe(2);
  });

  it("resumes after an ERROR event that is not 410", async () => {
    const { api, sink } = await watching();
    api.errorEvent(500, "watch chan error: etcdserver: no leader");
    await eventually("it is reported", () => sink.errors.length === 1);
    expect(sink.errors[0]!.message).toBe("watch pods answered 500: watch chan error: etcdserver: no leader");
    api.put("pods", pod(3));
    await eventually("events come", () => sink.last?.length === 3);
    expect(api.count("list", "pods")).toBe(1);
  });

  it("waits as long as Retry-After asks for", async () => {
    const { api, sink } = await watching();
    let refusals = 0;
    api.intercept = (_verb, _plural, response) => {
      if ((refusals += 1) > 1) return false;
      response.writeHead(429, { "retry-after": "1" }).end("{}");
      return true;
    };
    api.endWatches();
    const [error] = await eventually("it is reported", () => sink.errors.length > 0 && sink.errors);
    expect(error).toMatchObject({ status: 429, retryAfterMs: 1_000 });
    api.put("pods", pod(3));
    await eventually("events come", () => sink.last?.length === 3);
  });

  it("that stands still beyond its time is given up", async () => {
    const api = await new FakeApi().start();
    api.put("pods", pod(1));
    api.intercept = (verb, _plural, response) => {
      if (verb !== "watch" || api.count("watch", "pods") > 0) return false;
      response.flushHeaders();
      return true;
    };
    const { sink } = discover(api, SELECTOR_MEMBERS, { timing: { watchMs: 1, watchGraceMs: 2_000 } });
    const error = await eventually("it is given up", () => sink.errors[0]);
    expect(error.message).toBe("connection to watch pods failed: it stood still");
    api.put("pods", pod(2));
    await eventually("the next one works", () => sink.last?.length === 2);
  });
});

describe("a list", () => {
  it("of 3,000 pods is read in pages, once, in a stable order, while pods come and go", async () => {
    const api = await new FakeApi().start();
    for (let index = 0; index < 3_000; index += 1) api.put("pods", pod(index));
    const { sink, discovery } = discover(api);
    await eventually("all are listed", () => sink.last?.length === 3_000);
    expect(api.count("list", "pods")).toBe(6);
    const limits = api.requests.filter(({ verb }) => verb === "list").map(({ query }) => query.get("limit"));
    expect(new Set(limits)).toEqual(new Set(["500"]));
    await eventually("it watches", () => api.watched("pods"));
    const random = seeded(7);
    for (let change = 0; change < 500; change += 1) {
      const index = Math.floor(random() * 3_000);
      if (random() < 0.3) api.put("pods", pod(index, { ready: false }));
      else api.put("pods", pod(index));
    }
    for (let index = 0; index < 3_000; index += 1) api.put("pods", pod(index));
    await eventually("all events came", () => discovery.figures().get("pods_events") === 3_500);
    await eventually("all are ready", () => sink.last?.every(({ draining }) => !draining));
    const names = sink.last!.map(({ name }) => name);
    expect(names).toEqual([...names].sort());
    expect(names).toHaveLength(3_000);
    expect(sink.lists.every((list) => list.length === 3_000)).toBe(true);
    // Changes are reported together.
    expect(sink.lists.length).toBeLessThan(1_000);
  });

  it("whose next page is too old begins anew", async () => {
    const api = await new FakeApi().start();
    for (let index = 0; index < 600; index += 1) api.put("pods", pod(index));
    let pages = 0;
    api.intercept = (verb) => {
      if (verb === "list" && (pages += 1) === 2) api.compact();
      return false;
    };
    const { sink } = discover(api);
    await eventually("all are listed", () => sink.last?.length === 600);
    expect(api.count("list", "pods", 410)).toBe(1);
    expect(sink.lists[0]).toHaveLength(600);
  });

  it("that is slow is waited for, and one that is too slow is tried again", async () => {
    const api = await new FakeApi().start();
    api.put("pods", pod(1));
    api.listDelayMs = 2_500;
    const { sink: patient } = discover(api);
    const { sink: hasty } = discover(api, SELECTOR_MEMBERS, { timing: { listTimeoutMs: 1_000 } });
    await eventually("it came", () => patient.last?.length === 1);
    const error = await eventually("it took too long", () => hasty.errors[0]);
    expect(error).toMatchObject({ code: "kubernetes-connection" });
    expect(hasty.lists).toEqual([]);
    api.listDelayMs = 0;
    await eventually("it came after all", () => hasty.last?.length === 1);
  });

  it("leaves out objects that cannot be read, and counts them", async () => {
    const api = await new FakeApi().start();
    api.put("pods", pod(1));
    api.put("pods", { ...pod(2), status: { podIP: 7 } });
    const { sink, discovery } = discover(api);
    await eventually("the list came", () => sink.last?.length === 1);
    expect(discovery.figures().get("pods_refused")).toBe(1);
    api.put("pods", pod(2));
    await eventually("it was mended", () => sink.last?.length === 2);
    expect(discovery.figures().get("pods_refused")).toBe(0);
  });

  it("that is no list is refused", async () => {
    const api = await new FakeApi().start();
    api.intercept = (_verb, _plural, response) => {
      response.end("<html>login</html>");
      return true;
    };
    const { sink } = discover(api);
    const error = await eventually("it is refused", () => sink.errors[0]);
    expect(error).toMatchObject({ code: "kubernetes-protocol" });
    expect(sink.lists).toEqual([]);
  });
});

describe("the events of a watch", () => {
  it("are read however the connection cuts them", async () => {
    const text = ["é", "ü"]
      .map((name) => `{"type":"ADDED","object":{"metadata":{"name":"${name}"}}}\n`)
      .join("\n");
    const bytes = Buffer.from(`${text}{"type":"ADD`);
    for (let size = 1; size <= bytes.length; size += 1) {
      const names: unknown[] = [];
      for await (const { object } of watchEvents(pieces(bytes, size), "watch pods")) {
        names.push((object["metadata"] as { name: string }).name);
      }
      expect(names).toEqual(["é", "ü"]);
    }
  });

  it.each([
    ["not JSON", "nonsense\n"],
    ["no event", '{"type":"NEW","object":{}}\n'],
    ["no object", "[]\n"],
  ])("are refused: %s", async (_what, text) => {
    const read = async (): Promise<void> => {
      for await (const event of watchEvents(pieces(Buffer.from(text), 4), "watch pods"))
        expect(event).toBeNull();
    };
    await expect(read()).rejects.toMatchObject({ code: "kubernetes-protocol" });
  });

  it("are refused beyond the limit of a line", async () => {
    const endless = async function* (): AsyncGenerator<Buffer> {
      for (;;) yield Buffer.alloc(65_536, "x");
    };
    await expect(watchEvents(endless(), "watch pods").next()).rejects.toThrow(
      "an event of more than 4194304 bytes",
    );
  });
});

async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
