// Reads ustar archives for the tests, and holds every header to its checksum.

const BLOCK_BYTES = 512;
const CHECKSUM_AT = 148;

export interface TarEntry {
  readonly name: string;
  readonly mode: number;
  readonly owner: number;
  readonly mtimeS: number;
  readonly bytes: Buffer;
}

/** A header that is none. */
export class TarHeaderError extends Error {
  readonly code = "ERR_TAR_HEADER";
  constructor(at: number, what: string) {
    super(`header at byte ${at}: ${what}`);
    this.name = "TarHeaderError";
  }
}

export function readTar(archive: Buffer): TarEntry[] {
  const entries: TarEntry[] = [];
  let at = 0;
  for (; at < archive.length && archive[at] !== 0;) {
    const header = archive.subarray(at, at + BLOCK_BYTES);
    const octal = (from: number, bytes: number): number =>
      Number.parseInt(header.toString("latin1", from, from + bytes), 8);
    const sum = header.reduce(
      (total, byte, index) => total + (index >= CHECKSUM_AT && index < CHECKSUM_AT + 8 ? 32 : byte),
      0,
    );
    if (octal(CHECKSUM_AT, 6) !== sum) throw new TarHeaderError(at, "wrong checksum");
    if (header.toString("latin1", 257, 262) !== "ustar") throw new TarHeaderError(at, "not ustar");
    const size = octal(124, 11);
    const begin = at + BLOCK_BYTES;
    entries.push({
      name: header.toString("latin1", 0, header.indexOf(0)),
      mode: octal(100, 7),
      owner: octal(108, 7),
      mtimeS: octal(136, 11),
      bytes: archive.subarray(begin, begin + size),
    });
    at = begin + Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES;
  }
  if (archive.length - at !== 2 * BLOCK_BYTES || archive.subarray(at).some((byte) => byte !== 0))
    throw new TarHeaderError(at, "expected two empty blocks to the end");
  return entries;
}
