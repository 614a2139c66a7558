// What a JSON text means, twice: by Node's JSON.parse, and rebuilt from the scanner's events.

/** What a number of more than NUMBER_BYTES_MAX bytes is here, for the scanner gives no text of it. */
const LONG_NUMBER = null;
/** A string, which is passed over, or such a number. */
const STRING_OR_LONG_NUMBER = /"(?:[^"\\]|\\.)*"|[-+.\deE]{65,}/g;

/** Value of a text by JSON.parse, with the scanner's choices applied; undefined when it is no JSON. */
export function expectedValue(bytes: Uint8Array): { value: unknown } | undefined {
  try {
    // The decoder refuses what is not UTF-8 and takes a byte order mark off.
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    JSON.parse(text);
    const known = text.replace(STRING_OR_LONG_NUMBER, (found) =>
      found.startsWith('"') ? found : JSON.stringify(LONG_NUMBER),
    );
    return { value: wellFormed(JSON.parse(known)) };
  } catch {
    return undefined;
  }
}

/** Lone surrogates become U+FFFD. An object as pairs, so that `__proto__` is a name like any other. */
function wellFormed(value: unknown): unknown {
  if (typeof value === "string") return replaceLone(value);
  if (Array.isArray(value)) return value.map(wellFormed);
  if (typeof value !== "object" || value === null) return value;
  return new Map(Object.entries(value).map(([name, member]) => [replaceLone(name), wellFormed(member)]));
}

function replaceLone(text: string): string {
  return Buffer.from(text).toString();
}

/** The value that event lines stand for; the last of duplicate names wins. */
export function valueOfEvents(lines: readonly string[]): unknown {
  let at = 0;
  const next = (): unknown => {
    const line = lines[at++]!;
    if (line === "[") {
      const list: unknown[] = [];
      while (lines[at] !== "]") {
        if (lines[at]!.startsWith("integers ")) list.push(...lines[at++]!.slice(9).split(" ").map(Number));
        else list.push(next());
      }
      at++;
      return list;
    }
    if (line === "{") {
      const members = new Map<string, unknown>();
      while (lines[at] !== "}") {
        const name = JSON.parse(lines[at++]!.slice(4)) as string;
        members.set(name, next());
      }
      at++;
      return members;
    }
    if (line.startsWith("string ")) return JSON.parse(line.slice(7));
    if (line.startsWith("number")) return line.length > 7 ? Number(line.slice(7)) : LONG_NUMBER;
    return JSON.parse(line);
  };
  return next();
}
