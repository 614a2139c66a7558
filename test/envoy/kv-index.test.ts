// The exact index against engines with real tokenizers: what the picker predicts, and what the engines then find cached.
import { describe, expect, it } from "vitest";
import { realModel, tokenizerPath } from "../sim/support/real-models.ts";
import { seedOf } from "../sidecar/seeds.ts";
import { ADAPTERS, type KvFleet, type KvFleetOptions, MODEL, reset, withKvFleet } from "./kv-fleet.ts";
import { type Judgement, verdictOf } from "./kv-judge.ts";
import { chats, completions, documents, library, repeats, roots } from "./kv-scenarios.ts";

// A share of few requests says something of the index only where they are the same every time.
const SEED = seedOf(2);

/** At least so many of the warm requests are predicted to one block. */
const SHARE_MIN = 0.99;

/** Both tokenizers, both encodings, both block sizes, and both ways to the tokens' bytes. */
const ENGINES = [
  { name: "llama3_1", encoding: "map", blockSize: 16, tokens: "learnt" },
  { name: "llama3_1", encoding: "array", blockSize: 32, tokens: "file" },
  { name: "qwen2_5", encoding: "map", blockSize: 32, tokens: "file" },
  { name: "qwen2_5", encoding: "array", blockSize: 16, tokens: "learnt" },
] as const;

function optionsOf({ name, encoding, blockSize, tokens }: (typeof ENGINES)[number]): KvFleetOptions {
  return {
    textModel: realModel(name),
    events: { encoding },
    engine: { blockSize },
    seed: SEED,
    ...(tokens === "file" ? { tokenizer: tokenizerPath(name) } : {}),
  };
}

function expectRight(judgements: readonly Judgement[], blockTokens: number, warmMin: number): void {
  const { share, warm, wrong } = verdictOf(judgements, blockTokens);
  expect(warm).toBeGreaterThanOrEqual(warmMin);
  expect(share, `seed ${SEED}:\n${wrong.join("\n")}`).toBeGreaterThanOrEqual(SHARE_MIN);
}

describe(`before engines with real tokenizers (seed ${SEED})`, () => {
  it.each(ENGINES)(
    "of $name, $encoding events, blocks of $blockSize, tokens $tokens: predicts what chats, documents and completions find",
    async (engine) => {
      await withKvFleet(optionsOf(engine), async (fleet) => {
        const judgements = [
          ...(await chats(fleet, 5)),
          ...(await documents(fleet, 20)),
          ...(await completions(fleet, 10)),
        ];
        expectRight(judgements, engine.blockSize, 60);
        const used = new Set(judgements.map(({ endpoint }) => endpoint));
        expect(used.size).toBe(2);
      });
    },
  );

  it.each(ENGINES.filter(({ encoding }) => encoding === "map"))(
    "of $name: keeps adapters and salts apart",
    async (engine) => {
      await withKvFleet(optionsOf(engine), async (fleet) => {
        expectRight(await roots(fleet, [MODEL, ...ADAPTERS], 4), engine.blockSize, 24);
      });
    },
  );
});

/** Blocks of an engine that holds less than what is asked of it. */
const FEW_BLOCKS = 129;

describe(`when engines lose what they held (seed ${SEED})`, () => {
  // Half a cell of bytes is at most 32 tokens: cuts in the densest text are within one block.
  const engine = ENGINES[2];
  const options = { ...optionsOf(engine), engine: { blockSize: engine.blockSize, blockCount: FEW_BLOCKS } };
  const evictions = (fleet: KvFleet): number =>
    [...fleet.sidecar.pools[0]!.kvEvents!.engines].reduce((sum, { counts }) => sum + counts.removed, 0);

  it("counts no evicted block", async () => {
    await withKvFleet(options, async (fleet) => {
      expectRight(await repeats(fleet, 60, library(fleet, 10)), engine.blockSize, 20);
      expect(evictions(fleet)).toBeGreaterThan(50);
    });
  });

  it("counts nothing after a reset, from the engine's next events on", async () => {
    await withKvFleet(options, async (fleet) => {
      for (let round = 0; round < 3; round++) {
        const before = await documents(fleet, 10);
        expectRight(before, engine.blockSize, 1);
        for (const replica of fleet.replicas) await reset(replica);
        await fleet.settled();
        const [after] = await documents(fleet, 1);
        expect(after).toMatchObject({ index: "exact", predicted: 0, cached: 0 });
      }
    });
  });

  it("counts nothing after a restart", async () => {
    await withKvFleet(options, async (fleet) => {
      const judgements = await chats(fleet, 2, ["german", "japanese"]);
      for (const replica of fleet.replicas) {
        await replica.restart();
        await fleet.settled();
        judgements.push(...(await chats(fleet, 3, ["emoji", "russian"])));
      }
      expectRight(judgements, engine.blockSize, 6);
    });
  });
});
