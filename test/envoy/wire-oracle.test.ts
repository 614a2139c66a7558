// What llm-d's picker answers at the wire, held against ours: parse errors, empty pools, subset hints, first picks.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Bootstrap } from "../../cli/envoy-config.ts";
import { ENDPOINT_HAS_LOAD, ENDPOINT_HAS_LORA, ENDPOINT_READY } from "../../assembly/wire/snapshot.ts";
import { send } from "./clients.ts";
import { ENVOY_VERSIONS, type Gateway, startGateway } from "./harness.ts";
import { encodeSnapshot, type TestEndpoint } from "./snapshot.ts";
import { CHAT_PATH, destinationsOf, inference, settings, showDestination } from "./support.ts";

interface OracleEndpoint {
  readonly name: string;
  readonly address: string;
  readonly waiting: number;
  readonly kvUsage: number;
  readonly activeModels: readonly string[] | null;
}
interface OracleMessage {
  readonly requestHeaders?: {
    readonly headers: Record<string, string>;
    readonly setHeaders?: Record<string, string>;
  };
  readonly requestBody?: { readonly body: string };
  readonly immediateResponse?: { readonly status: string; readonly body: string; readonly headers: Headers };
  readonly metadata?: { readonly filterMetadata: object };
}
type Headers = Readonly<Record<string, unknown>> | null;
interface OracleCase {
  readonly source: string;
  readonly topic: string;
  readonly name: string;
  readonly deviation?: string;
  readonly input: {
    readonly poolEndpoints?: readonly string[];
    readonly pool?: readonly string[];
    readonly endpoints?: readonly OracleEndpoint[];
    readonly metadata?: object | null;
    readonly messages?: readonly OracleMessage[];
    readonly headers?: Readonly<Record<string, string>>;
    readonly body?: string;
    readonly reqBodyMap?: { readonly messages?: unknown };
  };
  readonly expect: {
    readonly candidates?: readonly string[];
    readonly pick?: string;
    readonly httpStatus?: number;
    readonly name?: string;
    readonly value?: string;
    readonly messages?: readonly OracleMessage[];
    readonly error?:
      { readonly code: string; readonly error: string; readonly headers?: Record<string, string> } | boolean;
    readonly wantErrCode?: string;
  };
}

const { cases } = JSON.parse(
  readFileSync(new URL("../fixtures/oracles/wire.json", import.meta.url), "utf8"),
) as { cases: readonly OracleCase[] };
const topic = (name: string): readonly OracleCase[] => cases.filter((one) => one.topic === name);

/** llm-d's error codes (pkg/common/error) as HTTP statuses. */
const STATUS: Readonly<Record<string, number>> = {
  BadRequest: 400,
  ResourceExhausted: 429,
  TooManyRequests: 429,
  Internal: 500,
  InternalServerError: 500,
  ServiceUnavailable: 503,
};
const REASON = "x-llm-d-request-dropped-reason";
const SCORERS = [
  "queue-scorer",
  "kv-cache-utilization-scorer",
  "prefix-cache-scorer",
  "lora-affinity-scorer",
];

/** Gives each case a route of its own, chosen by a header, that sets the case's metadata before the picker runs. */
function metadataByRoute(bootstrap: Bootstrap): void {
  showDestination(bootstrap);
  const manager = inference(bootstrap);
  const { routes } = manager.route_config.virtual_hosts[0]!;
  const [plain] = routes;
  for (const [index, one] of cases.entries()) {
    const namespaces = Object.entries(metadataOf(one)).filter(([, value]) => typeof value === "object");
    if (namespaces.length === 0) continue;
    const name = `metadata-${index}`;
    const metadata = namespaces.map(([metadata_namespace, value]) => ({ metadata_namespace, value }));
    const type = "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config";
    manager.http_filters.unshift({
      name,
      disabled: true,
      typed_config: { "@type": type, metadata },
    } as never);
    const headers = [{ name: "x-case", string_match: { exact: String(index) } }];
    const enabled = { "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", config: {} };
    routes.unshift({
      ...plain!,
      match: { prefix: "/", headers },
      typed_per_filter_config: { [name]: enabled },
    } as never);
  }
}

function metadataOf({ input }: OracleCase): object {
  return (
    input.metadata ?? input.messages?.find((message) => message.metadata)?.metadata?.filterMetadata ?? {}
  );
}

function endpointsOf({ input }: OracleCase, generation: number): TestEndpoint[] {
  const plain = (input.poolEndpoints ?? input.pool ?? ["10.0.0.1:8080"]).map((address) => ({ address }));
  const loaded = input.endpoints?.map(({ name, address, waiting, kvUsage, activeModels }) => ({
    name,
    address,
    waiting,
    kvUsage,
    lorasActive: activeModels ?? [],
    loraMax: 4,
    flags: ENDPOINT_READY | ENDPOINT_HAS_LOAD | ENDPOINT_HAS_LORA,
  }));
  return (loaded ?? plain).map((endpoint) => ({ models: [], generation, ...endpoint }));
}

describe.each(ENVOY_VERSIONS)("llm-d's answers at the wire on Envoy %s", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  let generation = 0;
  beforeAll(async () => {
    const pluginConfig = settings(
      {},
      SCORERS.map((type) => ({ type })),
    );
    gateway = await startGateway(version, {
      replicas: 1,
      snapshot: false,
      edit: metadataByRoute,
      pluginConfig,
    });
  });
  afterAll(() => gateway?.stop());

  /** Makes the case's fleet the pool and sends its request; Envoy's fallback answers for endpoints that are not real. */
  async function play(one: OracleCase, body: string | undefined, path: string) {
    const pushed = await gateway.pushBytes(encodeSnapshot(endpointsOf(one, ++generation)));
    expect(pushed.status).toBe(204);
    const headers = { "x-case": String(cases.indexOf(one)) };
    return send(gateway.url, { path, headers, ...(body === undefined ? {} : { body, method: "POST" }) });
  }

  const completion = JSON.stringify({ model: "any", prompt: "p" });
  const message = (text: string): string =>
    (JSON.parse(text) as { error: { message: string } }).error.message;

  it.each([...topic("subset hint"), ...topic("protocol (GIE)")])("$name", async (one) => {
    const reply = await play(one, completion, "/v1/completions");
    const { candidates = one.expect.pick === undefined ? [] : [one.expect.pick] } = one.expect;
    expect(reply.status).toBe(candidates.length === 0 ? 503 : 200);
    if (candidates.length === 0) return expect(reply.headers[REASON]).toBe("rejected-no-endpoints");
    const hasPorts = candidates[0]!.includes(":");
    const listed = destinationsOf(reply).map((address) =>
      hasPorts ? address : address.replace(/:\d+$/, ""),
    );
    expect(listed.toSorted()).toEqual(candidates.toSorted());
  });

  it.each(topic("ext_proc exchange"))("$name", async (one) => {
    const bodies = one.input.messages!.filter(({ requestBody }) => requestBody !== undefined);
    const body = bodies.map(({ requestBody }) => requestBody!.body).join("");
    const reply = await play(one, bodies.length === 0 ? undefined : body, "/v1/completions");
    const [expected] = one.expect.messages!;
    if (one.deviation !== undefined) {
      expect(reply.status).toBe(503);
      expect(reply.headers[REASON]).toBe("rejected-no-endpoints");
    } else if (expected!.immediateResponse === undefined) {
      expect(destinationsOf(reply)[0]).toBe(Object.values(expected!.requestHeaders!.setHeaders!)[0]);
    } else {
      const { status, body: said } = expected!.immediateResponse;
      expect(reply.status).toBe(STATUS[status]);
      expect(message(reply.text)).toContain(said.replace(/^inference error: \w+ - /, ""));
      expect(reply.headers[REASON]).toBe(
        status === "ServiceUnavailable" ? "rejected-no-endpoints" : undefined,
      );
    }
  });

  it.each(topic("director").filter((one) => !one.name.includes("capacity rejection")))(
    "$name",
    async (one) => {
      const { body, reqBodyMap } = one.input;
      const path = reqBodyMap?.messages === undefined ? "/v1/completions" : CHAT_PATH;
      const isEmpty = one.name.includes("no endpoint candidates");
      const input = { ...one.input, ...(isEmpty ? { pool: [] } : {}) };
      const reply = await play({ ...one, input }, body ?? JSON.stringify(reqBodyMap), path);
      const { error, wantErrCode } = one.expect;
      const expected = typeof error === "object" ? error : { code: wantErrCode!, error: "" };
      expect(reply.status).toBe(STATUS[expected.code]);
      expect(message(reply.text)).toContain(expected.error.replace(/^inference error: \w+ - /, ""));
      expect(reply.headers[REASON]).toBe(isEmpty ? "rejected-no-endpoints" : undefined);
    },
  );
});

describe.each(ENVOY_VERSIONS)("llm-d's capacity rejection on Envoy %s", (version) => {
  const saturated = [...topic("director"), ...topic("drop reasons")].filter((one) =>
    JSON.stringify(one).includes("rejected-saturated"),
  );

  it("is what a request gets that the configured filters leave nobody for", async () => {
    expect(saturated).toHaveLength(2);
    const filter = { type: "label-selector-filter", parameters: { matchLabels: { tier: "gold" } } };
    const gateway = await startGateway(version, { pluginConfig: settings({}, [filter]) });
    try {
      const reply = await send(gateway.url, { path: "/v1/completions", body: { model: "any", prompt: "p" } });
      expect(reply.status).toBe(429);
      expect(reply.headers[REASON]).toBe("rejected-saturated");
      expect(JSON.parse(reply.text)).toMatchObject({ error: { type: "RateLimitError", code: 429 } });
      expect(await gateway.metric("epp_errors_total", { reason: "saturated" })).toBe(1);
      await gateway.push([{ labels: { tier: "gold" } }, {}]);
      const { status, headers } = await send(gateway.url, {
        path: "/v1/completions",
        body: { model: "any", prompt: "p" },
      });
      expect(status).toBe(200);
      expect(gateway.servedBy(headers)).toBe("replica-0");
    } finally {
      await gateway.stop();
    }
  });
});

describe("llm-d's names", () => {
  it("are ours", () => {
    const source = readFileSync(new URL("../../assembly/filter/names.ts", import.meta.url), "utf8");
    for (const { expect: expected } of topic("names")) expect(source).toContain(expected.name);
    for (const { expect: expected } of topic("drop reasons")) {
      const replies = readFileSync(new URL("../../assembly/filter/reply.ts", import.meta.url), "utf8");
      expect(replies).toContain(`"${expected.value}"`);
    }
  });
});
