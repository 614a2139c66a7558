// The text of one member of a JSON object: numbers beyond 2^53 do not survive JSON.parse.

/**
 * Raw text of a top-level member's value; of duplicates the last, as in JSON.parse.
 * @param text a valid JSON object. @returns undefined if it has no such member
 */
export function memberText(text: string, name: string): string | undefined {
  let found: string | undefined;
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text[at]!;
    if (character === "{" || character === "[") depth++;
    else if (character === "}" || character === "]") depth--;
    if (character !== '"') continue;
    const end = stringEnd(text, at);
    const colon = skipSpace(text, end);
    if (depth === 1 && text[colon] === ":" && JSON.parse(text.slice(at, end)) === name) {
      const start = skipSpace(text, colon + 1);
      found = text.slice(start, valueEnd(text, start));
    }
    at = end - 1;
  }
  return found;
}

// After the closing quote of the string that opens at `start`.
function stringEnd(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at + 1;
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (" \t\n\r".includes(text[at] ?? "x")) at++;
  return at;
}

function valueEnd(text: string, start: number): number {
  let depth = 0;
  let at = start;
  while (at < text.length) {
    const character = text[at]!;
    if (character === '"') {
      at = stringEnd(text, at);
      if (depth === 0) return at;
      continue;
    }
    if (depth === 0 && (",}]".includes(character) || " \t\n\r".includes(character))) return at;
    if (character === "{" || character === "[") depth++;
    at++;
    if ((character === "}" || character === "]") && --depth === 0) return at;
  }
  return at;
}
