// The whole sidecar while its control listener is away, restarts, hangs or refuses.
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import * as pages from "./pages.ts";
import { eventually, FakeControl, FakeModelServer, temporaryFolder } from "./servers.ts";
import { errorsOf, start, staticPool } from "./whole-sidecar.ts";

/** A listener that takes connections and never answers. */
async function hangOn(socketPath: string): Promise<{ stop(): Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => sockets.add(socket.on("error", () => socket.destroy())));
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  const stop = async (): Promise<void> => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  onTestFinished(stop);
  return { stop };
}

describe("a control listener that", () => {
  it("is not there at the start is found when it comes", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const control = new FakeControl(join(temporaryFolder(), "control.sock"));
    const { sidecar, get, log } = await start([staticPool([server])], {}, control);
    await eventually("it failed to push", () => sidecar.pushers[0]!.counts.failed > 2);
    const readiness = await get("/readyz");
    expect(readiness.status).toBe(503);
    expect(readiness.text).toContain("was never taken by the gateway: connection to control listener");
    await control.start();
    await eventually("a snapshot came", () => control.last());
    await eventually("it was ready", () => sidecar.readiness().ready);
    expect(log.filter(({ msg }) => msg === "gateway takes snapshots again")).toHaveLength(1);
    // Failures are said once, not at each of several tries a second.
    expect(errorsOf(log).length).toBeLessThan(3);
  });

  it("restarts has all pools' state back", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const { control } = await start([staticPool([server]), staticPool([server], { name: "second" })]);
    for (let round = 0; round < 3; round++) {
      await eventually(
        "both pools came",
        () => control.last() !== undefined && control.last("second") !== undefined,
      );
      await control.stop();
      control.received.length = 0;
      await control.start();
    }
  });

  it("is on loopback gets the token, over new connections now and then", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const control = await new FakeControl("").start();
    const { sidecar, log } = await start([staticPool([server])], {}, control);
    await eventually("snapshots came", () => control.received.length > 2);
    expect(control.last()!.authorization).toBe("Bearer control-token");
    await eventually("several connections were made", () => control.connections > 2);
    expect(sidecar.pushers[0]!.counts.refused).toBe(0);
    // A new connection is no reason to fail.
    expect(errorsOf(log)).toEqual([]);
  });

  it("hangs does not stop the sidecar, which tries again", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const { control, sidecar } = await start([staticPool([server])], { controlTimeoutMs: 1_000 });
    await eventually("a snapshot came", () => control.last());
    await control.stop();
    const hanging = await hangOn(control.socketPath);
    await eventually("it gave up twice", () => sidecar.pushers[0]!.counts.failed > 1);
    await hanging.stop();
    const before = control.received.length;
    await control.start();
    await eventually("a snapshot came again", () => control.received.length > before);
  });

  it("takes the pool from another sidecar has this one wait, and told once", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const control = await new FakeControl(join(temporaryFolder(), "control.sock")).start();
    const taken = control.pushAnswer;
    control.pushAnswer = {
      status: 423,
      body: '{"error":{"field":"x-epp-sidecar","message":"gateway-7-1-abcd"}}',
    };
    const { sidecar, log, get } = await start([staticPool([server])], {}, control);
    await eventually("it was told to wait", () => sidecar.pushers[0]!.counts.standby > 3);
    expect(errorsOf(log)).toEqual([]);
    const told = log.filter(({ msg }) => msg === "another sidecar brings the pool; this one stands by");
    expect(told).toMatchObject([{ holder: "gateway-7-1-abcd" }]);
    const { status, text } = await get("/readyz");
    expect(status).toBe(200);
    expect(JSON.parse(text)).toEqual({
      ready: true,
      status: "standby",
      reasons: [
        "pool default: sidecar gateway-7-1-abcd brings it to the gateway; this one takes over when that is silent",
      ],
    });
    const metrics = (await get("/metrics")).text;
    expect(metrics).toContain('epp_sidecar_standby{pool="default"} 1');
    expect(metrics).toMatch(/epp_sidecar_pushes_total\{pool="default",result="standby"\} [1-9]/);
    await control.stop();
    await eventually("it was not ready", () => !sidecar.readiness().ready);
    await control.start();
    await eventually("it waited again", () => sidecar.readiness().status === "standby");

    control.pushAnswer = taken;
    await eventually("it brought the pool", () => sidecar.readiness().status === "ready");
    expect((await get("/metrics")).text).toContain('epp_sidecar_standby{pool="default"} 0');
    expect(control.released).toEqual([]);
    await sidecar.stop();
    expect(control.released).toEqual([{ pool: "default", sidecar: sidecar.id }]);
  });

  it("refuses a snapshot has its reason logged once and counted, and gets the next one", async () => {
    const server = await new FakeModelServer(pages.VLLM_032).start();
    const { control, sidecar, log, get } = await start([staticPool([server])]);
    await eventually("a snapshot came", () => control.last());
    control.pushAnswer = { status: 400, body: '{"error":{"field":"checksum","message":"is 1, expected 2"}}' };
    await eventually("it was refused twice", () => sidecar.pushers[0]!.counts.refused >= 2);
    const refusals = errorsOf(log).filter(({ code }) => code === "control-refused");
    expect(refusals).toHaveLength(1);
    expect(String(refusals[0]!["msg"])).toContain("400 for field checksum: is 1, expected 2");
    expect((await get("/metrics")).text).toMatch(
      /epp_sidecar_pushes_total\{pool="default",result="refused"\} ([2-9]|\d\d)/,
    );
    control.pushAnswer = { status: 204, body: "" };
    const before = control.received.length;
    await eventually("it was taken again", () => control.received.length > before);
  });
});
