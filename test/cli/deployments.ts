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

const CHART_VALUES = `
router:
  modelServers: { type: vllm, matchLabels: { app: vllm-qwen3-32b }, targetPorts: [{ number: 8000 }] }
  epp:
    replicas: 2
    flags: { "ha-enable-leader-election=false": "" }
    pluginsConfigFile: precise.yaml
    pluginsCustomConfig:
      precise.yaml: |
        apiVersion: llm-d.ai/v1alpha1
        kind: EndpointPickerConfig
`;

/** Precise prefix scoring by one plugin, as llm-d's charts had it first. */
export const PRECISE_SCORER = `${CHART_VALUES}
        plugins:
          - { type: tokenizer, parameters: { modelName: Qwen/Qwen3-32B, udsTokenizerConfig: { socketFile: /t.sock } } }
          - type: endpoint-notification-source
          - type: metrics-data-source
          - type: core-metrics-extractor
          - type: single-profile-handler
          - type: decode-filter
          - type: precise-prefix-cache-scorer
            parameters:
              tokenProcessorConfig: { blockSize: 64, hashSeed: "42" }
              speculativeIndexing: true
              indexerConfig:
                tokenizersPoolConfig: { modelName: Qwen/Qwen3-32B, uds: { socketFile: /t.sock } }
                kvBlockIndexConfig: { enableMetrics: true }
              kvEventsConfig:
                topicFilter: "kv@"
                concurrency: 8
                discoverPods: true
                podDiscoveryConfig: { socketPort: 5556 }
          - type: kv-cache-utilization-scorer
          - type: queue-scorer
          - type: max-score-picker
        dataLayer:
          sources:
            - { pluginRef: metrics-data-source, extractors: [{ pluginRef: core-metrics-extractor }] }
            - { pluginRef: endpoint-notification-source, extractors: [{ pluginRef: precise-prefix-cache-scorer }] }
        schedulingProfiles:
          - name: default
            plugins:
              - pluginRef: decode-filter
              - { pluginRef: kv-cache-utilization-scorer, weight: 2.0 }
              - { pluginRef: precise-prefix-cache-scorer, weight: 3.0 }
              - { pluginRef: queue-scorer, weight: 2.0 }
              - pluginRef: max-score-picker
`;

/** The same by a producer that scorers and filters name. */
export const PRECISE_PRODUCER = `${CHART_VALUES}
        plugins:
          - { type: token-producer, parameters: { modelName: Qwen/Qwen3-32B, vllm: { url: "http://render:8000" } } }
          - type: endpoint-notification-source
          - type: precise-prefix-cache-producer
            name: cache
            parameters:
              tokenProcessorConfig: { blockSizeTokens: 64, hashAlgorithm: xxh64 }
              speculativeIndexing: true
              speculativeTTL: 3s
              indexerConfig: { kvBlockIndexConfig: { inMemoryConfig: { size: 1000000, podCacheSize: 128 } } }
              kvEventsConfig:
                engineType: vllm
                topicFilter: "kv@"
                podDiscoveryConfig: { podLabelSelector: app=vllm, socketPort: 5556, replaySocketPort: 5559 }
          - { type: inflight-load-producer, parameters: { prefixMatchInfoProducerName: cache } }
          - { type: prefix-cache-affinity-filter, parameters: { prefixMatchInfoProducerName: cache } }
          - { type: prefix-cache-scorer, parameters: { prefixMatchInfoProducerName: cache } }
          - type: token-load-scorer
        dataLayer: { sources: [{ pluginRef: endpoint-notification-source, extractors: [{ pluginRef: cache }] }] }
        schedulingProfiles:
          - name: default
            plugins:
              - pluginRef: prefix-cache-affinity-filter
              - { pluginRef: prefix-cache-scorer, weight: 3 }
              - pluginRef: token-load-scorer
`;
