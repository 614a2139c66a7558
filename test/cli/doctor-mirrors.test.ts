// What doctor says of routes that mirror requests, where these may have KV parameters in them.
import { describe, expect, it } from "vitest";
import { judge } from "../../cli/commands/doctor.ts";
import { type Any, codes, managerOf, observation, shipped } from "./gateway-dumps.ts";

const MIRROR = { request_mirror_policies: [{ cluster: "shadow" }] };

/** The shipped gateway in this mode of disaggregation, with fields put where `edit` says. */
function gateway(mode: string | undefined, edit: (manager: Any) => void): Any {
  const bootstrap = shipped();
  const manager = managerOf(bootstrap);
  const plugins = [
    { type: "epp-wasm-gateway", parameters: { decisionBytesMax: 1024 } },
    ...(mode === undefined ? [] : [{ type: "epp-wasm-disaggregation", parameters: { mode } }]),
  ];
  manager.http_filters[0].typed_config.config.configuration.value = JSON.stringify({ plugins });
  edit(manager);
  return bootstrap;
}

const onRoute = (manager: Any): void =>
  void Object.assign(manager.route_config.virtual_hosts[0].routes[0].route, MIRROR);

describe("a route that mirrors", () => {
  it.each<[string, (manager: Any) => void]>([
    ["by itself", onRoute],
    ["by its virtual host", (manager) => Object.assign(manager.route_config.virtual_hosts[0], MIRROR)],
    ["by its route configuration", (manager) => Object.assign(manager.route_config, MIRROR)],
  ])("%s is an error where the filter calls prefill endpoints", (_, edit) => {
    const { findings } = judge(observation({}, gateway("inline", edit)));
    expect(findings.map(({ code, severity }) => [code, severity])).toEqual([
      ["mirrored-parameters", "error"],
    ]);
    expect(findings[0]!.what).toContain("shadow");
  });

  it.each([["headers"], [undefined]])("is none in mode %s", (mode) => {
    expect(codes(observation({}, gateway(mode, onRoute)))).toEqual([]);
  });

  it("names the header that names its mirror", () => {
    const bootstrap = gateway("inline", (manager) => {
      Object.assign(manager.route_config.virtual_hosts[0].routes[0].route, {
        request_mirror_policies: [{ cluster_header: "x-shadow" }],
      });
    });
    expect(judge(observation({}, bootstrap)).findings[0]!.what).toContain("x-shadow");
  });

  it("is none without a policy", () => {
    expect(
      codes(
        observation(
          {},
          gateway("inline", () => undefined),
        ),
      ),
    ).toEqual([]);
  });
});
