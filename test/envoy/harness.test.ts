// The harness itself, on an Envoy without the filter: what the behaviour tests rely on when something goes wrong.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { EnvoyExitedError, ROOT, startEnvoy } from "../../cli/envoy.ts";
import { bundle } from "../../scripts/build.mjs";
import { ENVOY_NEWEST, venvEnvoy } from "../../scripts/find-envoy.mjs";
import { open, PROTOCOLS, ReplyCutError, send } from "./clients.ts";
import { ENVOY_VERSIONS, startGateway, until, withEnvoy } from "./harness.ts";
import { after, answer, echo, held, refusingAddress, reset, silent, stream } from "./upstream.ts";

const PLAIN = { policy: "round_robin" } as const;

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describe.each(ENVOY_VERSIONS)("the harness on Envoy %s", (version) => {
  it.each(PROTOCOLS)("passes a request and its body through over %s", async (protocol) => {
    await withEnvoy(version, PLAIN, async ({ url, replicas, servedBy }) => {
      const reply = await send(url, {
        protocol,
        path: "/v1/echo",
        headers: { "x-test": "7" },
        body: { a: 1 },
      });
      expect(reply.status).toBe(200);
      expect(JSON.parse(reply.text)).toMatchObject({
        path: "/v1/echo",
        text: '{"a":1}',
        headers: { "x-test": "7" },
      });
      expect(replicas.map(({ name }) => name)).toContain(servedBy(reply.headers));
    });
  });

  it.each(PROTOCOLS)("streams a request body piece by piece over %s", async (protocol) => {
    await withEnvoy(version, { ...PLAIN, replicas: 1 }, async ({ url, replicas }) => {
      const exchange = open(url, { protocol, path: "/up" });
      await exchange.write("one,");
      const seen = await until(
        "first piece at the replica",
        () => replicas[0]!.received[0]?.body.length === 4,
      );
      expect(seen).toBe(true);
      expect(replicas[0]!.received[0]!.complete).toBe(false);
      exchange.end("two");
      expect(JSON.parse((await exchange.reply).text)).toMatchObject({ text: "one,two" });
    });
  });

  it.each(PROTOCOLS)("shows an abort by the client at the replica over %s", async (protocol) => {
    await withEnvoy(version, { ...PLAIN, replicas: 1 }, async ({ url, replicas }) => {
      replicas[0]!.behave(silent);
      const exchange = open(url, { protocol, path: "/hang" });
      exchange.end("x");
      await until("request at the replica", () => replicas[0]!.received[0]?.complete);
      exchange.abort();
      await expect(exchange.reply).rejects.toBeInstanceOf(ReplyCutError);
      await until("abort at the replica", () => replicas[0]!.received[0]!.aborted);
    });
  });

  it("passes HTTP/2 request trailers that end a body", async () => {
    await withEnvoy(version, { ...PLAIN, replicas: 1 }, async ({ url, replicas }) => {
      const exchange = open(url, { protocol: "http2", path: "/t", trailers: true });
      exchange.end("body", { "x-end": "1" });
      expect(JSON.parse((await exchange.reply).text)).toMatchObject({ text: "body" });
      expect(replicas[0]!.received[0]!.complete).toBe(true);
    });
  });

  it("serves scripted streams, statuses, delays, holds and resets", async () => {
    await withEnvoy(version, { ...PLAIN, replicas: 1 }, async ({ url, replicas }) => {
      const [replica] = replicas;
      replica!.behave(stream(["data: 1\n\n", "data: 2\n\n"]));
      expect((await send(url, { body: "x" })).text).toBe("data: 1\n\ndata: 2\n\n");
      replica!.behave(after(1, answer(500, "broken")));
      expect(await send(url, { body: "x" })).toMatchObject({ status: 500, text: "broken" });
      const hold = held();
      replica!.behave(hold.behaviour);
      const waiting = send(url, { body: "x" });
      await until("held request", () => replica!.received.length === 3);
      hold.release();
      expect((await waiting).status).toBe(200);
      replica!.behave(reset("answer"));
      await expect(send(url, { body: "x" })).rejects.toMatchObject({ code: "ERR_REPLY_CUT", status: 200 });
    });
  });

  it("goes to the other host when one refuses connections, and back after a revival", async () => {
    const refusing = await refusingAddress();
    await withEnvoy(
      version,
      { ...PLAIN, replicas: 1, extraEndpoints: [refusing.address] },
      async (gateway) => {
        const [replica] = gateway.replicas;
        for (let i = 0; i < 4; i++) expect((await send(gateway.url, { body: "x" })).status).toBe(200);
        await replica!.kill();
        expect((await send(gateway.url, { body: "x" })).status).toBe(503);
        await replica!.revive();
        replica!.behave(echo);
        expect((await send(gateway.url, { body: "x" })).status).toBe(200);
      },
    );
    refusing.release();
  });

  it("leaves no process and no file behind", async () => {
    const gateway = await startGateway(version, PLAIN);
    const { port, pid } = gateway.envoy;
    await gateway.stop();
    await gateway.stop();
    expect(() => process.kill(pid, 0)).toThrow("ESRCH");
    expect(existsSync(gateway.envoy.controlSocket)).toBe(false);
    const refused = await new Promise((settle) => connect(port, "127.0.0.1").once("error", settle));
    expect(refused).toMatchObject({ code: "ECONNREFUSED" });
  });
});

describe("starting Envoy", () => {
  it("leaves no process and no folder behind when the starting process is killed", async () => {
    const envoyPath = (await venvEnvoy(ROOT, ENVOY_NEWEST))!;
    await bundle(await import("esbuild"), "test/envoy/start-envoy.ts", "build/test-start-envoy.mjs");
    const starter = spawn(process.execPath, [join(ROOT, "build/test-start-envoy.mjs"), envoyPath], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = (await once(starter.stdout.setEncoding("utf8"), "data")) as [string];
    const { pid, folder } = JSON.parse(line) as { pid: number; folder: string };
    expect(process.kill(pid, 0)).toBe(true);
    expect(existsSync(folder)).toBe(true);
    starter.kill("SIGKILL");
    await until("the end of Envoy", () => !isAlive(pid));
    await until("the end of its folder", () => !existsSync(folder));
  });

  it("says what Envoy said when the configuration is refused", async () => {
    const envoyPath = (await venvEnvoy(ROOT, ENVOY_NEWEST))!;
    const start = startEnvoy({
      envoyPath,
      endpoints: ["127.0.0.1:1"],
      policy: "round_robin",
      edit: (bootstrap) => (bootstrap["no_such_field"] = 1),
    });
    await expect(start).rejects.toBeInstanceOf(EnvoyExitedError);
    await expect(start).rejects.toThrow("no_such_field");
  });
});
