// Labels of an endpoint that are ours or llm-d's, and whose value will not do what was meant.
import { PORT_LABEL, REPLAY_PORT_LABEL } from "../kv-events/labels.ts";
import {
  type Endpoint,
  type EndpointInput,
  labelOf,
  makeEndpoint,
  ROLE_LABEL,
  ROLE_VALUES,
} from "./endpoint.ts";

/** Labels that only this project reads begin so. */
const OWN = "epp-wasm/";
const PORT_LABELS: readonly string[] = [PORT_LABEL, REPLAY_PORT_LABEL];

/** A label's text as a port number; null = it is none. */
export function portOf(text: string): number | null {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  return port >= 1 && port <= 65_535 ? port : null;
}

/** The same of a configured list, with each label's path; `field` is the list's. */
export function staticNotes(list: readonly EndpointInput[], field: string): string[] {
  return list.flatMap((input, index) => {
    const endpoint = makeEndpoint(input);
    if (typeof endpoint === "string") return [];
    return labelNotes(endpoint).map((note) => `${field}[${index}].labels.${note}`);
  });
}

/** What to tell of an endpoint's labels, "label: value: expectation" each. */
export function labelNotes(endpoint: Endpoint): string[] {
  const notes: string[] = [];
  const role = labelOf(endpoint, ROLE_LABEL);
  if (role !== undefined && endpoint.roles === 0) {
    notes.push(
      `${ROLE_LABEL}: ${JSON.stringify(role)}: expected one of ${ROLE_VALUES}; it is in no role's profile`,
    );
  }
  for (const [label, value] of endpoint.labels) {
    const quoted = JSON.stringify(value);
    if (PORT_LABELS.includes(label)) {
      if (portOf(value) === null) notes.push(`${label}: ${quoted}: expected a port number, 1 to 65535`);
    } else if (label.startsWith(OWN)) {
      notes.push(`${label}: ${quoted}: no such label: expected one of ${PORT_LABELS.join(", ")}`);
    }
  }
  return notes;
}
