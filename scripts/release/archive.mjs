// tar and gzip whose bytes depend on nothing but the files' names and contents: no time, owner or zlib version.

const BLOCK_BYTES = 512;
/** ustar's limits: a name of 100 bytes, a size of 11 octal digits. */
const NAME_BYTES_MAX = 100;
const FILE_BYTES_MAX = 0o77777777777;
/** The longest stored block of deflate (RFC 1951, section 3.2.4). */
const STORED_BYTES_MAX = 65_535;
const READABLE = 0o444;

/** A file that a ustar header cannot describe. */
export class ArchiveEntryError extends Error {
  code = "ERR_ARCHIVE_ENTRY";
  constructor(name, why) {
    super(`cannot be archived: ${JSON.stringify(name)}: ${why}`);
    this.name = "ArchiveEntryError";
  }
}

/**
 * A ustar archive of these files, in this order, read-only and owned by root, from the start of 1970.
 * @param entries {name, bytes}: a relative path of at most 100 bytes; the contents
 * @throws ArchiveEntryError
 */
export function tar(entries) {
  const parts = entries.flatMap(({ name, bytes }) => {
    const padding = (BLOCK_BYTES - (bytes.length % BLOCK_BYTES)) % BLOCK_BYTES;
    return [tarHeader(name, bytes.length), bytes, Buffer.alloc(padding)];
  });
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK_BYTES)]);
}

function tarHeader(name, size) {
  if (!/^[\w.-]+(\/[\w.-]+)*$/.test(name) || name.split("/").includes(".."))
    throw new ArchiveEntryError(name, "expected a relative path");
  if (name.length > NAME_BYTES_MAX) throw new ArchiveEntryError(name, `over ${NAME_BYTES_MAX} bytes`);
  if (size > FILE_BYTES_MAX) throw new ArchiveEntryError(name, `${size} bytes are over ${FILE_BYTES_MAX}`);
  const header = Buffer.alloc(BLOCK_BYTES);
  const octal = (value, at, digits) => header.write(value.toString(8).padStart(digits, "0"), at, "latin1");
  header.write(name, 0, "latin1");
  octal(READABLE, 100, 7);
  octal(0, 108, 7); // owner
  octal(0, 116, 7); // group
  octal(size, 124, 11);
  octal(0, 136, 11); // modification time
  header.fill(" ", 148, 156); // the checksum counts itself as blanks
  header.write("0", 156, "latin1"); // a regular file
  header.write("ustar\u000000", 257, "latin1");
  octal(0, 329, 7); // device numbers
  octal(0, 337, 7);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return header;
}

/**
 * gzip without compression. What deflate makes of the same input differs between zlib versions, and with it the
 * digest of every image layer; stored blocks are the same everywhere.
 */
export function gzip(bytes) {
  const parts = [Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])]; // deflate, no flags, no time, no system
  for (let at = 0; at < bytes.length || at === 0; at += STORED_BYTES_MAX) {
    const piece = bytes.subarray(at, at + STORED_BYTES_MAX);
    const isLast = at + STORED_BYTES_MAX >= bytes.length;
    const head = Buffer.alloc(5);
    head.writeUInt8(isLast ? 1 : 0, 0);
    head.writeUInt16LE(piece.length, 1);
    head.writeUInt16LE(piece.length ^ 0xffff, 3);
    parts.push(head, piece);
  }
  const tail = Buffer.alloc(8);
  tail.writeUInt32LE(crc32(bytes), 0);
  tail.writeUInt32LE(bytes.length % 2 ** 32, 4);
  return Buffer.concat([...parts, tail]);
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

/** CRC-32 of gzip (RFC 1952, section 8); Node has one built in from 22.2 only. */
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
