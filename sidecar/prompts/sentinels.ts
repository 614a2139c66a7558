// Texts that are found again in a rendered prompt, so that what stands between them is the template's own.

const LETTERS = "abcdefghijklmnopqrstuvwxyz";
/** 26^12: two sentinels, or one and a template's text, are never equal by chance. */
const RANDOM_LETTERS = 12;

/**
 * A word that no template has and none changes: no white space, no markup, no digits that a date could have.
 * @param random 0 ≤ x < 1
 */
export function sentinel(random: () => number): string {
  const letters = Array.from({ length: RANDOM_LETTERS }, () => LETTERS[Math.floor(random() * 26)]!);
  return `Vq${letters.join("")}Zk`;
}

/**
 * What stands before, between and behind the sentinels: one more than there are of them.
 * @returns null where one of them does not stand in the text exactly once, or not in this order
 */
export function gapsBetween(text: Uint8Array, sentinels: readonly string[]): Uint8Array[] | null {
  const buffer = Buffer.from(text.buffer, text.byteOffset, text.length);
  const gaps: Uint8Array[] = [];
  let end = 0;
  for (const word of sentinels) {
    const at = buffer.indexOf(word);
    if (at < end || buffer.lastIndexOf(word) !== at) return null;
    gaps.push(Uint8Array.from(buffer.subarray(end, at)));
    end = at + word.length;
  }
  gaps.push(Uint8Array.from(buffer.subarray(end)));
  return gaps;
}
