// Schemas of autoscalers, with the fields that the manifests use.
//
// Sources: kubernetes/api autoscaling/v2 (v1.34), kedacore/keda config/crd/bases/keda.sh_scaledobjects.yaml, and KEDA's
// "Prometheus" scaler for the trigger's metadata, which the definition leaves open.
const TEXT = { type: "string", minLength: 1 };
const COUNT = { type: "integer", minimum: 1 };
/** resource.Quantity of the Kubernetes API, positive. */
const QUANTITY = { type: "string", pattern: "^[0-9]+(\\.[0-9]+)?(m|k|M|G|Ki|Mi|Gi)?$" };

const object = (required: string[], properties: object): Record<string, unknown> => ({
  type: "object",
  required,
  properties,
});

const REFERENCE = object(["kind", "name"], { apiVersion: TEXT, kind: TEXT, name: TEXT });
const RULES = object([], {
  stabilizationWindowSeconds: { type: "integer", minimum: 0, maximum: 3_600 },
  selectPolicy: { enum: ["Max", "Min", "Disabled"] },
  policies: {
    type: "array",
    minItems: 1,
    items: object(["type", "value", "periodSeconds"], {
      type: { enum: ["Pods", "Percent"] },
      value: COUNT,
      periodSeconds: { type: "integer", minimum: 1, maximum: 1_800 },
    }),
  },
});
const BEHAVIOR = object([], { scaleUp: RULES, scaleDown: RULES });

/** Exactly the figure that its type names. */
const TARGET = {
  ...object(["type"], {
    type: { enum: ["Value", "AverageValue"] },
    value: QUANTITY,
    averageValue: QUANTITY,
  }),
  oneOf: [
    { properties: { type: { const: "Value" } }, required: ["value"], not: { required: ["averageValue"] } },
    {
      properties: { type: { const: "AverageValue" } },
      required: ["averageValue"],
      not: { required: ["value"] },
    },
  ],
};

/** By "group/version/kind". */
export const SCALING_SCHEMAS: Readonly<Record<string, Record<string, unknown>>> = {
  "autoscaling/v2/HorizontalPodAutoscaler": object(["spec"], {
    spec: object(["scaleTargetRef", "maxReplicas"], {
      scaleTargetRef: REFERENCE,
      minReplicas: COUNT,
      maxReplicas: COUNT,
      metrics: {
        type: "array",
        minItems: 1,
        items: object(["type", "external"], {
          type: { enum: ["External"] },
          external: object(["metric", "target"], {
            metric: object(["name"], {
              name: TEXT,
              selector: object([], { matchLabels: { type: "object", additionalProperties: TEXT } }),
            }),
            target: TARGET,
          }),
        }),
      },
      behavior: BEHAVIOR,
    }),
  }),
  "keda.sh/v1alpha1/ScaledObject": object(["spec"], {
    spec: object(["scaleTargetRef", "triggers"], {
      scaleTargetRef: object(["name"], { apiVersion: TEXT, kind: TEXT, name: TEXT }),
      minReplicaCount: { type: "integer", minimum: 0 },
      maxReplicaCount: COUNT,
      pollingInterval: COUNT,
      cooldownPeriod: { type: "integer", minimum: 0 },
      advanced: object([], {
        horizontalPodAutoscalerConfig: object([], { behavior: BEHAVIOR }),
      }),
      triggers: {
        type: "array",
        minItems: 1,
        items: object(["type", "metadata"], {
          type: { enum: ["prometheus"] },
          name: TEXT,
          metricType: { enum: ["Value", "AverageValue"] },
          metadata: object(["serverAddress", "query", "threshold"], {
            serverAddress: { type: "string", pattern: "^https?://" },
            query: TEXT,
            threshold: { type: "string", pattern: "^[0-9]+(\\.[0-9]+)?$" },
            activationThreshold: { type: "string", pattern: "^[0-9]+(\\.[0-9]+)?$" },
          }),
        }),
      },
    }),
  }),
};
