// Plot: how many requests each replica had over time, a heat map a policy.
import type { LoadSample, RunRecord } from "../../types.ts";
import { axisOf, FAINT_INK, FONT, INK, titleOf } from "./style.ts";
import { renderSvg } from "./svg.ts";

const WIDTH = 1200;
const LEFT = 70;
const RIGHT = 30;
const TOP = 112;
const BOTTOM = 50;
const ROW_HEIGHT = 7;
const PANEL_GAP = 44;
const PANEL_HEIGHT_MIN = 60;
/** Columns of a map at most: samples are averaged over what falls into one. */
const COLUMNS_MAX = 240;
/** Swatches of the key. */
const KEY_WIDTH = 58;
const KEY_HEIGHT = 12;

/** Classes of load by their lowest number of requests, a doubling each. Less than the first is left white. */
const CLASSES = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/** ColorBrewer's YlGnBu: colour-blind safe, light is low (https://colorbrewer2.org). */
const COLOURS = [
  "#ffffd9",
  "#edf8b1",
  "#c7e9b4",
  "#7fcdbb",
  "#41b6c4",
  "#1d91c0",
  "#225ea8",
  "#253494",
  "#081d58",
];

/** A stretch of time in which a replica's load stays in one class. */
export interface LoadStretch {
  readonly replica: number;
  readonly fromMs: number;
  readonly toMs: number;
  /** Index into the classes of load. */
  readonly level: number;
}

/**
 * One map a run, below one another, rows are replicas, all with the same time axis and the same colours.
 * @param runs one workload at one rate, a run a policy
 */
export function loadMapSvg(runs: readonly RunRecord[], title: string): string {
  const panelHeight = Math.max(PANEL_HEIGHT_MIN, ROW_HEIGHT * Math.max(...runs.map((run) => run.replicas)));
  const endMs = runs.flatMap(({ samples }) => samples).reduce((end, { atMs }) => Math.max(end, atMs), 0);
  const top = (index: number): number => TOP + index * (panelHeight + PANEL_GAP);
  const stretches = runs.map(({ samples }) => loadStretches(samples, endMs));
  const levelMax = stretches.flat().reduce((max, { level }) => Math.max(max, level), 0);
  const colours = coloursOf(levelMax + 1);
  const option = {
    title: [
      titleOf(title, "Requests at each replica, waiting and running"),
      ...runs.map(({ policy }, index) => ({
        text: policy,
        left: LEFT,
        top: top(index) - 22,
        padding: 0,
        textStyle: { fontSize: 14, fontFamily: FONT, color: INK },
      })),
    ],
    graphic: key(colours),
    grid: runs.map((_, index) => ({ left: LEFT, right: RIGHT, top: top(index), height: panelHeight })),
    xAxis: runs.map((_, gridIndex) => ({
      ...axisOf(gridIndex === runs.length - 1 ? "time, s" : "", 30),
      type: "value" as const,
      gridIndex,
      min: 0,
      max: endMs / 1000,
      // The replicas count downwards: without this the axis would lie at replica 0, above them.
      axisLine: { onZero: false, lineStyle: { color: FAINT_INK } },
      splitLine: { show: false },
    })),
    yAxis: runs.map((run, gridIndex) => ({
      ...axisOf(`${run.replicas} replicas`, 14),
      type: "value" as const,
      gridIndex,
      min: 0,
      max: run.replicas,
      inverse: true,
      axisLabel: { show: false },
      axisTick: { show: false },
      splitLine: { show: false },
    })),
    series: stretches.map((stretchesOfRun, index) => ({
      type: "custom" as const,
      xAxisIndex: index,
      yAxisIndex: index,
      clip: true,
      renderItem: (_: unknown, api: DrawApi) => drawStretch(api, colours),
      data: stretchesOfRun.map(({ replica, fromMs, toMs, level }) => [
        fromMs / 1000,
        toMs / 1000,
        replica,
        level,
      ]),
    })),
  };
  return renderSvg(option, WIDTH, top(runs.length - 1) + panelHeight + BOTTOM);
}

interface DrawApi {
  value(dimension: number): number | string;
  coord(point: number[]): number[];
}

function drawStretch(api: DrawApi, colours: readonly string[]) {
  const replica = Number(api.value(2));
  const [x, y] = api.coord([Number(api.value(0)), replica]);
  const [right, bottom] = api.coord([Number(api.value(1)), replica + 1]);
  return {
    type: "rect" as const,
    shape: { x: x!, y: y!, width: right! - x!, height: bottom! - y! },
    style: { fill: colours[Number(api.value(3))]! },
  };
}

/**
 * Samples as stretches of equal class, each column of time the mean of its samples. Stretches below the lowest
 * class are left out.
 */
export function loadStretches(samples: readonly LoadSample[], endMs: number): LoadStretch[] {
  const columnCount = Math.min(COLUMNS_MAX, new Set(samples.map(({ atMs }) => atMs)).size);
  const columnMs = Math.max(1, endMs / columnCount);
  const byReplica = new Map<number, { sum: number; count: number }[]>();
  for (const { replica, atMs, waiting, running } of samples) {
    const columns = byReplica.get(replica) ?? [];
    byReplica.set(replica, columns);
    const column = (columns[Math.min(columnCount - 1, Math.floor(atMs / columnMs))] ??= { sum: 0, count: 0 });
    column.sum += waiting + running;
    column.count++;
  }
  const stretches: LoadStretch[] = [];
  for (const [replica, columns] of byReplica) {
    let from = 0;
    const levels = Array.from(columns, (column) => (column ? levelOf(column.sum / column.count) : -1));
    for (let at = 1; at <= levels.length; at++) {
      const level = levels[from]!;
      if (levels[at] === level) continue;
      if (level >= 0) stretches.push({ replica, fromMs: from * columnMs, toMs: at * columnMs, level });
      from = at;
    }
  }
  return stretches;
}

function levelOf(load: number): number {
  return CLASSES.findLastIndex((from) => load >= from);
}

// The lightest to the darkest colour over as many classes as occur.
function coloursOf(classes: number): string[] {
  const last = COLOURS.length - 1;
  return Array.from({ length: classes }, (_, level) => {
    return COLOURS[classes === 1 ? last : Math.round((level * last) / (classes - 1))]!;
  });
}

// Swatches with the range of each class below, at the right of the title.
function key(colours: readonly string[]): object[] {
  const left = WIDTH - RIGHT - colours.length * KEY_WIDTH;
  return colours.flatMap((fill, level) => {
    const x = left + level * KEY_WIDTH;
    return [
      {
        type: "rect",
        shape: { x, y: 44, width: KEY_WIDTH, height: KEY_HEIGHT },
        style: { fill, stroke: FAINT_INK, lineWidth: 0.5 },
      },
      {
        type: "text",
        x: x + KEY_WIDTH / 2,
        y: 62,
        style: { text: rangeOf(level), align: "center", fill: INK, font: `12px ${FONT}` },
      },
    ];
  });
}

function rangeOf(level: number): string {
  const from = CLASSES[level]!;
  const next = CLASSES[level + 1];
  if (next === undefined) return `≥ ${from}`;
  return next === from + 1 ? `${from}` : `${from}–${next - 1}`;
}
