// `npm start`: sets everything up, then hands over to build/start.mjs with the same arguments.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { setupEnvoy, setupProject } from "./setup.mjs";

/** On a terminal Ctrl-C reaches the whole process group, the child included; elsewhere it is passed on. */
const FORWARDED_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];

try {
  await setupProject();
  const envoy = await setupEnvoy();
  const script = fileURLToPath(new URL("../build/start.mjs", import.meta.url));
  const env = envoy === undefined ? { EPP_DATA_PLANE: "host-sim" } : { ENVOY_PATH: envoy };
  const child = spawn(process.execPath, ["--enable-source-maps", script, ...process.argv.slice(2)], {
    stdio: "inherit",
    env: { ...process.env, ...env },
  });
  for (const signal of FORWARDED_SIGNALS) {
    process.on(signal, () => {
      if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
    });
  }
  child.once("exit", (code, signal) => process.exit(code ?? (signal === null ? 1 : 130)));
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
}
