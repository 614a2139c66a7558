import { expect, it } from "vitest";
import { chat, withEnvoy, ENVOY_VERSIONS } from "./harness.ts";
import { send } from "./clients.ts";
it("routes", async () => {
  await withEnvoy("1.40.0", { wasmPath: "/work/main/build/shim/epp.wasm", replicas: 3 }, async (g) => {
    for (let i = 0; i < 4; i++) {
      const reply = await send(g.url, {
        method: "POST",
        path: "/v1/chat/completions",
        body: JSON.stringify(chat("hello ".repeat(100))),
      } as any);
      console.log(reply.status, reply.body.toString().slice(0, 600));
    }
    console.log(JSON.stringify(await g.status(), null, 1).slice(0, 3000));
    console.log(
      g.envoy
        .log()
        .split("\n")
        .filter((l: string) => /epp|wasm/i.test(l))
        .slice(-20)
        .join("\n"),
    );
  });
});
