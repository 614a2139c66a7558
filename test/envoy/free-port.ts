// A port for a listener that has to know its number before it listens.
import { randomInt } from "node:crypto";
import { createServer } from "node:net";
import { until } from "./harness.ts";

/** Below those that the kernel gives out by itself, so that no other socket comes by it until Envoy listens there. */
const PORT_FIRST = 20_000;
const PORT_END = 32_000;

/** A port of 127.0.0.1 where nobody listens. */
export async function freePort(): Promise<number> {
  return until("a free port", async () => {
    const port = randomInt(PORT_FIRST, PORT_END);
    const server = createServer();
    const isFree = await new Promise<boolean>((settle) => {
      server.once("error", () => settle(false)).listen(port, "127.0.0.1", () => settle(true));
    });
    if (isFree) await new Promise((settle) => server.close(settle));
    return isFree && port;
  });
}
