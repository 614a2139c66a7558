// Many threads on one process: start order, shared data, queues, metrics, ticks, one VM for two plugins.
import { describe, expect, it } from "vitest";
import {
  ConfigureRefusedError,
  createHost,
  PluginDuplicateError,
  PluginUnknownError,
  VmStartRefusedError,
  WorkerIndexError,
} from "../../host-sim/host/index.ts";
import { probeWasm } from "./probe.ts";
import { plugin, probeHost } from "./support.ts";

describe("threads", () => {
  it("configures the canary, the main thread, then every worker, all plugins on main first", async () => {
    const { lines } = await probeHost({ workers: 2, plugins: [plugin("a"), plugin("b")] });
    const starts = lines.filter(({ text }) => text.includes("on_configure"));
    expect(starts.map(({ thread, text }) => `${thread} ${text.split(" ")[0]}`)).toEqual([
      "-1 root:a", // canary
      "-1 root:a",
      "-1 root:b", // canary
      "-1 root:b",
      "0 root:a",
      "0 root:b",
      "1 root:a",
      "1 root:b",
    ]);
  });

  it("runs context_create, vm_start and configure once for each root on each of them", async () => {
    const { linesOf } = await probeHost({ workers: 1, plugins: [plugin("a", { configuration: "x" })] });
    const once = ["on_context_create root", "on_vm_start 0", "on_configure 1"];
    expect(linesOf("root:a")).toEqual([...once, ...once, ...once]);
  });

  it("gives two plugins with one vm_id one VM a thread: one memory, one id counter", async () => {
    const { host, open } = await probeHost({
      workers: 2,
      plugins: [plugin("a"), plugin("b"), plugin("c", { vmId: "other" })],
    });
    const worker = host.worker(0);
    expect(worker.vmOf("a")).toBe(worker.vmOf("b"));
    expect(worker.vmOf("a")).not.toBe(worker.vmOf("c"));
    expect(worker.vmOf("a")).not.toBe(host.worker(1).vmOf("a"));
    expect([worker.rootOf("a").id, worker.rootOf("b").id, worker.rootOf("c").id]).toEqual([1, 2, 1]);
    open(worker, "b", "s", "");
    expect([...worker.vmOf("a").contexts.keys()]).toEqual([1, 2, 3]);
  });

  it("does not share a VM between other VM configurations", async () => {
    const { host } = await probeHost({ plugins: [plugin("a"), plugin("b", { vmConfiguration: "x" })] });
    expect(host.worker(0).vmOf("a")).not.toBe(host.worker(0).vmOf("b"));
  });

  it("lets exactly one worker win a compare-and-set", async () => {
    const { host, open, linesOf } = await probeHost({ workers: 3 });
    open(host.worker(0), "root", "a", "qh=sdset,cell,free,7");
    for (const index of [0, 1, 2]) open(host.worker(index), "root", `w${index}`, "qh=sdget,cell");
    for (const index of [0, 1, 2])
      open(host.worker(index), "root", `w${index}`, `qh=sdset,cell,taken${index},last`);
    expect(linesOf("w0")).toContain("sdset,cell,taken0,last -> 0");
    expect(linesOf("w1")).toContain("sdset,cell,taken1,last -> 8");
    expect(linesOf("w2")).toContain("sdset,cell,taken2,last -> 8");
    expect(host.sharedData.get("vm", "cell")?.value.toString()).toBe("taken0");
  });

  it("counts compare-and-set over all keys and namespaces, from 1", async () => {
    const { host, open } = await probeHost({ plugins: [plugin("a"), plugin("b", { vmId: "other" })] });
    open(host.worker(0), "a", "s", "qh=sdset,one,x;sdset,two,x");
    open(host.worker(0), "b", "t", "qh=sdset,one,x");
    expect(host.sharedData.get("vm", "one")?.cas).toBe(1);
    expect(host.sharedData.get("vm", "two")?.cas).toBe(2);
    expect(host.sharedData.get("other", "one")?.cas).toBe(3);
    expect(host.sharedData.keys("vm")).toEqual(["one", "two"]);
  });

  it("shares the namespace of an empty vm_id", async () => {
    const { host, open, linesOf } = await probeHost({
      plugins: [plugin("a", { vmId: "" }), plugin("b", { vmId: "", vmConfiguration: "x" })],
    });
    open(host.worker(0), "a", "s", "qh=sdset,one,x");
    open(host.worker(0), "b", "t", "qh=sdget,one");
    expect(linesOf("t")).toContain('sdget,one -> 0 "x"');
  });

  it("tells only the last registrant of a queue, on its own thread and after the enqueuing call", async () => {
    const configuration = "cfg=qreg,work|queue=qdeq,work";
    const { host, clock, open, lines } = await probeHost({
      workers: 3,
      plugins: [plugin("root", { configuration })],
    });
    const told = (): number[] =>
      lines.filter(({ text }) => text.includes("on_queue_ready")).map(({ thread }) => thread);
    open(host.worker(0), "root", "s", "qh=qres,work,;qenq,work,item");
    expect(told()).toEqual([]);
    clock.flush();
    expect(told()).toEqual([2]);
    open(host.worker(1), "root", "t", "qh=qreg,work");
    open(host.worker(0), "root", "u", "qh=qres,work,;qenq,work,item");
    clock.flush();
    expect(told()).toEqual([2, 1]);
  });

  it("adds counters up over workers, keeps the last gauge, and prints them for Prometheus", async () => {
    const { host, open, linesOf } = await probeHost({
      workers: 2,
      statsTags: [
        { tagName: "pool", regex: /^wasmcustom\.epp_.*?(\.pool=\[(.*?)\])/ },
        { tagName: "dotted.name", regex: /(\.cut)$/ },
      ],
      histogramBuckets: [{ match: /^wasmcustom\.epp_time/, buckets: [10, 100] }],
    });
    const script =
      "qh=mdef,0,epp_total.pool=[a/b-1.5];minc,epp_total.pool=[a/b-1.5],2;mdef,1,epp_now.cut;mrec,epp_now.cut,";
    open(host.worker(0), "root", "s", `${script}7;mdef,2,epp_time;mrec,epp_time,5;mrec,epp_time,50`);
    open(host.worker(1), "root", "t", `${script}9;mdef,2,epp_time;mrec,epp_time,500`);
    // Ids belong to the VM, values to the process.
    expect(linesOf("s")[1]).toBe("mdef,0,epp_total.pool=[a/b-1.5] -> 0 4");
    expect(linesOf("t")[1]).toBe("mdef,0,epp_total.pool=[a/b-1.5] -> 0 4");
    expect(host.metrics.value("epp_total.pool=[a/b-1.5]")).toBe(4n);
    expect(host.metrics.prometheus()).toBe(
      [
        "# TYPE epp_now gauge",
        'epp_now{dotted_name=".cut"} 9',
        "# TYPE epp_time histogram",
        'epp_time_bucket{le="10"} 1',
        'epp_time_bucket{le="100"} 2',
        'epp_time_bucket{le="+Inf"} 3',
        "epp_time_sum{} 555",
        "epp_time_count{} 3",
        "# TYPE epp_total counter",
        'epp_total{pool="a/b-1.5"} 4',
        "",
      ].join("\n"),
    );
  });

  it("ticks every root on every thread, the main one included, re-armed after the handler", async () => {
    const { clock, lines } = await probeHost({
      workers: 1,
      plugins: [
        plugin("a", { configuration: "cfg=tick,10|tick=time" }),
        plugin("b", { configuration: "cfg=tick,25|tick=time|tick#2=tick,0" }),
      ],
    });
    const ticks = (root: string, thread: number): number =>
      lines.filter((line) => line.text === `root:${root} on_tick` && line.thread === thread).length;
    clock.advance(100);
    expect([ticks("a", -1), ticks("a", 0)]).toEqual([10, 10]);
    // b switches itself off at its second tick.
    expect([ticks("b", -1), ticks("b", 0)]).toEqual([2, 2]);
  });

  it("stops its ticks when it is closed", async () => {
    const { host, clock, lines } = await probeHost({
      plugins: [plugin("a", { configuration: "cfg=tick,10|tick=time" })],
    });
    host.close();
    const before = lines.length;
    clock.advance(100);
    expect(lines.length).toBe(before);
    expect(clock.nextTimerMs()).toBe(Infinity);
  });

  it("keeps no context of a stream that is over", async () => {
    const { host, open } = await probeHost({ plugins: [plugin("root", { configuration: "" })] });
    const worker = host.worker(0);
    for (let count = 0; count < 300; count++) {
      const stream = open(worker, "root", `s${count}`, "qh=ret,1|qb=ret,1");
      if (count % 3 === 0) stream.reset();
      else if (count % 3 === 1) stream.requestBody("x").reset();
      else stream.requestBody("x", true).reset();
    }
    expect([...worker.vmOf("root").contexts.keys()]).toEqual([1]);
  });
});

describe("plugins", () => {
  it("is refused as a whole when the canary's configure or vm_start answers false", async () => {
    const module = await probeWasm();
    const refused = createHost({ module, plugins: [{ rootId: "a", configuration: "refuse-config" }] });
    await expect(refused).rejects.toThrow(ConfigureRefusedError);
    const stopped = createHost({ module, plugins: [{ rootId: "a", vmConfiguration: "refuse-vm" }] });
    await expect(stopped).rejects.toThrow(VmStartRefusedError);
  });

  it("keeps the old configuration when an update is refused", async () => {
    const { host, open, linesOf } = await probeHost();
    await expect(host.updatePlugin(plugin("root", { configuration: "refuse-config" }))).rejects.toThrow(
      ConfigureRefusedError,
    );
    open(host.worker(0), "root", "s", "qh=time");
    expect(linesOf("s")).toContain("time -> 0 now");
  });

  it("starts an update's root in the living VM while streams of the old one go on", async () => {
    const { host, open, linesOf } = await probeHost({ plugins: [plugin("root", { configuration: "one" })] });
    const worker = host.worker(0);
    const old = open(worker, "root", "old", "qh=ret,1|qb=prop,plugin_root_id;ret,0");
    const oldRoot = worker.rootOf("root").id;
    const vm = worker.vmOf("root");
    const retire = await host.updatePlugin(plugin("root", { configuration: "three" }));
    expect(worker.vmOf("root")).toBe(vm);
    expect(worker.rootOf("root").id).not.toBe(oldRoot);
    expect(linesOf("root:root").slice(-3)).toEqual([
      "on_context_create root",
      "on_vm_start 0",
      "on_configure 5",
    ]);
    old.requestBody("x", true);
    expect(old.upstream?.ended).toBe(true);
    old.responseHeaders({ ":status": "200" }, true);
    retire();
    expect(linesOf("root:root").slice(-2)).toEqual(["on_done", "on_delete"]);
    expect(vm.contexts.has(oldRoot)).toBe(false);
    open(worker, "root", "new", "qh=time");
    expect(linesOf("new")).toContain("time -> 0 now");
  });

  it("keeps shared data over an update, and forgets it with the last plugin of its vm_id", async () => {
    const { host, open } = await probeHost({ plugins: [plugin("a"), plugin("b")] });
    open(host.worker(0), "a", "s", "qh=sdset,one,x");
    const retire = await host.updatePlugin(plugin("a", { configuration: "new" }));
    retire();
    host.removePlugin("a");
    expect(host.sharedData.keys("vm")).toEqual(["one"]);
    host.removePlugin("b");
    expect(host.sharedData.keys("vm")).toEqual([]);
  });

  it("waits for proxy_done when on_done answers false", async () => {
    const configuration = "not-done|cfg=tick,10|tick=done";
    const { host, clock, linesOf } = await probeHost({ plugins: [plugin("root", { configuration })] });
    const { id } = host.worker(0).rootOf("root");
    const { contexts } = host.worker(0).vmOf("root");
    clock.advance(10);
    expect(linesOf("root:root")).toContain("done -> 1");
    host.removePlugin("root");
    expect(contexts.has(id)).toBe(true);
    clock.advance(10);
    expect(linesOf("root:root")).toContain("done -> 0");
    expect(linesOf("root:root").at(-1)).toBe("on_delete");
    expect(contexts.has(id)).toBe(false);
  });

  it("names what does not exist, or exists already", async () => {
    const { host } = await probeHost({ workers: 2 });
    expect(() => host.worker(2)).toThrow(WorkerIndexError);
    expect(() => host.worker(0).openStream("nobody")).toThrow(PluginUnknownError);
    expect(() => host.removePlugin("nobody")).toThrow(PluginUnknownError);
    await expect(host.updatePlugin(plugin("nobody"))).rejects.toThrow(PluginUnknownError);
    await expect(host.addPlugin(plugin("root"))).rejects.toThrow(PluginDuplicateError);
    await expect(probeHost({ workers: 0 })).rejects.toThrow(WorkerIndexError);
  });

  it("takes environment variables from the host's environment and from the configuration", async () => {
    const { host, open, linesOf } = await probeHost({
      hostEnvironment: { TOKEN: "secret", OTHER: "no" },
      plugins: [plugin("root", { hostEnvKeys: ["TOKEN", "UNSET"], environment: { MODE: "fast" } })],
    });
    open(host.worker(0), "root", "s", "qh=env");
    expect(linesOf("s")).toContain('env -> 0 2 "TOKEN=secret\\x00MODE=fast\\x00"');
  });
});
