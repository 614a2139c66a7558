// Corrects a program by random conversations that do not come out as it says.
import * as wire from "../../assembly/wire/prompt-programs.ts";
import { conversationsFor, mismatchOf } from "./check.ts";
import type { ProgramDraft } from "./draft.ts";
import { edgesFlag, type Message, THINKING, trimFlag } from "./program.ts";
import { pythonStrip } from "./python-text.ts";
import type { Renderer } from "./render-server.ts";
import { leastWorth } from "./shapes.ts";

/** Each gives up a literal or sets a flag, of which there are fewer. */
const CORRECTIONS_MAX = 32;

/** Gives up what does not hold until all of a round of random conversations come out. Throws what the renderer throws. */
export async function correct(renderer: Renderer, draft: ProgramDraft, random: () => number): Promise<void> {
  let corrections = 0;
  let round = conversationsFor(draft.program, random);
  while (round.length > 0) {
    const messages = round.pop()!;
    if ((await mismatchOf(renderer, draft.program, messages)) === null) continue;
    corrections += 1;
    const isExplained = corrections <= CORRECTIONS_MAX && (await explain(renderer, draft, messages));
    if (!isExplained) return draft.giveUpChat("contents-edited");
    // What was right before the correction may be wrong after it.
    round = conversationsFor(draft.program, random);
  }
}

/** @returns false when neither the order of the roles nor one content by itself is to blame */
async function explain(
  renderer: Renderer,
  draft: ProgramDraft,
  messages: readonly Message[],
): Promise<boolean> {
  const roles = messages.map(({ role }) => role);
  const plain = draft.conversation(roles, null, (word) => word);
  if ((await mismatchOf(renderer, draft.program, plain)) !== null) {
    draft.giveUp(leastWorth(roles), "position-dependent");
    return true;
  }
  for (const [at, message] of messages.entries()) {
    const alone = plain.map((other, index) => (index === at ? message : other));
    if ((await mismatchOf(renderer, draft.program, alone)) === null) continue;
    explainContent(draft, message);
    return true;
  }
  return false;
}

/** Sets the flag by which no such content is rendered, or gives up contents of the role. */
function explainContent(draft: ProgramDraft, { role, content, hasNoCalls = false }: Message): void {
  if (hasNoCalls && draft.set(wire.PROGRAM_EDITS_CALLS)) return;
  if (typeof content !== "string") {
    draft.giveUp(wire.PROMPT_PART_JOIN, "contents-edited");
    return;
  }
  const stripped = pythonStrip(content);
  if (stripped === "" && draft.set(wire.PROGRAM_EDITS_EMPTY)) return;
  const isThought = role === "assistant" && content.includes(THINKING);
  if (isThought && draft.set(wire.PROGRAM_EDITS_THINKING)) return;
  if (stripped !== content) {
    const wasTrimmed = (draft.flags & trimFlag(role)) !== 0;
    draft.flags &= ~trimFlag(role);
    if (draft.set(edgesFlag(role)) || wasTrimmed) return;
  }
  draft.giveUpRole(role, "contents-edited");
}
