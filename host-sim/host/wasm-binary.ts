// Reads the types, imports and exports of a WebAssembly binary: V8's reflection does not give signatures.
import { WasmMalformedError } from "./errors.ts";

/** A function import or export with its signature in the letters of abi.ts (`ii>i`). */
export interface WasmFunction {
  readonly module: string;
  readonly name: string;
  readonly signature: string;
}

/** An imported memory (pages) or table (elements). */
export interface StorageImport {
  readonly module: string;
  readonly name: string;
  readonly kind: "memory" | "table";
  readonly initial: number;
  readonly maximum: number | undefined;
}

/** What the host must know about a module before it links it. */
export interface WasmInterface {
  readonly functionImports: readonly WasmFunction[];
  /** Imported memories and tables: the host makes them to measure. */
  readonly storageImports: readonly StorageImport[];
  /** Imports of any other kind, as `module.name`; Envoy offers none. */
  readonly otherImports: readonly string[];
  readonly functionExports: ReadonlyMap<string, WasmFunction>;
}

const SECTION_TYPE = 1;
const SECTION_IMPORT = 2;
const SECTION_FUNCTION = 3;
const SECTION_EXPORT = 7;
const KIND_FUNCTION = 0;
const KIND_TABLE = 1;
const KIND_MEMORY = 2;
const KIND_GLOBAL = 3;
const VALUE_TYPES: Readonly<Record<number, string>> = {
  0x7f: "i",
  0x7e: "l",
  0x7d: "f",
  0x7c: "d",
  0x7b: "v",
};

/** A cursor over the binary that reports the offset of what is wrong. */
class Reader {
  constructor(
    private readonly bytes: Uint8Array,
    public position: number,
    private readonly end: number,
  ) {}

  get done(): boolean {
    return this.position >= this.end;
  }

  byte(): number {
    const value = this.position < this.end ? this.bytes[this.position] : undefined;
    if (value === undefined) throw new WasmMalformedError(this.position, "unexpected end");
    this.position++;
    return value;
  }

  /** An unsigned LEB128 number of at most 32 bits (five bytes). */
  u32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if ((byte & 0x80) === 0) return value;
    }
    throw new WasmMalformedError(this.position, "number longer than 32 bits");
  }

  name(): string {
    const length = this.u32();
    if (this.position + length > this.end) throw new WasmMalformedError(this.position, "name cut short");
    const text = Buffer.from(this.bytes.buffer, this.bytes.byteOffset + this.position, length).toString(
      "utf8",
    );
    this.position += length;
    return text;
  }

  section(length: number): Reader {
    if (this.position + length > this.end) throw new WasmMalformedError(this.position, "section cut short");
    const inner = new Reader(this.bytes, this.position, this.position + length);
    this.position += length;
    return inner;
  }
}

function readSignature(reader: Reader): string {
  if (reader.byte() !== 0x60) throw new WasmMalformedError(reader.position - 1, "not a function type");
  const read = (): string => {
    let letters = "";
    for (let left = reader.u32(); left > 0; left--) letters += VALUE_TYPES[reader.byte()] ?? "?";
    return letters;
  };
  const parameters = read();
  return `${parameters}>${read()}`;
}

function readLimits(reader: Reader): { initial: number; maximum: number | undefined } {
  const flags = reader.u32();
  const initial = reader.u32();
  return { initial, maximum: flags & 1 ? reader.u32() : undefined };
}

/** Reads one import section into functions and others; appends the type index of each function. */
function readImports(reader: Reader, types: readonly string[], out: Parsed): void {
  for (let left = reader.u32(); left > 0; left--) {
    const module = reader.name();
    const name = reader.name();
    const kind = reader.byte();
    if (kind === KIND_FUNCTION) {
      const signature = types[reader.u32()] ?? "?";
      out.functionImports.push({ module, name, signature });
      out.functionSignatures.push(signature);
      continue;
    }
    if (kind === KIND_TABLE) {
      reader.byte();
      out.storageImports.push({ module, name, kind: "table", ...readLimits(reader) });
    } else if (kind === KIND_MEMORY) {
      out.storageImports.push({ module, name, kind: "memory", ...readLimits(reader) });
    } else if (kind === KIND_GLOBAL) {
      reader.byte();
      reader.byte();
      out.otherImports.push(`${module}.${name}`);
    } else throw new WasmMalformedError(reader.position - 1, `unknown import kind ${kind}`);
  }
}

interface Parsed {
  functionImports: WasmFunction[];
  storageImports: StorageImport[];
  otherImports: string[];
  functionSignatures: string[];
  functionExports: Map<string, WasmFunction>;
}

/**
 * Reads the interface of a module.
 * @param bytes the whole binary.
 * @returns imports and exports with signatures.
 * @throws WasmMalformedError with the byte offset.
 */
export function readWasmInterface(bytes: Uint8Array): WasmInterface {
  const reader = new Reader(bytes, 0, bytes.length);
  for (const expected of [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]) {
    if (reader.byte() !== expected) throw new WasmMalformedError(reader.position - 1, "bad magic or version");
  }
  const types: string[] = [];
  const out: Parsed = {
    functionImports: [],
    storageImports: [],
    otherImports: [],
    functionSignatures: [],
    functionExports: new Map(),
  };
  while (!reader.done) {
    const id = reader.byte();
    const section = reader.section(reader.u32());
    if (id === SECTION_TYPE) {
      for (let left = section.u32(); left > 0; left--) types.push(readSignature(section));
    } else if (id === SECTION_IMPORT) readImports(section, types, out);
    else if (id === SECTION_FUNCTION) {
      for (let left = section.u32(); left > 0; left--)
        out.functionSignatures.push(types[section.u32()] ?? "?");
    } else if (id === SECTION_EXPORT) {
      for (let left = section.u32(); left > 0; left--) {
        const name = section.name();
        const kind = section.byte();
        const index = section.u32();
        if (kind !== KIND_FUNCTION) continue;
        out.functionExports.set(name, { module: "", name, signature: out.functionSignatures[index] ?? "?" });
      }
    }
  }
  return out;
}
