// Which endpoints pods or slices make: address, port, rank, labels, and whether new work may go there.
import type { EndpointInput } from "../endpoint.ts";
import { KubernetesObjectError } from "./errors.ts";
import { KNOWN_ADDRESSES_MAX } from "./limits.ts";
import type { PodView, SliceView } from "./objects.ts";

/**
 * Remembers which addresses were ready. One that is not ready any more keeps its streams, its slot and what the
 * gateways know of its cache, as draining; one that never was is not listed, as its model is still loading.
 */
export class Readiness {
  private readonly known = new Set<string>();
  private seen = new Set<string>();

  /** @returns ready, draining, or none = not to be listed */
  judge(key: string, ready: boolean, draining: boolean): "ready" | "draining" | "none" {
    if (ready) {
      if (this.known.size < KNOWN_ADDRESSES_MAX) this.known.add(key);
    } else if (!draining && !this.known.has(key)) {
      return "none";
    }
    this.seen.add(key);
    return ready ? "ready" : "draining";
  }

  /** Forgets the addresses that were not judged since the last call: they are gone. */
  sweep(): void {
    for (const key of this.known) if (!this.seen.has(key)) this.known.delete(key);
    this.seen = new Set();
  }
}

/**
 * Endpoints of pods, one a port. Sorted by pod, so that equal fleets make equal lists.
 * @param ports several = ranks of one data-parallel server, in this order
 */
export function podEndpoints(
  pods: Iterable<PodView>,
  ports: readonly number[],
  readiness: Readiness,
): EndpointInput[] {
  const inputs: EndpointInput[] = [];
  const sorted = [...pods].sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const pod of sorted) {
    if (pod.ip === "" || pod.ended) continue;
    // A pod that ends may have been ready when this program did not run yet: it serves until it is gone.
    const state = readiness.judge(`${pod.name} ${pod.ip}`, pod.ready && !pod.ending, pod.ready && pod.ending);
    if (state === "none") continue;
    ports.forEach((port, rank) => {
      if (pod.activePorts !== null && !pod.activePorts.has(port)) return;
      inputs.push({
        address: pod.ip,
        port,
        name: pod.name,
        namespace: pod.namespace,
        nodeAddress: pod.hostIp,
        labels: pod.labels,
        rank: ports.length > 1 ? rank : undefined,
        draining: state === "draining",
      });
    });
  }
  readiness.sweep();
  return inputs;
}

/** A port by its name or number. */
export type PortChoice = string | number;

/**
 * Endpoints of a service's slices, with the labels of the pods behind them.
 * @param choices empty = the only port there is
 * @throws KubernetesObjectError when the choice does not name a port of the slices, or names none of several
 */
export function sliceEndpoints(
  slices: Iterable<SliceView>,
  pods: ReadonlyMap<string, PodView>,
  choices: readonly PortChoice[],
  readiness: Readiness,
): EndpointInput[] {
  const inputs: EndpointInput[] = [];
  for (const slice of ofOneFamily([...slices])) {
    if (slice.endpoints.length === 0) continue;
    const ports = chosenPorts(slice, choices);
    for (const entry of slice.endpoints) {
      const draining = !entry.ready && entry.serving;
      const state = readiness.judge(`${entry.pod} ${entry.address}`, entry.ready, draining);
      if (state === "none") continue;
      const pod = pods.get(entry.pod);
      ports.forEach((port, rank) => {
        if (pod != null && pod.activePorts !== null && !pod.activePorts.has(port)) return;
        inputs.push({
          address: entry.address,
          port,
          name: entry.pod,
          namespace: slice.namespace,
          nodeAddress: pod?.hostIp,
          labels: pod?.labels,
          rank: ports.length > 1 ? rank : undefined,
          draining: state === "draining",
        });
      });
    }
  }
  readiness.sweep();
  return inputs.sort((a, b) => {
    const byName = (a.name ?? "") < (b.name ?? "") ? -1 : (a.name ?? "") > (b.name ?? "") ? 1 : 0;
    return byName || (a.address < b.address ? -1 : a.address > b.address ? 1 : a.port - b.port);
  });
}

/** A dual-stack service lists each pod once a family: the IPv4 slices count if there are any. */
function ofOneFamily(slices: readonly SliceView[]): readonly SliceView[] {
  const of = (family: string): SliceView[] =>
    slices.filter(({ addressType, endpoints }) => addressType === family && endpoints.length > 0);
  const ipv4 = of("IPv4");
  return ipv4.length > 0 ? ipv4 : of("IPv6");
}

function chosenPorts(slice: SliceView, choices: readonly PortChoice[]): number[] {
  const offered = slice.ports.map(({ name, port }) => (name === "" ? String(port) : `${name} (${port})`));
  if (choices.length === 0) {
    if (slice.ports.length === 1) return [slice.ports[0]!.port];
    throw new KubernetesObjectError(
      `the service has ${slice.ports.length} ports: set discovery.kubernetes.ports to some of ${offered.join(", ")}`,
    );
  }
  return choices.map((choice) => {
    const found = slice.ports.find(({ name, port }) => name === choice || port === choice);
    if (found !== undefined) return found.port;
    throw new KubernetesObjectError(
      `the service has no port ${JSON.stringify(choice)}, only ${offered.join(", ")}`,
    );
  });
}
