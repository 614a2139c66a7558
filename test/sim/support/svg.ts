// Reads SVG as far as tests need it: that it is well-formed, and the texts in it.

const TOKEN = /<(\/?)([A-Za-z][\w:-]*)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>|([^<]+)|<!\[CDATA\[.*?\]\]>/gsy;
const ENTITY = /&(lt|gt|amp|quot|apos|#\d+);|&/g;
const NAMED: Readonly<Record<string, string>> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };

/**
 * The contents of the text elements, in order.
 * @throws Error where a tag is malformed, not closed or closed out of order, or an "&" stands alone
 */
export function svgTexts(svg: string): string[] {
  const open: string[] = [];
  const texts: string[] = [];
  let position = 0;
  TOKEN.lastIndex = 0;
  while (position < svg.length) {
    const match = TOKEN.exec(svg);
    if (match === null)
      throw new Error(`malformed SVG at ${position}: ${svg.slice(position, position + 60)}`);
    position = TOKEN.lastIndex;
    const [, closing, name, , selfClosing, text] = match;
    if (text !== undefined) {
      if (open.at(-1) === "text" || open.at(-1) === "tspan") texts.push(decoded(text));
    } else if (closing === "/") {
      const expected = open.pop();
      if (expected !== name) throw new Error(`</${name}> at ${position}, expected </${expected}>`);
    } else if (name !== undefined && selfClosing === "") {
      open.push(name);
    }
  }
  if (open.length > 0) throw new Error(`<${open.at(-1)}> is not closed`);
  if (!/^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/.test(svg))
    throw new Error("not an SVG document");
  return texts;
}

function decoded(text: string): string {
  return text.replace(ENTITY, (entity, name: string | undefined) => {
    if (name === undefined) throw new Error(`bare "${entity}" in "${text}"`);
    return NAMED[name] ?? String.fromCodePoint(Number(name.slice(1)));
  });
}
