// Reads the shape of a Prometheus text page: names, types and label names, without the values.

/**
 * Shape of a page as text, one family a line in order of name: "name | type | samples with label names |
 * bounds".
 * @throws on a sample whose family was not announced
 */
export function pageShape(page: string): string[] {
  const families = new Map<string, { type: string; samples: Set<string>; bounds: Set<string> }>();
  let current = "";
  for (const line of page.split("\n")) {
    const announced = /^# TYPE (\S+) (\S+)$/.exec(line);
    if (announced) {
      current = announced[1]!;
      families.set(current, { type: announced[2]!, samples: new Set(), bounds: new Set() });
    } else if (line !== "" && !line.startsWith("#")) {
      readSample(line, current, families.get(current)!);
    }
  }
  const lines = [...families].map(([name, { type, samples, bounds }]) => {
    return [name, type, [...samples].sort().join(" "), [...bounds].join(" ")].join(" | ").trimEnd();
  });
  return lines.sort();
}

function readSample(line: string, family: string, into: { samples: Set<string>; bounds: Set<string> }): void {
  const match = /^([^\s{]+)(?:\{(.*)\})? (\S+)$/.exec(line);
  if (match === null || !match[1]!.startsWith(family))
    throw new Error(`${line} is not a sample of ${family}`);
  const labels = [...(match[2] ?? "").matchAll(/([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g)];
  for (const [, name, value] of labels) if (name === "le") into.bounds.add(value!);
  const names = labels.map(([, name]) => name!);
  into.samples.add(`${match[1]}{${names.join(",")}}`);
}

/** Value of a sample by its exact name and labels as written. */
export function sampleValue(page: string, sample: string): number {
  const line = page.split("\n").find((each) => each.startsWith(`${sample} `));
  if (line === undefined) throw new Error(`the page has no ${sample}`);
  return Number(line.slice(sample.length + 1));
}
