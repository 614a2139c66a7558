// Words that mean unfinished work, a check switched off, or the place where the code was written.

/** Each is looked for line by line. Names of files where a word is meant are listed with it. */
const FORBIDDEN: readonly { pattern: RegExp; why: string; except?: RegExp }[] = [
  { pattern: /\b(TODO|FIXME|XXX|HACK)\b/, why: "unfinished work" },
  { pattern: /\b(not implemented|for now|simplified|placeholder)\b/i, why: "unfinished work" },
  { pattern: /\b(describe|it|test|suite)\b.*\.(skip|only|todo|fails)\(/, why: "a test switched off" },
  { pattern: /\b(xit|xdescribe|fit|fdescribe)\(/, why: "a test switched off" },
  { pattern: /@ts-nocheck|eslint-disable/, why: "a check switched off" },
  // Decorators on imports are AssemblyScript's own; TypeScript has no such thing.
  { pattern: /@ts-ignore/, why: "a check switched off", except: /^assembly\// },
  { pattern: /EPP_SKIP/, why: "a check switched off" },
  { pattern: /(^|[\s"'`(=])\/(work|home|root)\//, why: "a path of one machine" },
  // Code asks the system for its folder of temporary files; an example that a reader types may name it.
  { pattern: /(^|[\s"'`(=])\/tmp\//, why: "a path of one machine", except: /\.md$/ },
];

/** Faults in one file as "path:line: word (why)". */
export function forbiddenWords(path: string, text: string): string[] {
  return text.split("\n").flatMap((line, index) =>
    FORBIDDEN.flatMap(({ pattern, why, except }) => {
      const match = except?.test(path) === true ? null : pattern.exec(line);
      return match === null ? [] : [`${path}:${index + 1}: ${match[0].trim()} (${why})`];
    }),
  );
}
