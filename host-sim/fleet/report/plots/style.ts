// How the plots look: colours that the colour-blind tell apart, lines, axes and titles.

export const BACKGROUND = "#ffffff";
export const INK = "#222222";
export const FAINT_INK = "#5a5a5a";
export const GRID_INK = "#dddddd";
export const FONT = "DejaVu Sans, Helvetica, Arial, sans-serif";

/** Okabe and Ito's palette without its yellow, which is faint on white (https://jfly.uni-koeln.de/color/). */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];
const DASHES: readonly ("solid" | number[])[] = ["solid", [7, 4], [2, 3]];

/** Policies that one plot tells apart. */
export const PLOT_POLICIES_MAX = COLOURS.length * DASHES.length;

/** The policy whose line is thick. */
const OWN_POLICY = "epp";

export interface LineStyle {
  readonly color: string;
  readonly type: "solid" | number[];
  readonly width: number;
}

/**
 * A line for each policy, the same wherever the same policies are drawn: ours has the first colour and a thick
 * line, the others the colours after it, then dashes.
 * @throws RangeError beyond PLOT_POLICIES_MAX policies
 */
export function lineStyles(policies: readonly string[]): ReadonlyMap<string, LineStyle> {
  if (policies.length > PLOT_POLICIES_MAX) {
    throw new RangeError(`${policies.length} policies in one plot, expected at most ${PLOT_POLICIES_MAX}`);
  }
  const ordered = [...policies].sort((a, b) => Number(b === OWN_POLICY) - Number(a === OWN_POLICY));
  const styles = ordered.map((policy, index): [string, LineStyle] => [
    policy,
    {
      color: COLOURS[index % COLOURS.length]!,
      type: DASHES[Math.floor(index / COLOURS.length)]!,
      width: policy === OWN_POLICY ? 4 : 2,
    },
  ]);
  return new Map(styles);
}

/** A plot's title, and below it in small what it shows. */
export function titleOf(text: string, subtext: string): object {
  return {
    text,
    subtext,
    left: 16,
    top: 10,
    itemGap: 6,
    textStyle: { fontSize: 18, fontFamily: FONT, color: INK },
    subtextStyle: { fontSize: 13, fontFamily: FONT, color: FAINT_INK },
  };
}

/** An axis with its name along the middle, `gap` pixels off. */
export function axisOf(name: string, gap: number): object {
  return {
    name,
    nameLocation: "middle",
    nameGap: gap,
    nameTextStyle: { fontSize: 13, color: INK, fontFamily: FONT },
    axisLabel: { fontSize: 12, color: INK, fontFamily: FONT },
    axisLine: { show: true, lineStyle: { color: FAINT_INK } },
    axisTick: { show: true, lineStyle: { color: FAINT_INK } },
    splitLine: { show: true, lineStyle: { color: GRID_INK } },
  };
}

/** The policies one below the other, `right` pixels off the right edge. */
export function legendOf(policies: readonly string[], top: number): object {
  return {
    data: [...policies],
    orient: "vertical",
    right: 12,
    top,
    itemWidth: 34,
    textStyle: { fontSize: 13, color: INK, fontFamily: FONT },
  };
}

/** A dashed line across a plot at a value that matters, with its label. */
export function markLineOf(axis: "xAxis" | "yAxis", value: number, label: string): object {
  return {
    silent: true,
    symbol: "none",
    lineStyle: { color: FAINT_INK, type: [4, 4], width: 1.5 },
    label: {
      formatter: label,
      color: FAINT_INK,
      fontSize: 12,
      // Outside the plot, where no line runs through it.
      position: "end",
    },
    data: [{ [axis]: value }],
  };
}
