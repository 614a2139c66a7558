// Random numbers for tests, from a seed that a failing test prints: TEST_SEED=<seed> replays it.

/** A seeded generator of numbers in [0, 1) (mulberry32, Tommy Ettinger), and its seed. */
export function random(): { seed: number; next: () => number } {
  const seed = Number(process.env["TEST_SEED"] ?? Date.now() % 2 ** 31);
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return { seed, next };
}
