// What llm-d's picker does with model rewrites, held against ours: rules, shares, headers, bodies and answers.
import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ENDPOINT_HAS_LOAD, ENDPOINT_HAS_LORA, ENDPOINT_READY } from "../../assembly/wire/snapshot.ts";
import { makePolicy, readRewrite } from "../../sidecar/discovery/kubernetes/policy-objects.ts";
import { send } from "./clients.ts";
import { ENVOY_VERSIONS, type Gateway, POOL, startGateway, withEnvoy } from "./harness.ts";
import { pushPolicy, pushWhole } from "./policy.ts";
import { encodeSnapshot } from "./snapshot.ts";
import { destinationsOf, echoOf, settings, showDestination } from "./support.ts";
import { answer, echo } from "./upstream.ts";

interface RewriteObject {
  readonly objectMeta: { readonly name: string; readonly creationTimestamp: { readonly time: string } };
  readonly spec: object;
}
interface OracleEndpoint {
  readonly name: string;
  readonly address: string;
  readonly waiting: number;
  readonly kvUsage: number;
  readonly activeModels: readonly string[];
}
interface OracleCase {
  readonly topic: string;
  readonly name: string;
  readonly input: {
    readonly body?: string;
    readonly incomingModel?: string;
    readonly targetModel?: string;
    readonly initialTarget?: string;
    readonly rewrites?: readonly RewriteObject[];
    readonly headers?: Readonly<Record<string, string>>;
    readonly endpoints?: readonly OracleEndpoint[];
    readonly needsCrds?: boolean;
  };
  readonly expect: {
    readonly body?: string;
    readonly pick?: string;
    readonly value?: string;
    readonly expectedTarget?: readonly string[];
    readonly incomingModel?: string | null;
    readonly targetModel?: string;
    readonly forwardedBody?: string;
  };
}
const { cases, fixture } = JSON.parse(
  readFileSync(new URL("../fixtures/oracles/rewrite.json", import.meta.url), "utf8"),
) as {
  cases: readonly OracleCase[];
  fixture: { modelRewrite: readonly { match: string; targets: readonly { modelRewrite: string }[] }[] };
};
const topic = (name: string): readonly OracleCase[] => cases.filter((one) => one.topic === name);

const HEADER = "x-llm-d-model-name-rewrite";
const SCORERS = [
  "queue-scorer",
  "kv-cache-utilization-scorer",
  "prefix-cache-scorer",
  "lora-affinity-scorer",
];

/** Pushes the rules of these objects, by the way that Kubernetes' objects take. */
function pushObjects(gateway: Gateway, rewrites: readonly RewriteObject[]): Promise<{ status: number }> {
  const views = rewrites.map(({ objectMeta, spec }) =>
    readRewrite({
      metadata: { name: objectMeta.name, creationTimestamp: objectMeta.creationTimestamp.time },
      spec: { ...spec, poolRef: { name: POOL } },
    }),
  );
  expect(views).not.toContain(null);
  const { policy } = makePolicy(
    POOL,
    POOL,
    "http",
    [],
    views.map((view) => view!),
  );
  return pushWhole(gateway, policy);
}

describe.each(ENVOY_VERSIONS)("llm-d's model rewrites on Envoy %s", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  beforeAll(async () => {
    gateway = await startGateway(version, {
      replicas: 1,
      snapshot: { models: [] },
      edit: showDestination,
      pluginConfig: settings(
        { trustModelRewriteHeader: true },
        SCORERS.map((type) => ({ type })),
      ),
    });
  });
  afterAll(() => gateway?.stop());

  /** The body that a completion request arrives with at the replica. */
  async function forwarded(body: string, headers: Readonly<Record<string, string>> = {}) {
    gateway.replicas[0]!.behave(echo);
    const reply = await send(gateway.url, { path: "/v1/completions", method: "POST", headers, body });
    expect(reply.status).toBe(200);
    return { body: echoOf(reply).text!, destinations: destinationsOf(reply) };
  }
  const modelIn = (body: string): unknown => (JSON.parse(body) as { model?: unknown }).model;

  it.each(topic("director"))("$name", async ({ input, expect: { expectedTarget } }) => {
    expect((await pushObjects(gateway, input.rewrites!)).status).toBe(204);
    const { incomingModel: model, initialTarget } = input;
    // The target that llm-d has before it looks at the rules comes from the header.
    const headers: Record<string, string> = initialTarget === model ? {} : { [HEADER]: initialTarget! };
    const seen = new Set<unknown>();
    for (let i = 0; i < (expectedTarget!.length > 1 ? 40 : 1); i++) {
      seen.add(modelIn((await forwarded(JSON.stringify({ model, prompt: `p ${i}` }), headers)).body));
    }
    expect([...seen].toSorted()).toEqual(expectedTarget!.toSorted());
  });

  it.each(topic("director request"))("$name", async ({ input, expect: expected }) => {
    const { incomingModel, targetModel, forwardedBody } = expected;
    const isRewritten = incomingModel !== targetModel;
    await pushPolicy(gateway, isRewritten ? { [incomingModel ?? "*"]: expected.targetModel! } : {});
    const { body } = await forwarded(input.body!);
    expect(body).toBe(forwardedBody === "unchanged" ? input.body : forwardedBody);
  });

  it.each(topic("ext_proc exchange"))("$name", async ({ input, expect: expected }) => {
    const [rule] = fixture.modelRewrite;
    await pushPolicy(gateway, input.needsCrds ? { [rule!.match]: rule!.targets[0]!.modelRewrite } : {});
    const generation = 100 + cases.findIndex((one) => one.input === input);
    const endpoints = input.endpoints!.map(({ name, address, waiting, kvUsage, activeModels }) => ({
      ...{ name, address, waiting, kvUsage, generation, models: [], lorasActive: activeModels, loraMax: 4 },
      flags: ENDPOINT_READY | ENDPOINT_HAS_LOAD | ENDPOINT_HAS_LORA,
    }));
    expect((await gateway.pushBytes(encodeSnapshot(endpoints))).status).toBe(204);
    const { body, destinations } = await forwarded(input.body!, input.headers);
    expect(body).toBe(expected.body);
    expect(destinations[0]).toBe(expected.pick);
    await gateway.push({ models: [] });
  });

  it.each(topic("control headers").filter(({ name }) => name.includes("model-name-rewrite")))(
    "$name",
    async ({ input, expect: { value } }) => {
      await pushPolicy(gateway, {});
      expect(modelIn((await forwarded('{"model":"m","prompt":"p"}', input.headers)).body)).toBe(value);
    },
  );

  it.each(topic("response handling"))("$name", async ({ input, expect: expected }) => {
    const { body, incomingModel, targetModel } = input;
    const type = body!.startsWith("data:") ? "text/event-stream" : "application/json";
    const isSame = incomingModel === targetModel || targetModel === "";
    await pushPolicy(gateway, isSame ? {} : { [incomingModel === "" ? "*" : incomingModel!]: targetModel! });
    gateway.replicas[0]!.behave(answer(200, body, { "content-type": type }));
    const asked = { ...(incomingModel === "" ? {} : { model: incomingModel }), prompt: "p" };
    const reply = await send(gateway.url, { path: "/v1/completions", body: asked });
    expect(reply.text).toBe(expected.body);
  });

  it("has every case", () => {
    const topics = ["director", "director request", "ext_proc exchange", "response handling"];
    expect(topics.map((name) => topic(name).length)).toEqual([6, 4, 5, 8]);
  });
});

describe.each(ENVOY_VERSIONS)("llm-d's objective headers on Envoy %s", (version) => {
  it("give the request the priority of the one that counts", async () => {
    const objectives = topic("control headers").filter(({ name }) => name.includes("objective"));
    expect(objectives).toHaveLength(2);
    const folder = await mkdtemp(join(tmpdir(), "epp-objectives-"));
    const accessLogPath = join(folder, "access.log");
    try {
      const pluginConfig = settings({ exposeDecision: true });
      await withEnvoy(
        version,
        { replicas: 1, snapshot: { models: [] }, accessLogPath, pluginConfig },
        async (gateway) => {
          await pushPolicy(gateway, { m: "target" }, { new: 7, old: -3, zero: 0 });
          const requests = [
            ...objectives.map(({ input }) => input.headers!),
            { "x-llm-d-inference-objective": "unknown" },
          ];
          for (const headers of requests) {
            await send(gateway.url, { path: "/v1/completions", headers, body: { model: "m", prompt: "p" } });
          }
        },
      );
      const priorities: Record<string, number> = { new: 7, old: -3 };
      // Envoy writes the rest of its log when it ends.
      const lines = (await readFile(accessLogPath, "utf8")).trim().split("\n");
      const told = lines.map(
        (line) => (JSON.parse(line) as { decision: string }).decision.split("matched_tokens=0")[1],
      );
      expect(told).toEqual([
        ...objectives.map(({ expect: { value } }) => ` priority=${priorities[value!]} model=target`),
        " model=target",
      ]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
