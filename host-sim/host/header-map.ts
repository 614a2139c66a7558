// An HTTP header map as Envoy keeps it: ordered, lower-cased names, repeated names allowed.
import type { Pair } from "./pairs.ts";

/** What a caller may give where headers are wanted: a list of pairs (repeats kept) or a plain object. */
export type HeaderInput = readonly Pair[] | Readonly<Record<string, string | readonly string[]>>;

/** An ordered multimap of header names and values, Latin-1 characters for bytes. */
export class HeaderMap {
  private entries: Pair[] = [];

  /** Builds a map from pairs or an object; names are lower-cased. */
  static from(input: HeaderInput | HeaderMap | undefined): HeaderMap {
    const map = new HeaderMap();
    if (input === undefined) return map;
    if (input instanceof HeaderMap) {
      map.entries = input.entries.slice();
      return map;
    }
    if (Array.isArray(input)) {
      for (const [name, value] of input as readonly Pair[]) map.add(name, value);
      return map;
    }
    for (const [name, value] of Object.entries(input as Record<string, string | readonly string[]>)) {
      if (typeof value === "string") map.add(name, value);
      else for (const one of value) map.add(name, one);
    }
    return map;
  }

  /** Number of entries, repeats counted. */
  get size(): number {
    return this.entries.length;
  }

  /** Bytes of all names and values, without separators (Envoy `HeaderMap::byteSize`). */
  get bytes(): number {
    let total = 0;
    for (const [name, value] of this.entries) total += name.length + value.length;
    return total;
  }

  /** The first value of `name`, or undefined. */
  get(name: string): string | undefined {
    const lower = name.toLowerCase();
    for (const entry of this.entries) if (entry[0] === lower) return entry[1];
    return undefined;
  }

  /** All values of `name` in order. */
  all(name: string): string[] {
    const lower = name.toLowerCase();
    return this.entries.filter((entry) => entry[0] === lower).map((entry) => entry[1]);
  }

  /** Appends an entry, whether or not the name exists. */
  add(name: string, value: string): void {
    this.entries.push([name.toLowerCase(), value]);
  }

  /** Puts `value` in the place of the first entry of `name` and drops the others; appends when absent. */
  set(name: string, value: string): void {
    const lower = name.toLowerCase();
    const first = this.entries.findIndex((entry) => entry[0] === lower);
    if (first < 0) {
      this.entries.push([lower, value]);
      return;
    }
    this.entries[first] = [lower, value];
    for (let index = this.entries.length - 1; index > first; index--) {
      if (this.entries[index]?.[0] === lower) this.entries.splice(index, 1);
    }
  }

  /** Drops every entry of `name`. */
  remove(name: string): void {
    const lower = name.toLowerCase();
    for (let index = this.entries.length - 1; index >= 0; index--) {
      if (this.entries[index]?.[0] === lower) this.entries.splice(index, 1);
    }
  }

  /** Replaces all entries. */
  assign(pairs: readonly Pair[]): void {
    this.entries = pairs.map(([name, value]) => [name.toLowerCase(), value]);
  }

  /** The entries in order; not to be changed. */
  pairs(): readonly Pair[] {
    return this.entries;
  }

  /** The entries as an object; repeated names joined by a comma. For tests and logs. */
  toObject(): Record<string, string> {
    const object: Record<string, string> = {};
    for (const [name, value] of this.entries)
      object[name] = name in object ? `${object[name]}, ${value}` : value;
    return object;
  }
}
