// A process that starts an Envoy, says so and waits: for the test that kills it.
import { dirname } from "node:path";
import { startEnvoy } from "../../cli/envoy.ts";

const envoy = await startEnvoy({
  envoyPath: process.argv[2]!,
  endpoints: ["127.0.0.1:9"],
  policy: "round_robin",
});
process.stdout.write(`${JSON.stringify({ pid: envoy.pid, folder: dirname(envoy.controlSocket) })}\n`);
await envoy.exited;
