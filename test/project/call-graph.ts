// Which functions of a module can run, found in asc's text output of the unoptimised build.

/** Function names → names of the functions that they call, or whose address they take. */
export interface CallGraph {
  readonly calls: ReadonlyMap<string, ReadonlySet<string>>;
  /** Functions that the host can call. */
  readonly roots: readonly string[];
  /** Functions whose address is in a table: any call_indirect may reach them. */
  readonly inTable: readonly string[];
}

const NAME = "\\$[^\\s()]+";
/** Both spellings of the text format: folded "(call $f …)" and plain "call $f". */
const CALL = new RegExp(`(?:^\\s*|\\()(?:(?:return_)?call|ref\\.func) (${NAME})`, "gm");

/** @param wat text format with names, as `asc --textFile` writes it: one top-level item begins at each ` (` */
export function readCallGraph(wat: string): CallGraph {
  const calls = new Map<string, Set<string>>();
  const roots: string[] = [];
  const inTable: string[] = [];
  for (const item of wat.split(/\n(?= \()/)) {
    const defined = new RegExp(`^ \\(func (${NAME})`).exec(item)?.[1];
    if (defined !== undefined) {
      calls.set(defined, new Set([...item.matchAll(CALL)].map((match) => match[1]!)));
    }
    const exported = new RegExp(`^ \\(export "[^"]*" \\(func (${NAME})\\)\\)`).exec(item)?.[1];
    if (exported !== undefined) roots.push(exported);
    const started = new RegExp(`^ \\(start (${NAME})\\)`).exec(item)?.[1];
    if (started !== undefined) roots.push(started);
    if (item.startsWith(" (elem ")) inTable.push(...(item.match(new RegExp(NAME, "g")) ?? []));
  }
  return { calls, roots, inTable };
}

/** Every function that can run once the host calls an export, with one path of calls that leads there. */
export function reachable({ calls, roots, inTable }: CallGraph): Map<string, readonly string[]> {
  const paths = new Map<string, readonly string[]>();
  const waiting = [...roots, ...inTable].map((name) => [name]);
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const name = next.at(-1)!;
    if (paths.has(name)) continue;
    paths.set(name, next);
    for (const callee of calls.get(name) ?? []) if (!paths.has(callee)) waiting.push([...next, callee]);
  }
  return paths;
}

/** AssemblyScript's allocators and collectors; ~lib/rt/common holds only the layout of object headers. */
const ALLOCATORS = /^\$~lib\/rt\/(?!common\/)|__(new|renew|alloc|realloc|free|pin|unpin|collect|visit)\b/;

/** Paths of calls from an export to an allocator, as "a → b → c". */
export function allocations(graph: CallGraph): string[] {
  return [...reachable(graph)].filter(([name]) => ALLOCATORS.test(name)).map(([, path]) => path.join(" → "));
}
