// What the binary documents for the gateway have in common: texts behind their records, and an id made of the content.
import { createHash } from "node:crypto";

/** A document as it is sent. */
export interface EncodedDocument {
  /** Made of the content: equal documents have equal ids, whichever sidecar pushes them. 1 to 2^48 − 1. */
  readonly id: number;
  readonly bytes: Buffer;
}

/** Six bytes of the hash: a whole number that JSON keeps exactly. */
const ID_BYTES = 6;

/** @param bytes the document with its id and checksum still zero */
export function contentId(bytes: Buffer): number {
  return Math.max(1, createHash("sha256").update(bytes).digest().readUIntLE(0, ID_BYTES));
}

/** The texts of one document, equal ones once. */
export class Texts {
  readonly list: Buffer[] = [];
  private readonly places = new Map<string, { offset: number; bytes: Buffer }>();

  /** @param end offset of the first text */
  constructor(public end: number) {}

  place(text: string | Uint8Array): { offset: number; bytes: Buffer } {
    const bytes = Buffer.from(text as Uint8Array);
    const key = bytes.toString("latin1");
    const known = this.places.get(key);
    if (known !== undefined) return known;
    const place = { offset: this.end, bytes };
    this.end += bytes.length;
    this.list.push(bytes);
    this.places.set(key, place);
    return place;
  }
}

/** Sorted by the UTF-8 bytes of `text`. */
export function sortedByBytes<T>(list: readonly T[], text: (one: T) => string): T[] {
  return [...list].sort((a, b) => Buffer.compare(Buffer.from(text(a)), Buffer.from(text(b))));
}
