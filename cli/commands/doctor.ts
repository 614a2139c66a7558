// `epp-wasm doctor`: what is wrong with a running gateway and its sidecar, and how to mend it.
import type { Command } from "commander";
import { addressOf, controlPlaceOf } from "./doctor/address.ts";
import { AdminUnreachableError, collect, type Observation, type Places } from "./doctor/collect.ts";
import { decodeRetryFindings } from "./doctor/decode-retry-checks.ts";
import { error, type Finding } from "./doctor/finding.ts";
import { mirrorFindings } from "./doctor/mirror-checks.ts";
import { moduleFindings } from "./doctor/module-checks.ts";
import {
  bufferFindings,
  envoyFindings,
  pluginFindings,
  readinessFindings,
  snapshotFindings,
  statisticsFindings,
} from "./doctor/plugin-checks.ts";
import { policyFindings } from "./doctor/policy-checks.ts";
import { sidecarNotes } from "./doctor/sidecar-notes.ts";
import { routeFindings } from "./doctor/route-checks.ts";

const CHECKS: readonly ((observation: Observation) => Finding[])[] = [
  envoyFindings,
  moduleFindings,
  pluginFindings,
  bufferFindings,
  routeFindings,
  decodeRetryFindings,
  mirrorFindings,
  snapshotFindings,
  readinessFindings,
  statisticsFindings,
  policyFindings,
];
const ADMIN_DEFAULT = "http://127.0.0.1:9901";
/** Exit codes: nothing found, warnings only, an error. */
const EXIT_HEALTHY = 0;
const EXIT_WARNINGS = 1;
const EXIT_ERRORS = 2;

/** Findings of one gateway, errors first. */
export interface Examination {
  readonly findings: readonly Finding[];
  /** What was not looked at, and why. */
  readonly unseen: readonly string[];
  /** What is no fault, and good to know. */
  readonly notes: readonly string[];
  /** Envoy's version; undefined = it could not be reached. */
  readonly version?: string;
}

/** Looks at a gateway. Never throws for what is wrong with it: an Envoy that cannot be reached is a finding. */
export async function examine(places: Places): Promise<Examination> {
  let observation: Observation;
  try {
    observation = await collect(places);
  } catch (failure) {
    if (!(failure instanceof AdminUnreachableError)) throw failure;
    const mend = "Give the admin listener's address with --admin; in Kubernetes, forward its port first.";
    return { findings: [error("admin-unreachable", failure.message, mend)], unseen: [], notes: [] };
  }
  return { ...judge(observation), version: observation.version };
}

/** Judges what was collected. */
export function judge(observation: Observation): Examination {
  const findings = CHECKS.flatMap((check) => check(observation));
  const unseen: string[] = [];
  if (observation.readiness === null) unseen.push("the sidecar's readiness: no --sidecar was given");
  if (observation.status === null) unseen.push("the snapshot: there is no control listener to ask");
  return { findings: findings.sort((a, b) => rank(a) - rank(b)), unseen, notes: sidecarNotes(observation) };
}

function rank({ severity }: Finding): number {
  return severity === "error" ? 0 : 1;
}

/** 0 healthy, 1 warnings only, 2 at least one error. */
export function exitCodeOf(findings: readonly Finding[]): number {
  if (findings.some(({ severity }) => severity === "error")) return EXIT_ERRORS;
  return findings.length > 0 ? EXIT_WARNINGS : EXIT_HEALTHY;
}

/** The findings as text for people. */
export function describeExamination({ findings, unseen, notes, version }: Examination): string {
  const lines = findings.flatMap(({ severity, code, what, mend }) => [
    `${severity.padEnd(7)} ${code}: ${what}`,
    `        → ${mend}`,
  ]);
  const errors = findings.filter(({ severity }) => severity === "error").length;
  const verdict =
    findings.length === 0
      ? "no findings"
      : `${counted(errors, "error")}, ${counted(findings.length - errors, "warning")}`;
  const envoy = version === undefined ? "" : `Envoy ${version}: `;
  const beside = [...unseen.map((what) => `not seen: ${what}`), ...notes.map((note) => `note: ${note}`)];
  return [...lines, ...beside, `${envoy}${verdict}`].join("\n");
}

interface Flags {
  readonly admin: string;
  readonly sidecar?: string;
  readonly control?: string;
  readonly json?: boolean;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** Adds the command. */
export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .description("looks at a running Envoy and sidecar; exits 0 healthy, 1 with warnings, 2 with errors")
    .option("--admin <address>", "Envoy's admin listener, host:port or a URL", ADMIN_DEFAULT)
    .option("--sidecar <address>", "the sidecar's HTTP server (--listen)")
    .option(
      "--control <where>",
      "control listener: unix:/path, host:port or a URL (token: EPP_CONTROL_TOKEN); else as Envoy has it",
    )
    .option("--json", "print the findings as JSON")
    .action(async ({ admin, sidecar, control, json }: Flags) => {
      const token = process.env["EPP_CONTROL_TOKEN"] ?? "";
      const examination = await examine({
        admin: addressOf("--admin", admin),
        sidecar: sidecar === undefined ? undefined : addressOf("--sidecar", sidecar),
        control: control === undefined ? undefined : controlPlaceOf(control),
        token,
      });
      const text = json === true ? JSON.stringify(examination, null, 2) : describeExamination(examination);
      process.stdout.write(`${text}\n`);
      process.exitCode = exitCodeOf(examination.findings);
    });
}
