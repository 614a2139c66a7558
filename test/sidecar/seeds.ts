// A seeded random source for property tests; a failure names the seed that repeats it.

/** mulberry32: 0 ≤ random < 1, the same sequence for the same seed. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** A seed for a whole file: EPP_TEST_SEED, or `usual`, or a fresh one, which the file prints. */
export function seedOf(usual?: number): number {
  const fixed = process.env["EPP_TEST_SEED"];
  return fixed === undefined ? (usual ?? Math.floor(Math.random() * 2 ** 31)) : Number(fixed);
}

/** Runs `check` with `runs` seeds: fresh ones, or the one in the environment variable EPP_TEST_SEED. */
export function withSeeds(runs: number, check: (random: () => number, seed: number) => void): void {
  const first = seedOf();
  const count = process.env["EPP_TEST_SEED"] === undefined ? runs : 1;
  for (let seed = first; seed < first + count; seed++) {
    try {
      check(seeded(seed), seed);
    } catch (error) {
      throw new Error(`seed ${seed} (repeat with EPP_TEST_SEED=${seed}): ${(error as Error).message}`, {
        cause: error,
      });
    }
  }
}

/** A whole number from `min` to `max`, both included. */
export function between(random: () => number, min: number, max: number): number {
  return min + Math.floor(random() * (max - min + 1));
}
