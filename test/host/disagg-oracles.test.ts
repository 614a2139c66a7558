// llm-d's answers about headers and conditional decode (fixtures/oracles/disagg.json), by the filter on the simulated host.
//
// Deciders and profiles: test/unit/stages-oracles.test.ts. Left out: stand-ins without a request or a decode endpoint.
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { ReplyRecorder, RequestRecorder } from "../../host-sim/host/index.ts";
import { buildWasm } from "../../scripts/build.mjs";
import { DECODE, disaggregation, ENCODE, ENCODERS, PREFILL, PREFILLER } from "../envoy/disagg.ts";
import type { TestEndpoint } from "../envoy/snapshot.ts";
import { POOL, startPoolGateway } from "./pool-gateway.ts";

interface Case {
  topic: string;
  name: string;
  // biome-ignore lint/suspicious/noExplicitAny: the shape differs by topic.
  input: any;
  // biome-ignore lint/suspicious/noExplicitAny: as above.
  expect: any;
}
const cases: Case[] = JSON.parse(
  readFileSync(new URL("../fixtures/oracles/disagg.json", import.meta.url), "utf8"),
).cases;
const of = (name: RegExp): [string, Case][] =>
  cases.filter((entry) => name.test(`${entry.topic}: ${entry.name}`)).map((entry) => [entry.name, entry]);

beforeAll(async () => void (await buildWasm()), 240_000);

const IMAGE = { type: "image_url", image_url: { url: "https://example.com/a.png" } };

/** Sends one request through the filter before these endpoints. */
async function start(configuration: string, endpoints: readonly TestEndpoint[]) {
  const { clock, worker } = await startPoolGateway(configuration, endpoints);
  return (
    given: Record<string, string>,
  ): { status: number; header: (name: string) => string | undefined } => {
    const [upstream, downstream] = [new RequestRecorder(), new ReplyRecorder()];
    const content = [{ type: "text", text: "what is in here? ".repeat(20) }, IMAGE];
    const stream = worker.openStream("picker", {
      clusterName: POOL,
      routeMetadata: { epp: { pool: POOL } },
      upstream,
      downstream,
      headers: { ":method": "POST", ":path": "/v1/chat/completions", ":authority": "g", ...given },
    });
    stream.requestBody(JSON.stringify({ model: "m", messages: [{ role: "user", content }] }), true);
    clock.flush();
    return { status: downstream.status, header: (name) => upstream.header(name) };
  };
}

describe("headers for the decode pod", () => {
  // Addresses of IPv6 hosts come in brackets from the sidecar.
  const bracketed = (address: string): string => address.replace(/^([^[\].]*:.*):(\d+)$/, "[$1]:$2");
  const isWhole = ([, { input }]: [string, Case]): boolean => input.primary !== null;

  it.each(of(/^headers: /).filter(isWhole))("%s", async (_, { input, expect: wanted }) => {
    const { prefillProfile = "prefill", encodeProfile = "encode" } = input.plugin;
    const addresses = (profile: string): string[] =>
      ((input.profileResults[profile] ?? []) as string[]).map(bracketed);
    const prefillers = addresses(prefillProfile);
    const encoders = addresses(encodeProfile);
    const document = JSON.parse(disaggregation({ encode: true }));
    // As many encoders as upstream's picker named.
    document.plugins.push({
      type: "random-picker",
      parameters: { maxNumOfEndpoints: Math.max(encoders.length, 1) },
    });
    const send = await start(JSON.stringify(document), [
      { address: "10.9.9.9:1", models: [], ...DECODE },
      ...prefillers.map((address) => ({ address, models: [], ...PREFILL })),
      ...encoders.map((address) => ({ address, models: [], ...ENCODE })),
    ]);
    const { header } = send(input.requestHeaders ?? {});
    const expected = wanted.requestHeaders ?? {};
    expect(header(PREFILLER)).toBe(expected[PREFILLER]);
    expect(header(ENCODERS)?.split(",").toSorted()).toEqual(expected[ENCODERS]?.split(",").toSorted());
  });

  it("all but those without a result were run", () => {
    expect([of(/^headers: /).length, of(/^headers: /).filter(isWhole).length]).toEqual([21, 19]);
  });
});

describe("conditional decode", () => {
  const decoder = [{ address: "10.9.9.9:1", models: [], ...DECODE }];

  it.each(of(/IsConditionalDecode/))("%s", async (_, { input, expect: wanted }) => {
    const send = await start("{}", decoder);
    expect(send(input.headers ?? {}).status).toBe(wanted.want ? 412 : 0);
  });

  it.each(of(/TestDirector_HandleRequest_ConditionalDecode/))("%s", async (_, { input, expect: wanted }) => {
    const send = await start("{}", decoder);
    if (input.matched > 0) send({});
    const prefer = input.preferValue === "" ? {} : { prefer: input.preferValue };
    expect(send(prefer).status).toBe(wanted.wantErrCode === "PreconditionFailed" ? 412 : 0);
  });
});
