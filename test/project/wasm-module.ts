// Reads what the proofs need of a WebAssembly binary: imports and exports with their types, memory, sections.
// Layout: WebAssembly Core Specification 2.0, chapter 5 (binary format).

export interface TypedName {
  readonly module: string;
  readonly name: string;
  /** As in abi-table.ts: "iii→i"; for anything but a function, its kind. */
  readonly type: string;
}
export interface WasmModule {
  readonly imports: readonly TypedName[];
  readonly exports: readonly Omit<TypedName, "module">[];
  /** Declared size of the module's own memory, 64 KiB pages. */
  readonly memoryPages: number;
  readonly customSections: readonly string[];
  readonly hasStartSection: boolean;
}

const SECTION = { custom: 0, type: 1, import: 2, function: 3, memory: 5, export: 7, start: 8 };
const KINDS = ["function", "table", "memory", "global"];
const VALUE_TYPES: Readonly<Record<number, string>> = {
  0x7f: "i",
  0x7e: "I",
  0x7d: "f",
  0x7c: "F",
  0x7b: "v",
};
const HEADER_BYTES = 8;

/** @throws Error when the bytes are no WebAssembly module, or use what this reader does not know */
export function readWasm(bytes: Uint8Array): WasmModule {
  const reader = new Reader(bytes, HEADER_BYTES);
  if (Buffer.from(bytes.subarray(0, 4)).toString("latin1") !== "\0asm")
    throw new Error("not a WebAssembly module");
  let types: string[] = [];
  let functions: number[] = [];
  let imports: (TypedName & { typeIndex?: number })[] = [];
  let exported: { name: string; kind: number; index: number }[] = [];
  let memoryPages = 0;
  let hasStartSection = false;
  const customSections: string[] = [];
  while (!reader.atEnd()) {
    const id = reader.byte();
    const body = reader.slice(reader.u32());
    if (id === SECTION.custom) customSections.push(body.text());
    if (id === SECTION.type) types = body.list(() => readType(body));
    if (id === SECTION.import) imports = body.list(() => readImport(body, types));
    if (id === SECTION.function) functions = body.list(() => body.u32());
    if (id === SECTION.memory)
      memoryPages = body.list(() => body.limits()).reduce((sum, pages) => sum + pages, 0);
    if (id === SECTION.export)
      exported = body.list(() => ({ name: body.text(), kind: body.byte(), index: body.u32() }));
    if (id === SECTION.start) hasStartSection = true;
  }
  const imported = imports.filter(({ typeIndex }) => typeIndex !== undefined);
  const typeOf = (index: number): string =>
    types[index < imported.length ? imported[index]!.typeIndex! : functions[index - imported.length]!]!;
  const exports = exported.map(({ name, kind, index }) => ({
    name,
    type: kind === 0 ? typeOf(index) : KINDS[kind]!,
  }));
  return {
    imports: imports.map(({ module, name, type }) => ({ module, name, type })),
    exports,
    memoryPages,
    customSections,
    hasStartSection,
  };
}

function readType(body: Reader): string {
  if (body.byte() !== 0x60) throw new Error("a type that is not a function's");
  const values = (): string => body.list(() => VALUE_TYPES[body.byte()] ?? "?").join("");
  return `${values()}→${values()}`;
}

function readImport(body: Reader, types: readonly string[]): TypedName & { typeIndex?: number } {
  const [module, name, kind] = [body.text(), body.text(), body.byte()];
  if (kind === 0) {
    const typeIndex = body.u32();
    return { module, name, type: types[typeIndex]!, typeIndex };
  }
  if (kind === 1) {
    body.byte();
    body.limits();
  } else if (kind === 2) body.limits();
  else body.slice(2);
  return { module, name, type: KINDS[kind]! };
}

class Reader {
  constructor(
    private readonly bytes: Uint8Array,
    private at: number,
  ) {}

  atEnd(): boolean {
    return this.at >= this.bytes.length;
  }

  byte(): number {
    const value = this.bytes[this.at++];
    if (value === undefined) throw new Error("the module ends too early");
    return value;
  }

  /** LEB128. */
  u32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new Error("a number of more than five bytes");
  }

  slice(length: number): Reader {
    const body = new Reader(this.bytes.subarray(this.at, this.at + length), 0);
    this.at += length;
    return body;
  }

  list<T>(read: () => T): T[] {
    return Array.from({ length: this.u32() }, read);
  }

  text(): string {
    const length = this.u32();
    const value = Buffer.from(this.bytes.subarray(this.at, this.at + length)).toString("utf8");
    this.at += length;
    return value;
  }

  /** @returns the minimum */
  limits(): number {
    const flags = this.byte();
    const minimum = this.u32();
    if ((flags & 1) === 1) this.u32();
    return minimum;
  }
}
