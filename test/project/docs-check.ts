// What the documentation names must be there: files, links, headings, npm scripts, flags, variables, metrics.
import { posix } from "node:path";

export interface World {
  /** Whether a path from the root exists, as a file, a folder or something that the build makes. */
  exists(path: string): boolean;
  /** Scripts of package.json. */
  readonly scripts: readonly string[];
  /** Help texts by command as the documentation writes it ("npm start --", "node build/sidecar.mjs"). */
  readonly help: Readonly<Record<string, string>>;
  /** Text of a Markdown file, for links to its headings. */
  markdown(path: string): string;
  /** Whether our code reads this environment variable. */
  readsVariable(name: string): boolean;
  /** Whether our code defines this metric. */
  definesMetric(name: string): boolean;
}

/** First folders and files of paths that are ours; other things in backticks are not taken for paths. */
const OUR_PATH =
  /^(?:assembly|sidecar|host-sim|cli|scripts|packaging|envoy|charts|test|docs|build|\.ci)\/[\w./-]*[\w/]$|^(?:README|LICENSE|package|asconfig|biome|vitest\.config)(?:\.\w+)?$/;
/** A metric in backticks, perhaps with labels, perhaps a histogram's series. */
const OUR_METRIC = /`(epp_[a-z_]+?)(?:_bucket|_sum|_count)?(?:\{[^}]*\})?`/g;
const OUR_VARIABLE = /\b(?:EPP|ENVOY)_[A-Z0-9_]+\b/g;

/** Faults in one Markdown file, each "path:line: what". */
export function docsFaults(path: string, text: string, world: World): string[] {
  const faults: string[] = [];
  let fenced = false;
  for (const [index, line] of text.split("\n").entries()) {
    const report = (what: string): void => void faults.push(`${path}:${index + 1}: ${what}`);
    if (/^\s*(```|~~~)/.test(line)) {
      fenced = !fenced;
      continue;
    }
    for (const fault of commandFaults(line, fenced, world)) report(fault);
    for (const [name] of line.matchAll(OUR_VARIABLE))
      if (!world.readsVariable(name)) report(`nothing reads ${name}`);
    for (const [, name] of line.matchAll(OUR_METRIC))
      if (!world.definesMetric(name!)) report(`no metric ${name}`);
    if (fenced) continue;
    for (const [, code] of line.matchAll(/`([^`]+)`/g)) {
      if (OUR_PATH.test(code!) && !world.exists(code!)) report(`no file ${code}`);
    }
    for (const [, target] of line.matchAll(/\]\(([^)\s]+)\)/g)) {
      const fault = linkFault(path, target!, world);
      if (fault !== undefined) report(fault);
    }
  }
  return faults;
}

function linkFault(path: string, target: string, world: World): string | undefined {
  if (/^[a-z]+:/.test(target)) return undefined;
  const [file, anchor] = target.split("#") as [string, string?];
  const linked = file === "" ? path : posix.join(posix.dirname(path), file);
  if (!world.exists(linked)) return `link to a missing file ${linked}`;
  if (anchor === undefined || !linked.endsWith(".md")) return undefined;
  return anchorsOf(world.markdown(linked)).includes(anchor)
    ? undefined
    : `${linked} has no heading #${anchor}`;
}

/** Anchors as GitHub makes them of headings. */
export function anchorsOf(markdown: string): string[] {
  const headings = markdown.replace(/^(```|~~~)[\s\S]*?^\1/gm, "").match(/^#{1,6} .*$/gm) ?? [];
  return headings.map((heading) =>
    heading
      .replace(/^#+ /, "")
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .replace(/\s/g, "-"),
  );
}

/** Commands in a fenced line, or in backticks elsewhere. */
function commandFaults(line: string, fenced: boolean, world: World): string[] {
  const commands = fenced
    ? [line.replace(/(^|\s)#.*$/, "")]
    : [...line.matchAll(/`([^`]+)`/g)].map(([, code]) => code!);
  return commands.flatMap((command) => [...scriptFaults(command, world), ...flagFaults(command, world)]);
}

function scriptFaults(command: string, { scripts }: World): string[] {
  const named = [...command.matchAll(/\bnpm (?:run (?:-s )?([\w:-]+)|(start|test)\b)/g)];
  return named
    .map(([, run, short]) => (run ?? short)!)
    .filter((script) => !scripts.includes(script))
    .map((script) => `no npm script "${script}"`);
}

function flagFaults(command: string, { help }: World): string[] {
  return Object.entries(help).flatMap(([prefix, text]) => {
    const at = command.indexOf(`${prefix} `);
    if (at < 0) return [];
    const flags = command.slice(at + prefix.length).match(/(?<=\s)--[a-z][a-z0-9-]*/g) ?? [];
    return flags.filter((flag) => !knowsFlag(text, flag)).map((flag) => `\`${prefix}\` has no ${flag}`);
  });
}

function knowsFlag(help: string, flag: string): boolean {
  return new RegExp(`(^|[\\s,])${flag}(?![\\w-])`, "m").test(help);
}
