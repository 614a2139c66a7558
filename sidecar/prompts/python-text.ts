// Python's idea of white space, which is that of the engines' templates and not that of JavaScript.

/** Characters for which Python's str.isspace holds (Unicode White_Space, and the separators U+001C to U+001F). */
const PYTHON_SPACE = "[\\t-\\r\\x1c- \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const START = new RegExp(`^${PYTHON_SPACE}+`);
const LAST = new RegExp(`^${PYTHON_SPACE}$`);

/** As str.strip() of Python, which Jinja's `trim` is. Linear in the length. */
export function pythonStrip(text: string): string {
  let end = text.length;
  while (end > 0 && LAST.test(text[end - 1]!)) end -= 1;
  return text.slice(0, end).replace(START, "");
}
