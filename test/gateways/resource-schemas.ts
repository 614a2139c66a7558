// Checks Kubernetes resources against the schemas of their CustomResourceDefinitions, unknown fields included.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { Ajv, type ValidateFunction } from "ajv";
import { parse } from "yaml";
import { ROOT } from "../../cli/envoy.ts";
import { SCALING_SCHEMAS } from "./scaling-schemas.ts";

export const CRD_FOLDER = join(ROOT, "test", "fixtures", "crds");

/** A resource as it stands in a manifest. */
export interface Resource {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly data?: Readonly<Record<string, string>>;
}

type Schema = { [field: string]: unknown };

interface Definition {
  readonly spec: {
    readonly group: string;
    readonly scope: "Namespaced" | "Cluster";
    readonly names: { readonly kind: string };
    readonly versions: readonly {
      readonly name: string;
      readonly schema: { readonly openAPIV3Schema: Schema };
    }[];
  };
}

const CONFIG_MAP_BYTES_MAX = 1_048_576;
const STRINGS = { type: "object", additionalProperties: { type: "string" } };
const PORT = { type: "integer", minimum: 1, maximum: 65_535 };

const NAMES = { type: "array", minItems: 1, items: { type: "string" } };

/** The kinds of Kubernetes itself that the manifests use, with the fields they use (kubernetes/api core/v1, rbac/v1). */
const CORE: Readonly<Record<string, Schema>> = {
  "v1/ConfigMap": { type: "object", properties: { data: STRINGS }, required: ["data"] },
  "v1/Service": {
    type: "object",
    required: ["spec"],
    properties: {
      spec: {
        type: "object",
        required: ["selector", "ports"],
        properties: {
          clusterIP: { type: "string" },
          selector: STRINGS,
          ports: {
            type: "array",
            minItems: 1,
            items: {
              type: "object",
              required: ["port"],
              properties: { name: { type: "string" }, port: PORT, targetPort: PORT },
            },
          },
        },
      },
    },
  },
  "rbac.authorization.k8s.io/v1/Role": {
    type: "object",
    required: ["rules"],
    properties: {
      rules: {
        type: "array",
        minItems: 1,
        items: {
          type: "object",
          required: ["apiGroups", "resources", "verbs"],
          properties: { apiGroups: NAMES, resources: NAMES, resourceNames: NAMES, verbs: NAMES },
        },
      },
    },
  },
  "rbac.authorization.k8s.io/v1/RoleBinding": {
    type: "object",
    required: ["roleRef", "subjects"],
    properties: {
      roleRef: {
        type: "object",
        required: ["apiGroup", "kind", "name"],
        properties: {
          apiGroup: { enum: ["rbac.authorization.k8s.io"] },
          kind: { enum: ["Role", "ClusterRole"] },
          name: { type: "string" },
        },
      },
      subjects: {
        type: "array",
        minItems: 1,
        items: {
          type: "object",
          required: ["kind", "name", "namespace"],
          properties: {
            kind: { enum: ["ServiceAccount"] },
            name: { type: "string" },
            namespace: { type: "string" },
          },
        },
      },
    },
  },
};

const METADATA: Schema = {
  type: "object",
  required: ["name"],
  properties: {
    name: { type: "string", pattern: "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", maxLength: 253 },
    namespace: { type: "string", pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", maxLength: 63 },
    labels: STRINGS,
    annotations: STRINGS,
  },
};

/** The fixtures, read and compiled as needed. */
export class ResourceSchemas {
  private readonly ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
  private readonly schemas = new Map<string, Schema>();
  private readonly clusterScoped = new Set<string>();
  private readonly compiled = new Map<string, ValidateFunction>();

  constructor() {
    for (const [type, schema] of Object.entries({ ...CORE, ...SCALING_SCHEMAS }))
      this.schemas.set(type, schema);
    for (const file of readdirSync(CRD_FOLDER).filter((name) => name.endsWith(".yaml.gz"))) {
      const { spec } = parse(gunzipSync(readFileSync(join(CRD_FOLDER, file))).toString("utf8")) as Definition;
      for (const { name, schema } of spec.versions) {
        const type = `${spec.group}/${name}/${spec.names.kind}`;
        this.schemas.set(type, schema.openAPIV3Schema);
        if (spec.scope === "Cluster") this.clusterScoped.add(type);
      }
    }
  }

  get types(): string[] {
    return [...this.schemas.keys()];
  }

  /** Faults of a resource, each "kind/name path: what"; an unknown kind is one. */
  faults(resource: Resource): string[] {
    const type = `${resource.apiVersion}/${resource.kind}`;
    const where = `${resource.kind}/${resource.metadata?.name}`;
    const schema = this.schemas.get(type);
    if (schema === undefined) return [`${where}: no schema for ${type}`];
    const faults = this.check(type, () => rootSchema(schema), resource);
    if (!this.clusterScoped.has(type) && resource.metadata.namespace === undefined)
      faults.push("/metadata: no namespace");
    for (const [key, text] of Object.entries(resource.data ?? {}))
      if (Buffer.byteLength(text) > CONFIG_MAP_BYTES_MAX) faults.push(`/data/${key}: more than 1 MiB`);
    return faults.map((fault) => `${where} ${fault}`);
  }

  /** Faults of a part for which a resource's own schema says nothing, by a schema at `path` inside of another. */
  partFaults(type: string, path: readonly string[], part: unknown): string[] {
    return this.check(`${type}#${path.join("/")}`, () => strict(this.at(type, path)), part);
  }

  private at(type: string, path: readonly string[]): Schema {
    let schema = this.schemas.get(type);
    for (const step of path) schema = schema?.[step] as Schema | undefined;
    if (schema === undefined) throw new Error(`no schema at ${type} ${path.join("/")}`);
    return schema;
  }

  private check(key: string, schema: () => Schema, value: unknown): string[] {
    let validate = this.compiled.get(key);
    if (validate === undefined) this.compiled.set(key, (validate = this.ajv.compile(schema())));
    if (validate(value)) return [];
    return validate.errors!.map(({ instancePath, message, params }) => {
      const extra = (params as { additionalProperty?: string }).additionalProperty;
      return `${instancePath}: ${message}${extra === undefined ? "" : ` "${extra}"`}`;
    });
  }
}

function rootSchema(schema: Schema): Schema {
  const whole = strict(schema);
  const properties = { ...(whole["properties"] as Schema) };
  Object.assign(properties, {
    apiVersion: { type: "string" },
    kind: { type: "string" },
    metadata: METADATA_STRICT,
  });
  return { ...whole, properties };
}

/**
 * A structural schema (OpenAPI v3 as the API server reads it) as a JSON Schema that refuses unknown fields: the server
 * would drop them, so that a misspelt field does nothing.
 */
function strict(schema: Schema): Schema {
  const { "x-kubernetes-int-or-string": intOrString, "x-kubernetes-preserve-unknown-fields": open } = schema;
  const result: Schema = {};
  for (const [field, value] of Object.entries(schema)) {
    if (field.startsWith("x-") || field === "description" || field === "nullable") continue;
    if (field === "properties") result[field] = mapValues(value as Record<string, Schema>, strict);
    else if (field === "items") result[field] = strict(value as Schema);
    else if (field === "additionalProperties" && typeof value === "object")
      result[field] = strict(value as Schema);
    // allOf, anyOf, oneOf and not add conditions to fields that are declared beside them: they stay as they are.
    else result[field] = value;
  }
  if (intOrString === true) result["type"] = ["integer", "string"];
  const declares = schema["properties"] !== undefined && schema["additionalProperties"] === undefined;
  if (declares && open !== true) result["additionalProperties"] = false;
  if (schema["nullable"] === true && typeof result["type"] === "string")
    result["type"] = [result["type"], "null"];
  return result;
}

function mapValues(record: Record<string, Schema>, map: (schema: Schema) => Schema): Record<string, Schema> {
  return Object.fromEntries(Object.entries(record).map(([key, schema]) => [key, map(schema)]));
}

const METADATA_STRICT = strict(METADATA);
