// What must never be in the filter's code, found in its WebAssembly text.

/** Each: a name for the fault, a pattern in the text, and why it must not be there. */
const FORBIDDEN = [
  {
    name: "runtime library",
    pattern: /\$~lib\/rt\/[^\s()]*/,
    why: "the filter allocates nothing, so no allocator or collector is linked",
  },
  {
    name: "memory.grow",
    pattern: /\bmemory\.grow\b/,
    why: "all memory is declared: linear memory never grows",
  },
];

/**
 * Faults in a module's text format (asc's --textFile keeps the names that this needs).
 * @returns one sentence a fault; empty when there is none
 */
export function forbiddenCode(wat) {
  return FORBIDDEN.flatMap(({ name, pattern, why }) => {
    const match = pattern.exec(wat);
    if (match === null) return [];
    const line = wat.slice(0, match.index).split("\n").length;
    return [`${name} at line ${line} (${match[0]}): ${why}`];
  });
}
