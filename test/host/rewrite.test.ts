// Model rewrites on the simulated host, before simulated model servers, which refuse models that they do not serve.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "undici";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { WASM_PATH } from "../../cli/envoy.ts";
import { startDataPlane } from "../../host-sim/data-plane/index.ts";
import { UNKNOWN_MODEL } from "../../host-sim/model-server/api.ts";
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import { buildWasm } from "../../scripts/build.mjs";
import { encodePolicy } from "../../sidecar/policy-encoder.ts";
import { POOL } from "../envoy/harness.ts";
import { policyOf, type Rules } from "../envoy/policy.ts";
import { encodeSnapshot } from "../envoy/snapshot.ts";
import { eventsOf, startReplica } from "../sim/support/replica.ts";

beforeAll(async () => void (await buildWasm()), 120_000);

interface Setting {
  readonly url: string;
  readonly replica: SimulatedReplica;
  post(body: object, headers?: Record<string, string>): Promise<{ status: number; text: string }>;
  push(path: string, bytes: Buffer): Promise<{ status: number; policyId: string | undefined }>;
}

/** A replica that serves "base" and two adapters behind the filter on the simulated host, with these rules. */
async function start(rules: Rules): Promise<Setting> {
  const folder = await mkdtemp(join(tmpdir(), "epp-rewrite-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const replica = await startReplica({ modelName: "base", loraModules: ["stable", "canary"] });
  const plane = await startDataPlane({
    module: WASM_PATH,
    endpoints: [replica.address],
    control: join(folder, "control.sock"),
    poolName: POOL,
  });
  onTestFinished(() => plane.stop());
  const client = new Client("http://control", { socketPath: plane.controlSocket });
  onTestFinished(() => client.destroy());
  const push: Setting["push"] = async (path, body) => {
    const reply = await client.request({ method: "POST", path: `/v1/pools/${POOL}/${path}`, body });
    await reply.body.dump();
    return { status: reply.statusCode, policyId: reply.headers["x-epp-policy-id"] as string | undefined };
  };
  expect(await push("snapshot", encodeSnapshot([{ address: replica.address, models: [] }]))).toEqual({
    status: 204,
    policyId: "0",
  });
  const { id, bytes } = encodePolicy(policyOf(rules));
  expect(await push("policy", bytes)).toEqual({ status: 204, policyId: String(id) });
  const post: Setting["post"] = async (body, headers = {}) => {
    const response = await fetch(`${plane.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    });
    return { status: response.status, text: await response.text() };
  };
  return { url: plane.url, replica, post, push };
}

const messages = [{ role: "user", content: "Say something." }];
const modelOf = (text: string): unknown => (JSON.parse(text) as { model: unknown }).model;

describe("the filter on the simulated host", () => {
  it("asks for what the policy names, and answers with what the client named", async () => {
    const { replica, post } = await start({ "my-model": "stable" });
    const whole = await post({ model: "my-model", messages, max_tokens: 3 });
    expect([whole.status, modelOf(whole.text)]).toEqual([200, "my-model"]);
    const streamed = await post({ messages, max_tokens: 3, stream: true, model: "my-model" });
    const events = eventsOf(streamed.text).filter((event) => event !== "[DONE]");
    expect(events.length).toBeGreaterThan(2);
    expect(new Set(events.map(modelOf))).toEqual(new Set(["my-model"]));
    expect(Object.fromEntries(replica.callsByModel)).toEqual({ stable: 2 });
  });

  it("leaves a model without a rule to the server, which refuses it by its name", async () => {
    const { replica, post } = await start({ "my-model": "stable" });
    const { status, text } = await post({ model: "stranger", messages });
    expect([status, text]).toEqual([404, expect.stringContaining("stranger")]);
    expect((await post({ model: "base", messages, max_tokens: 1 })).status).toBe(200);
    expect(Object.fromEntries(replica.callsByModel)).toEqual({ base: 1, [UNKNOWN_MODEL]: 1 });
  });

  it("splits sessions by weight, and keeps each where it is", async () => {
    const { replica, post } = await start({ "my-model": { stable: 80, canary: 20 } });
    const turns = 3;
    for (let session = 0; session < 60; session++) {
      for (let turn = 0; turn < turns; turn++) {
        const body = {
          model: "my-model",
          messages: [{ role: "user", content: `${session} ${turn}` }],
          max_tokens: 1,
        };
        expect((await post(body, { "x-session-id": `session-${session}` })).status).toBe(200);
      }
    }
    const stable = replica.callsByModel.get("stable")!;
    const canary = replica.callsByModel.get("canary")!;
    expect([stable % turns, canary % turns, stable + canary]).toEqual([0, 0, 60 * turns]);
    // Sessions are the same in every run: the share is a fixed number near 20 %.
    expect(canary / (60 * turns)).toBeGreaterThan(0.08);
    expect(canary / (60 * turns)).toBeLessThan(0.35);
  });

  it("refuses a bad policy with the field's name and keeps the last one", async () => {
    const { post, push } = await start({ "my-model": "stable" });
    const bytes = Buffer.from(encodePolicy(policyOf({ "my-model": "canary" })).bytes);
    bytes[bytes.length - 1]! ^= 1;
    expect((await push("policy", bytes)).status).toBe(400);
    expect(modelOf((await post({ model: "my-model", messages, max_tokens: 1 })).text)).toBe("my-model");
  });
});
