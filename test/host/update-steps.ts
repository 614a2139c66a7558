// A listener update on a live VM, as steps that host-sim and a real Envoy go through alike.
import type { ProbeListener } from "./listeners.ts";

const SHARED = { vm: "live", stop: true };

/** The listener that changes, before and after, and one that stays in the same VM. */
export const BEFORE: ProbeListener = { name: "changing", ...SHARED, configuration: "cfg=sdset,mark,first" };
export const AFTER: ProbeListener = {
  name: "changing",
  ...SHARED,
  configuration: "cfg=sdget,mark;sdset,mark,second",
};
/** Refuses to be done until its tick says so. */
export const RELUCTANT: ProbeListener = {
  name: "changing",
  ...SHARED,
  configuration: "not-done|cfg=sdget,mark;tick,20|tick=done",
};
export const LAST: ProbeListener = { name: "changing", ...SHARED, configuration: "cfg=sdget,mark" };
export const STAYING: ProbeListener = { name: "staying", ...SHARED, configuration: "cfg=sdget,mark" };

/** One update: what the new root logged until the old one was asked to go, and what followed. */
export interface UpdatePhase {
  readonly started: readonly string[];
  readonly ended: readonly string[];
}

/**
 * The lines of one update without what varies from run to run: main thread and worker log at the same time, so lines
 * are sorted within each half, and how often a tick came before the drain is left out.
 */
export function updatePhase(log: readonly string[]): UpdatePhase {
  const early = log.filter((line) => line.trim() === "done -> 1").length;
  const ticks = log.filter((line) => line === "on_tick").length - early;
  const kept = log.filter((line) => line !== "on_tick" && line.trim() !== "done -> 1");
  const first = kept.indexOf("on_done");
  const split = first < 0 ? kept.length : first;
  const ended = [...kept.slice(split), ...Array.from({ length: ticks }, () => "on_tick")];
  return { started: kept.slice(0, split).sort(), ended: ended.sort() };
}
