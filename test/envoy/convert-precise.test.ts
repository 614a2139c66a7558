// What convert makes of llm-d's precise prefix scoring, run by a real Envoy and a sidecar before engines that publish.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { KV_CELL_BYTES } from "../../assembly/wire/kv-deltas.ts";
import { convert } from "../../cli/commands/convert.ts";
import { kvEventsConfig } from "../../host-sim/model-server/kv-events/config.ts";
import { Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import { makeLogger } from "../../sidecar/log.ts";
import { documentsOf, PRECISE_PRODUCER, PRECISE_SCORER } from "../cli/deployments.ts";
import { endpointOf } from "../sidecar/kv-events-sidecar.ts";
import { send as sendTo, startReplica } from "../sim/support/replica.ts";
import { send } from "./clients.ts";
import { ENVOY_VERSIONS, type Gateway, POOL, startGateway, until } from "./harness.ts";
import { isKnown, warmUp } from "./kv-fleet.ts";

const WORKERS = 2;
const PROMPTS = 8;
const PATH = "/v1/completions";
const bodyOf = (prompt: string): object => ({ model: "tiny", prompt, max_tokens: 1 });
const prompt = (index: number): string => `${index}: a document that one engine read before. `.repeat(30);
/** Cells of one prompt at least, as engines keep whole blocks alone: an engine that lacks its last prompt has fewer of all. */
const CELLS_MIN = Math.floor(Buffer.byteLength(prompt(0)) / KV_CELL_BYTES) - 2;
const ENGINES = 2;

/** Two engines that publish under llm-d's topics, each with its own ports as they are on one machine. */
const startReplicas = async () => {
  const kvEvents = kvEventsConfig({ topic: "kv@pod@tiny" });
  return [await startReplica({ name: "one", kvEvents }), await startReplica({ name: "two", kvEvents })];
};

/** The sidecar as converted, but for the places of its gateway and engines. */
async function startSidecar(document: object, gateway: Gateway, endpoints: readonly object[]) {
  const { pools } = document as { pools: object[] };
  const path = join(await mkdtemp(join(tmpdir(), "epp-convert-")), "sidecar.json");
  onTestFinished(() => rm(join(path, ".."), { recursive: true, force: true }));
  const pool = { ...pools[0], discovery: { static: { endpoints } }, scrape: { intervalMs: 50 } };
  await writeFile(path, JSON.stringify({ control: { socket: gateway.envoy.controlSocket }, pools: [pool] }));
  const sidecar = new Sidecar(loadSettings({ config: path }, {}), { log: makeLogger("silent") });
  onTestFinished(() => sidecar.stop());
  await sidecar.start();
  return sidecar;
}

describe.each(ENVOY_VERSIONS)("on Envoy %s", (version) => {
  it.each([
    ["scorer", PRECISE_SCORER],
    ["producer", PRECISE_PRODUCER],
  ])("a converted precise %s sends prompts to the engines that hold them", async (_, deployment) => {
    const { picker, sidecar: document } = await convert(documentsOf(deployment), { pool: POOL });
    const replicas = await startReplicas();
    const addresses = replicas.map(({ address }) => address);
    const gateway = await startGateway(version, {
      concurrency: WORKERS,
      replicas: 0,
      extraEndpoints: addresses,
      snapshot: false,
      pluginConfig: JSON.stringify(picker),
    });
    onTestFinished(() => gateway.stop());
    const sidecar = await startSidecar(document, gateway, replicas.map(endpointOf));
    await warmUp(gateway, WORKERS, () =>
      send(gateway.url, { path: PATH, method: "POST", body: bodyOf("x") }),
    );
    // Past the gateway, which so can know of it by the engines' events only.
    for (let index = 0; index < PROMPTS; index++)
      await sendTo(replicas[index % ENGINES]!, PATH, bodyOf(prompt(index)));
    await until("the sidecar saw them", () =>
      [...sidecar.kvPushes[0]!.index.endpoints.values()].every(
        ({ entries }) => entries >= (PROMPTS / ENGINES) * CELLS_MIN,
      ),
    );
    await until("every worker knew them", () => isKnown(gateway, sidecar, addresses));
    for (let index = 0; index < PROMPTS; index++) {
      const { status, text } = await send(gateway.url, {
        ...{ path: PATH, method: "POST", body: bodyOf(`${prompt(index)} What now?`) },
      });
      expect(status, text).toBe(200);
      const { usage } = JSON.parse(text) as {
        usage: { prompt_tokens_details: { cached_tokens: number } };
      };
      expect(usage.prompt_tokens_details.cached_tokens, `prompt ${index}`).toBeGreaterThan(100);
    }
  });
});
