// Mode "inline" when something fails: the client sees a correct answer or one clear error, and nothing stays held.
import { describe, expect, it, onTestFinished } from "vitest";
import type { Bootstrap } from "../../cli/envoy-config.ts";
import { open, PROTOCOLS, type Reply, ReplyCutError } from "./clients.ts";
import { DECODE, disaggregation, PREFILL } from "./disagg.ts";
import { ENVOY_VERSIONS, type Gateway, startGateway, until } from "./harness.ts";
import { endpointStatus, settled, type Status } from "./status.ts";
import { ask, inference, LONG_ASIDE, text, trustClients } from "./support.ts";
import { after, answer, type Behaviour, echo, held, reset, silent, type Upstream } from "./upstream.ts";

type Running = Gateway & { stop(): Promise<void> };
const PARAMS = '{"do_remote_prefill":true,"remote_engine_id":"e"}';
const DONE = answer(200, `{"id":"x","kv_transfer_params":${PARAMS}}`, { "content-type": "application/json" });

interface Fleet {
  readonly gateway: Running;
  readonly decoders: readonly Upstream[];
  readonly prefillers: readonly Upstream[];
}

/** Two decoders that echo and two prefillers that answer well. */
async function start(
  version: string,
  parameters: object = {},
  ownRetries = true,
  edit: (bootstrap: Bootstrap) => void = () => undefined,
): Promise<Fleet> {
  const gateway = await startGateway(version, {
    replicas: 4,
    snapshot: false,
    pluginConfig: disaggregation({ parameters: { mode: "inline", ...parameters }, gateway: LONG_ASIDE }),
    edit: (bootstrap) => {
      edit(bootstrap);
      if (ownRetries) return;
      const route = inference(bootstrap).route_config.virtual_hosts[0]!.routes[0]!.route;
      delete (route as { retry_policy?: { retry_on?: string } }).retry_policy?.retry_on;
    },
  });
  onTestFinished(() => gateway.stop());
  await gateway.push([DECODE, DECODE, PREFILL, PREFILL]);
  const [decoders, prefillers] = [gateway.replicas.slice(0, 2), gateway.replicas.slice(2)];
  for (const prefiller of prefillers) prefiller.behave(DONE);
  return { gateway, decoders, prefillers };
}

const received = (upstreams: readonly Upstream[]): string[] =>
  upstreams.flatMap((upstream) => upstream.received.map(({ body }) => body.toString()));
const isSpliced = (body: string): boolean => body.startsWith(`{"kv_transfer_params":${PARAMS},`);
const counterOf = async (gateway: Gateway, name: string): Promise<number> =>
  (await settled(gateway)).counters[name]!;

/** Prompts until the failing prefiller must have been asked: all to the other one would be a chance of 2^−64. */
const ASKED_MAX = 64;
/** One prefiller does this, the other answers well: whichever is asked first, tries both ways over some requests. */
const FAILURES: [string, Behaviour, string][] = [
  ["answers 500", answer(500, '{"error":{"message":"boom"}}'), "status"],
  ["resets the connection", reset("body"), "connect"],
  ["answers what is no JSON", answer(200, "not json"), "malformed"],
  ["answers without parameters", answer(200, '{"id":"x"}'), "malformed"],
  ["answers with a list of them", answer(200, '{"kv_transfer_params":[1]}'), "malformed"],
  ["answers parameters that are no JSON", answer(200, '{"kv_transfer_params":{"a":]}}'), "malformed"],
  ["answers cut JSON", answer(200, `{"kv_transfer_params":${PARAMS}`), "malformed"],
  [
    "answers more than is read",
    answer(200, `{"x":"${"y".repeat(600_000)}","kv_transfer_params":{}}`),
    "too_large",
  ],
];

describe.each(ENVOY_VERSIONS)("a prefill that fails, on Envoy %s", (version) => {
  it.each(FAILURES)(
    "that %s is tried once more elsewhere, and the client sees nothing",
    async (_, behaviour, kind) => {
      const { gateway, decoders, prefillers } = await start(version);
      prefillers[0]!.behave(behaviour);
      // Which prefiller is asked first depends on their ports and the prompt: go on until it was the failing one.
      let asked = 0;
      while (asked < 6 || (prefillers[0]!.received.length === 0 && asked < ASKED_MAX)) {
        const reply = await ask(gateway, text(`${kind}${asked++}`));
        expect(reply.status).toBe(200);
      }
      expect(prefillers[0]!.received.length).toBeGreaterThan(0);
      expect(received(decoders).every(isSpliced)).toBe(true);
      expect(prefillers[1]!.received.length).toBe(asked);
      expect(await counterOf(gateway, "prefillFailures")).toBe(prefillers[0]!.received.length);
      await until(
        "its kind is counted",
        async () =>
          (await gateway.metric("epp_prefill_failures_total", { kind })) === prefillers[0]!.received.length,
      );
    },
  );

  it.each(FAILURES)("everywhere, that %s, leaves the prompt to the decode endpoint", async (_, behaviour) => {
    const { gateway, decoders, prefillers } = await start(version);
    for (const prefiller of prefillers) prefiller.behave(behaviour);
    for (const protocol of PROTOCOLS) {
      const reply = await ask(gateway, text(protocol), { protocol });
      expect(reply.status).toBe(200);
    }
    expect(received(decoders).some((body) => body.includes("kv_transfer_params"))).toBe(false);
    expect(await counterOf(gateway, "prefillFallbacks")).toBeGreaterThan(0);
  });

  it("with a long answer is tried once more elsewhere, however long the prompt is", async () => {
    const { gateway, decoders, prefillers } = await start(version);
    prefillers[0]!.behave(answer(500, "x".repeat(500_000)));
    while (prefillers[0]!.received.length === 0) {
      prefillers[1]!.forget();
      const reply = await ask(gateway, text(Math.random(), 900_000));
      expect(reply.status).toBe(200);
      expect(prefillers[1]!.received.length).toBe(1);
    }
    expect(received(decoders).every(isSpliced)).toBe(true);
    await settled(gateway);
  });

  it("for want of a connection goes elsewhere, and that endpoint is set aside", async () => {
    const { gateway, decoders, prefillers } = await start(version);
    let prompts = 0;
    await prefillers[0]!.kill();
    await until("it was tried", async () => {
      expect((await ask(gateway, text(`prompt ${prompts++}`))).status).toBe(200);
      return (await gateway.status<Status>()).counters["prefillFailures"]! > 0;
    });
    expect(received(decoders).every(isSpliced)).toBe(true);
    expect((await endpointStatus(gateway, prefillers[0]!.name)).setAside).toBe(true);
    await prefillers[1]!.kill();
    await until("none is left", async () => {
      expect((await ask(gateway, text(`prompt ${prompts++}`))).status).toBe(200);
      return received(decoders).some((body) => !isSpliced(body));
    });
    await settled(gateway);
  });

  it("for its timeout is given up, and a TTFT wish shortens that", async () => {
    const { gateway, decoders, prefillers } = await start(version, { prefillTimeoutMs: 100 });
    for (const prefiller of prefillers) prefiller.behave(silent);
    expect((await ask(gateway, text(1))).status).toBe(200);
    expect(received(decoders).some(isSpliced)).toBe(false);
    expect(await counterOf(gateway, "prefillFailures")).toBe(2);
    const patient = await start(version);
    for (const prefiller of patient.prefillers) prefiller.behave(silent);
    const headers = { "x-llm-d-slo-ttft-ms": "10" };
    expect((await ask(patient.gateway, text(1), { headers })).status).toBe(200);
    await settled(patient.gateway);
    expect(await patient.gateway.metric("epp_prefill_failures_total", { kind: "timeout" })).toBe(2);
  });

  it("as the request itself is refused goes to the decode endpoint, whose own answer the client reads", async () => {
    const { gateway, decoders, prefillers } = await start(version);
    for (const prefiller of prefillers) prefiller.behave(answer(400, '{"error":"prefill"}'));
    for (const decoder of decoders) decoder.behave(answer(400, '{"error":"decode"}'));
    const reply = await ask(gateway, text(1));
    expect([reply.status, reply.text]).toEqual([400, '{"error":"decode"}']);
    expect(prefillers[0]!.received.length + prefillers[1]!.received.length).toBe(1);
    await settled(gateway);
  });

  it("through a cluster that Envoy does not know leaves the prompt to the decode endpoint", async () => {
    const { gateway, decoders } = await start(version, { prefillCluster: "nowhere" });
    expect((await ask(gateway, text(1))).status).toBe(200);
    expect(received(decoders).some(isSpliced)).toBe(false);
    expect(await counterOf(gateway, "prefillFallbacks")).toBe(1);
  });

  it.each(PROTOCOLS)(
    "is not asked for the prompt's tokens, which may be more than is read, over %s",
    async (protocol) => {
      const { gateway, decoders, prefillers } = await start(version);
      const tokens = `"prompt_token_ids":[${"12345,".repeat(100_000)}0]`;
      for (const prefiller of prefillers) {
        prefiller.behave(async (context) => {
          await context.bodyRead;
          const isAsked = context.received.body.includes('"return_token_ids":true');
          await (isAsked ? answer(200, `{${tokens},"kv_transfer_params":${PARAMS}}`) : DONE)(context);
        });
      }
      const fields = { return_token_ids: true };
      expect((await ask(gateway, text(1), { protocol, fields })).status).toBe(200);
      expect(received(decoders).map(isSpliced)).toEqual([true]);
      expect(received(decoders)[0]).toContain('"return_token_ids":true');
      expect(await counterOf(gateway, "prefillFailures")).toBe(0);
    },
  );

  it("with nothing to hand over is no failure: the prompt is decoded as it is", async () => {
    const { gateway, decoders, prefillers } = await start(version);
    for (const prefiller of prefillers) prefiller.behave(answer(200, '{"kv_transfer_params":null}'));
    expect((await ask(gateway, text(1))).status).toBe(200);
    expect(received(decoders)[0]).not.toContain("kv_transfer_params");
    const { counters } = await settled(gateway);
    expect([counters["prefillFailures"], counters["prefillFallbacks"]]).toEqual([0, 0]);
    expect(counters["prefillsWithoutParameters"]).toBe(1);
    await until("it is counted", async () => (await gateway.metric("epp_prefill_nothing_total")) === 1);
  });
});

describe.each(ENVOY_VERSIONS)("a client that goes away during its prefill, on Envoy %s", (version) => {
  it.each(PROTOCOLS)(
    "over %s: the decode endpoint is free at once, the prefill one when it answers",
    async (protocol) => {
      const { gateway, decoders, prefillers } = await start(version);
      const { behaviour, release } = held(DONE);
      for (const prefiller of prefillers) prefiller.behave(behaviour);
      const exchange = open(gateway.url, { protocol, path: "/v1/chat/completions", method: "POST" });
      exchange.reply.catch(() => undefined);
      exchange.end(JSON.stringify({ model: "m", messages: [{ role: "user", content: text("gone", 9000) }] }));
      const inflight = async (upstreams: readonly Upstream[]): Promise<number> => {
        const all = await Promise.all(upstreams.map(({ name }) => endpointStatus(gateway, name)));
        return all.reduce((sum, { inflightRequests }) => sum + inflightRequests, 0);
      };
      await until(
        "both legs are reserved",
        async () => (await inflight(decoders)) === 1 && (await inflight(prefillers)) === 1,
      );
      exchange.abort();
      await until("the decode endpoint is free", async () => (await inflight(decoders)) === 0);
      expect(await inflight(prefillers)).toBe(1);
      // New streams come and go while the late reply is on its way.
      for (const prefiller of prefillers) prefiller.behave(DONE);
      for (let i = 0; i < 20; i++) expect((await ask(gateway, text(i))).status).toBe(200);
      release();
      const { counters } = await settled(gateway);
      expect([counters["prefillOrphans"], counters["prefillCalls"]]).toEqual([1, 0]);
      expect(received(decoders).length).toBe(20);
    },
  );
});

describe.each(ENVOY_VERSIONS)("a decode endpoint that fails, on Envoy %s", (version) => {
  const expectOneError = (reply: Reply): void => {
    expect(reply.status).toBe(503);
    expect(reply.headers["content-type"]).toBe("application/json");
    const { error } = JSON.parse(reply.text);
    expect(error).toMatchObject({ type: "ServiceUnavailableError", code: 503, param: null });
    expect(error.message).toContain("the endpoint that answers this request failed");
  };

  it.each([
    ["after it read the body", reset("body")],
    ["while it reads the body", reset("headers")],
  ])("%s: one clear error, and the body went out once", async (_, behaviour) => {
    for (const ownRetries of [true, false]) {
      for (const decodeRetry of ["none", "connect-failure"]) {
        // With retries of the route's own only "none" is safe, and the default.
        if (ownRetries && decodeRetry !== "none") continue;
        const { gateway, decoders } = await start(version, { decodeRetry }, ownRetries);
        for (const decoder of decoders) decoder.behave(behaviour);
        for (const protocol of PROTOCOLS) expectOneError(await ask(gateway, text(protocol), { protocol }));
        expect(decoders[0]!.received.length + decoders[1]!.received.length).toBe(2);
        await settled(gateway);
      }
    }
  });

  it("with an answer of its own is answered by it, once", async () => {
    const { gateway, decoders } = await start(version);
    for (const decoder of decoders) decoder.behave(answer(500, '{"error":"mine"}'));
    const reply = await ask(gateway, text(1));
    expect([reply.status, reply.text]).toEqual([500, '{"error":"mine"}']);
    expect(received(decoders).length).toBe(1);
    await settled(gateway);
  });

  it("refusing the connection is followed by the next, with the parameters unused, where routes do not retry by themselves", async () => {
    const { gateway, decoders } = await start(version, { decodeRetry: "connect-failure" }, false);
    await decoders[0]!.kill();
    for (let i = 0; i < 6; i++) expect((await ask(gateway, text(i))).status).toBe(200);
    expect(received([decoders[1]!]).every(isSpliced)).toBe(true);
    await settled(gateway);
  });

  it("refusing the connection is one clear error where routes retry by themselves, and is set aside", async () => {
    const { gateway, decoders } = await start(version);
    await decoders[0]!.kill();
    const replies = [];
    for (let i = 0; i < 6; i++) replies.push(await ask(gateway, text(i)));
    const failed = replies.filter(({ status }) => status !== 200);
    expect(failed.length).toBeLessThanOrEqual(1);
    for (const reply of failed) expectOneError(reply);
    await settled(gateway);
  });

  it.each(PROTOCOLS)(
    "that is slow gets the body once, whoever asks for hedging, over %s",
    async (protocol) => {
      const { gateway, decoders } = await start(
        version,
        { decodeRetry: "connect-failure" },
        false,
        trustClients,
      );
      for (const decoder of decoders) decoder.behave(after(600, echo));
      const headers = {
        "x-envoy-hedge-on-per-try-timeout": "true",
        "x-envoy-upstream-rq-per-try-timeout-ms": "100",
      };
      await ask(gateway, text(1), { protocol, headers });
      expect(received(decoders).filter(isSpliced).length).toBe(1);
      await settled(gateway);
    },
  );

  it("in the middle of its answer ends that", async () => {
    const { gateway, decoders } = await start(version);
    for (const decoder of decoders) decoder.behave(reset("answer"));
    await expect(ask(gateway, text(1), { fields: { stream: true } })).rejects.toThrow(ReplyCutError);
    await settled(gateway);
  });
});

describe.each(ENVOY_VERSIONS)("a hundred prompts at once, on Envoy %s", (version) => {
  it("are all answered while prefillers fail now and then, and nothing stays held", async () => {
    const { gateway, decoders, prefillers } = await start(version);
    let turn = 0;
    for (const prefiller of prefillers) {
      prefiller.behave((context) =>
        [DONE, answer(503, "{}"), after(20, DONE), reset("body")][turn++ % 4]!(context),
      );
    }
    for (const decoder of decoders) decoder.behave(echo);
    const replies = await Promise.all(
      Array.from({ length: 100 }, (_, i) => ask(gateway, text(i), { protocol: PROTOCOLS[i % 2]! })),
    );
    expect(replies.map(({ status }) => status)).toEqual(replies.map(() => 200));
    const { counters } = await settled(gateway);
    expect(counters["prefillCalls"]).toBe(0);
  });
});
