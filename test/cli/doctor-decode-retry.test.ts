// What doctor says of decodeRetry: connect-failure, under which a route's own retries would send KV parameters twice.
import { describe, expect, it } from "vitest";
import { judge } from "../../cli/commands/doctor.ts";
import { type Any, codes, managerOf, observation, shipped } from "./gateway-dumps.ts";

const RIGHT = { retry_policy: { retry_back_off: { base_interval: "0.001s", max_interval: "0.010s" } } };
const HEADER = "x-envoy-retry-on";
const exactly = (value: string): object => ({ name: HEADER, string_match: { exact: value } });

/** The shipped gateway with these parameters, and its routes made anew of the one that it has. */
function gateway(
  parameters: object,
  routes: (route: Any) => unknown[] = (route) => [route],
  retryOn: string | null = "connect-failure,refused-stream,reset",
): Any {
  const bootstrap = shipped();
  const manager = managerOf(bootstrap);
  const plugins = [
    { type: "epp-wasm-gateway", parameters: { decisionBytesMax: 1024 } },
    { type: "epp-wasm-disaggregation", parameters },
  ];
  manager.http_filters[0].typed_config.config.configuration.value = JSON.stringify({ plugins });
  const [host] = manager.route_config.virtual_hosts;
  const { retry_policy: policy } = host.routes[0].route;
  delete policy.retry_on;
  if (retryOn !== null) policy.retry_on = retryOn;
  host.routes = routes(host.routes[0]);
  return bootstrap;
}

/** A copy for bodies with KV parameters, as docs/DISAGGREGATION.md has it. */
const copyOf = (route: Any, match: object, policy: object = RIGHT): object => ({
  ...route,
  match,
  route: { ...route.route, ...policy },
});
const found = (bootstrap: Any): string[] => codes(observation({}, bootstrap));
const INLINE = { mode: "inline", decodeRetry: "connect-failure" };

describe("decodeRetry: connect-failure", () => {
  it("is warned of on a route that retries by itself, with the route that is right", () => {
    const [finding] = judge(observation({}, gateway(INLINE))).findings;
    expect(finding).toMatchObject({ code: "decode-retry", severity: "warning" });
    expect(finding!.what).toContain("connect-failure,refused-stream,reset");
    expect(finding!.mend).toContain("docs/DISAGGREGATION.md");
  });

  it.each<[string, object, string | null]>([
    ["that does not retry", INLINE, null],
    ["that retries the same alone", INLINE, " connect-failure "],
    ["under decodeRetry: none", { ...INLINE, decodeRetry: "none" }, "reset"],
    ["in mode headers, where the filter calls nobody", { decodeRetry: "connect-failure" }, "reset"],
    ["without parameters", {}, "reset"],
  ])("is not warned of on a route %s", (_, parameters, retryOn) => {
    expect(found(gateway(parameters, (route) => [route], retryOn))).toEqual([]);
  });

  it.each<[string, string[], (route: Any) => unknown[]]>([
    [
      "a copy before it",
      [],
      (route) => [copyOf(route, { prefix: "/", headers: [exactly("connect-failure")] }), route],
    ],
    [
      "the older form of a copy's match",
      [],
      (route) => [
        copyOf(route, {
          prefix: "/",
          headers: [{ name: "X-Envoy-Retry-On", exact_match: "connect-failure" }],
        }),
        route,
      ],
    ],
    [
      "a copy behind it",
      ["decode-retry"],
      (route) => [route, copyOf(route, { prefix: "/", headers: [exactly("connect-failure")] })],
    ],
    [
      "a copy of other paths",
      ["decode-retry"],
      (route) => [copyOf(route, { prefix: "/v2", headers: [exactly("connect-failure")] }), route],
    ],
    [
      "a copy for what other requests have too",
      ["decode-retry"],
      (route) => [copyOf(route, { prefix: "/", headers: [exactly("reset")] }), route],
    ],
    [
      "a copy that asks for more",
      ["decode-retry"],
      (route) => [
        copyOf(route, {
          prefix: "/",
          headers: [exactly("connect-failure"), { name: "x", present_match: true }],
        }),
        route,
      ],
    ],
    [
      "a copy that retries too",
      ["decode-retry", "decode-retry"],
      (route) => [copyOf(route, { prefix: "/", headers: [exactly("connect-failure")] }, {}), route],
    ],
    [
      "a copy of one path for several",
      [],
      (route) => [
        copyOf(route, { prefix: "/", headers: [exactly("connect-failure")] }),
        { ...route, match: { path: "/v1/completions" } },
        { ...route, match: { prefix: "/v1/chat" } },
      ],
    ],
    [
      "the same path's copy",
      [],
      (route) => [
        copyOf(route, { path_separated_prefix: "/v1", headers: [exactly("connect-failure")] }),
        { ...route, match: { path_separated_prefix: "/v1" } },
      ],
    ],
  ])("with %s has %j", (_, expected, routes) => {
    expect(found(gateway(INLINE, routes))).toEqual(expected);
  });

  it("counts retries of the virtual host, which its routes have", () => {
    const bootstrap = gateway(INLINE, (route) => [route], null);
    const [host] = managerOf(bootstrap).route_config.virtual_hosts;
    host.retry_policy = { ...host.routes[0].route.retry_policy, retry_on: "5xx" };
    expect(found(bootstrap)).toEqual([]);
    delete host.routes[0].route.retry_policy;
    expect(found(bootstrap)).toEqual(["decode-retry"]);
  });
});
