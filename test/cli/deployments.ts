// An llm-d endpoint picker's deployment as it is found in the field.
import { parseAllDocuments } from "yaml";

export const documentsOf = (yaml: string): unknown[] =>
  parseAllDocuments(yaml).map((document) => document.toJS());

/** The gateway mode: InferencePool, Deployment, ConfigMap and what the chart adds. */
export const GATEWAY_MODE = `
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: { name: qwen, namespace: llm }
spec:
  selector: { matchLabels: { app: vllm-qwen3-32b } }
  targetPorts: [{ number: 8000 }]
  endpointPickerRef: { name: qwen-epp, port: { number: 9002 }, failureMode: FailClose }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: qwen-epp, namespace: llm }
spec:
  template:
    spec:
      containers:
        - name: epp
          image: ghcr.io/llm-d/llm-d-router-endpoint-picker:v0.10.0
          args: [--pool-name, qwen, --pool-namespace=llm, --config-file, /config/custom.yaml, --v, "4", --tracing=false, --grpc-port, "9002"]
          env: [{ name: NAMESPACE, value: llm }]
        - name: tokenizer
          image: docker.io/vllm/vllm-openai-cpu:v0.19.1
---
apiVersion: v1
kind: ConfigMap
metadata: { name: qwen-epp, namespace: llm }
data:
  default-plugins.yaml: |
    apiVersion: llm-d.ai/v1alpha1
    kind: EndpointPickerConfig
    plugins: [{ type: random-picker }]
  custom.yaml: |
    apiVersion: inference.networking.x-k8s.io/v1alpha1
    kind: EndpointPickerConfig
    featureGates: [flowControl]
    plugins:
    - type: openai-parser
    - type: queue-scorer
    - name: kv
      type: kv-cache-utilization-scorer
    - type: precise-prefix-cache-producer
    - type: prefix-cache-scorer
    - type: latency-scorer
    - type: max-score-picker
    - type: metrics-data-source
      parameters: { scheme: https, path: /m, insecureSkipVerify: true }
    - type: core-metrics-extractor
      parameters: { defaultEngine: sglang }
    - type: utilization-detector
    schedulingProfiles:
    - name: default
      plugins:
      - { pluginRef: queue-scorer, weight: 2 }
      - { pluginRef: kv, weight: 2 }
      - { pluginRef: prefix-cache-scorer, weight: 3 }
      - { pluginRef: latency-scorer, weight: 1 }
      - pluginRef: max-score-picker
    requestHandler: { parsers: [{ pluginRef: openai-parser }] }
    saturationDetector: { pluginRef: utilization-detector }
    dataLayer:
      sources: [{ pluginRef: metrics-data-source, extractors: [{ pluginRef: core-metrics-extractor }] }]
  readme.txt: hello
---
apiVersion: v1
kind: Service
metadata: { name: qwen-epp }
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: { name: high }
---
apiVersion: example.com/v1
kind: Strange
metadata: { name: one }
`;
