// Property values, their binary encodings, and walking a NUL-separated path through them.
import { Result } from "./abi.ts";
import { encodePairs, pairsBytes, type Pair } from "./pairs.ts";

/** A double, as numbers in filter metadata (protobuf Struct) are. */
export class DoubleValue {
  constructor(readonly value: number) {}
}

/** Something with named fields that are computed when asked for. */
export interface PropertySource {
  /** The field, or undefined when there is none. */
  field(name: string): PropertyValue | undefined;
  /** Names of all fields, for whole-map reads. */
  names(): readonly string[];
}

/**
 * A property value: text and bytes as they are, bigint and number as int64 (8 bytes little-endian), boolean as one
 * byte, DoubleValue as an IEEE double, maps and lists as a list of pairs.
 */
export type PropertyValue =
  string | Uint8Array | bigint | number | boolean | DoubleValue | readonly PropertyValue[] | PropertySource;

/** A plain object with fixed fields. */
export function objectSource(fields: Readonly<Record<string, PropertyValue | undefined>>): PropertySource {
  return {
    field: (name) => (Object.hasOwn(fields, name) ? fields[name] : undefined),
    names: () => Object.keys(fields).filter((name) => fields[name] !== undefined),
  };
}

/** JSON that filter metadata may hold. */
export type MetadataJson =
  string | number | boolean | readonly MetadataJson[] | { readonly [key: string]: MetadataJson };

/** A protobuf Struct value: numbers are doubles. */
export function metadataValue(json: MetadataJson): PropertyValue {
  if (typeof json === "number") return new DoubleValue(json);
  if (typeof json !== "object") return json;
  if (Array.isArray(json)) return json.map((one: MetadataJson) => metadataValue(one));
  const fields: Record<string, PropertyValue> = {};
  for (const [name, value] of Object.entries(json)) fields[name] = metadataValue(value);
  return objectSource(fields);
}

function isSource(value: PropertyValue): value is PropertySource {
  return typeof value === "object" && "field" in value;
}

/** Encodes a value as get_property returns it (Envoy source/extensions/common/wasm/context.cc serializeValue). */
export function serializeProperty(value: PropertyValue): Buffer {
  if (typeof value === "string") return Buffer.from(value, "latin1");
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (typeof value === "boolean") return Buffer.from([value ? 1 : 0]);
  const eight = Buffer.alloc(8);
  if (typeof value === "bigint" || typeof value === "number") {
    eight.writeBigInt64LE(BigInt.asIntN(64, BigInt(value)));
    return eight;
  }
  if (value instanceof DoubleValue) {
    eight.writeDoubleLE(value.value);
    return eight;
  }
  const pairs: Pair[] = [];
  if (isSource(value)) {
    for (const name of value.names()) {
      const field = value.field(name);
      if (field !== undefined) pairs.push([name, serializeProperty(field).toString("latin1")]);
    }
  } else {
    for (const item of value) pairs.push([serializeProperty(item).toString("latin1"), ""]);
  }
  const bytes = Buffer.alloc(pairsBytes(pairs));
  encodePairs(pairs, bytes);
  return bytes;
}

/**
 * Walks a path through properties.
 * @param path parts separated by NUL, Latin-1.
 * @param top finds a top-level name.
 * @returns the encoded value, or NotFound, or SerializationFailure for an empty path.
 */
export function readProperty(
  path: string,
  top: (name: string) => PropertyValue | undefined,
): Buffer | typeof Result.NOT_FOUND | typeof Result.SERIALIZATION_FAILURE {
  if (path.length === 0) return Result.SERIALIZATION_FAILURE;
  const parts = path.split("\0");
  // A trailing separator ends the path, it does not add an empty part.
  if (parts.at(-1) === "") parts.pop();
  let value: PropertyValue | undefined = top(parts[0] ?? "");
  for (const part of parts.slice(1)) {
    if (value === undefined) return Result.NOT_FOUND;
    if (Array.isArray(value))
      value = /^\d+$/.test(part) ? (value as PropertyValue[])[Number(part)] : undefined;
    else if (isSource(value)) value = value.field(part);
    else return Result.NOT_FOUND;
  }
  return value === undefined ? Result.NOT_FOUND : serializeProperty(value);
}
