// SGLang's approximate radix tree over prompts, on spans instead of characters.
import { ReadyQueue } from "../sources/ready-queue.ts";
import type { Span } from "../types.ts";

/** Key of the child that goes on in the middle of its parent's last span; ids of spans are ≥ 0. */
const SAME_SPAN = -1;
/** One match in so many refreshes the time of what it found (the source saves itself the others). */
const REFRESH_EVERY = 8;

/** Part of a span. */
interface Piece {
  readonly id: number;
  readonly from: number;
  readonly to: number;
}

interface Node {
  pieces: readonly Piece[];
  tokens: number;
  parent: Node | undefined;
  readonly children: Map<number, Node>;
  /** Replicas that were sent prompts through here, with the time of their last use. */
  readonly usedAt: Map<number, number>;
  /** Whom a match names while it is among `usedAt`: at first, who made the node. */
  named: number;
}

/** What a prompt has in common with earlier ones. */
export interface TreeMatch {
  readonly tokens: number;
  /** Who was sent the prompt that goes furthest with this one; −1: nobody was sent any. */
  readonly replica: number;
}

/**
 * One tree for all replicas: a node holds a stretch of prompt and those who were sent it. The source splits
 * at any character, this at any token, which is the same for prompts that are equal exactly in their leading
 * spans.
 *
 * Source: sgl-project/sglang, sgl-model-gateway/src/policies/tree.rs at 03744dbe.
 */
export class SpanTree {
  private readonly root: Node = makeNode([], undefined, -1);
  private readonly sizes = new Map<number, number>();
  private time = 0;

  /** Tokens of the nodes that are the replica's. */
  tokensOf(replica: number): number {
    return this.sizes.get(replica) ?? 0;
  }

  /** The replica was sent this prompt. Only the node where it ends counts as used. */
  insert(spans: readonly Span[], replica: number): void {
    if (!this.root.usedAt.has(replica)) this.root.usedAt.set(replica, 0);
    let node = this.root;
    let rest = piecesOf(spans);
    while (rest.length > 0) {
      const key = keyOf(rest[0]!);
      const child = node.children.get(key);
      if (child === undefined) {
        const leaf = makeNode(rest, node, replica);
        node.children.set(key, leaf);
        node = leaf;
        rest = [];
      } else {
        const shared = sharedTokens(rest, child.pieces);
        node = shared < child.tokens ? split(child, shared) : child;
        rest = dropTokens(rest, shared);
      }
      this.own(node, replica);
    }
    node.usedAt.set(replica, this.time++);
  }

  /** The longest way that a prompt goes, and one replica that went it. */
  match(spans: readonly Span[]): TreeMatch {
    let node = this.root;
    let rest = piecesOf(spans);
    let tokens = 0;
    while (rest.length > 0) {
      const child = node.children.get(keyOf(rest[0]!));
      if (child === undefined) break;
      const shared = sharedTokens(rest, child.pieces);
      tokens += shared;
      node = child;
      if (shared < child.tokens) break;
      rest = dropTokens(rest, shared);
    }
    if (!node.usedAt.has(node.named)) node.named = node.usedAt.keys().next().value ?? -1;
    const now = this.time++;
    if (now % REFRESH_EVERY === 0 && node.named >= 0) node.usedAt.set(node.named, now);
    return { tokens, replica: node.named };
  }

  /** Takes from every replica its least recently used leaves until it has at most `tokensMax`. */
  evict(tokensMax: number): void {
    const leaves = new ReadyQueue<{ node: Node; replica: number }>();
    for (const node of this.nodes()) {
      for (const [replica, at] of node.usedAt) {
        if (this.tokensOf(replica) > tokensMax && isLeaf(node, replica)) leaves.push(at, { node, replica });
      }
    }
    for (;;) {
      const leaf = leaves.take(Number.POSITIVE_INFINITY);
      if (leaf === undefined) return;
      const { node, replica } = leaf;
      if (this.tokensOf(replica) <= tokensMax) continue;
      const { parent } = node;
      this.disown(node, replica);
      const at = parent?.usedAt.get(replica);
      if (parent !== undefined && at !== undefined && isLeaf(parent, replica)) {
        leaves.push(at, { node: parent, replica });
      }
    }
  }

  /** Forgets a replica. */
  remove(replica: number): void {
    for (const node of [...this.nodes()].reverse()) {
      if (node.usedAt.has(replica)) this.disown(node, replica);
    }
    this.root.usedAt.delete(replica);
    this.sizes.delete(replica);
  }

  // All nodes but the root, parents before their children.
  private nodes(): Node[] {
    const found: Node[] = [...this.root.children.values()];
    for (let i = 0; i < found.length; i++) found.push(...found[i]!.children.values());
    return found;
  }

  private own(node: Node, replica: number): void {
    if (node.usedAt.has(replica)) return;
    node.usedAt.set(replica, 0);
    this.sizes.set(replica, this.tokensOf(replica) + node.tokens);
  }

  private disown(node: Node, replica: number): void {
    node.usedAt.delete(replica);
    this.sizes.set(replica, this.tokensOf(replica) - node.tokens);
    if (node.usedAt.size > 0 || node.children.size > 0) return;
    node.parent?.children.delete(keyOf(node.pieces[0]!));
  }
}

function makeNode(pieces: readonly Piece[], parent: Node | undefined, named: number): Node {
  return { pieces, tokens: countTokens(pieces), parent, children: new Map(), usedAt: new Map(), named };
}

// Cuts a node after `tokens` tokens. Returns the upper part, which belongs to whom the node belongs.
function split(node: Node, tokens: number): Node {
  const upper = makeNode(takeTokens(node.pieces, tokens), node.parent, node.named);
  for (const [replica, at] of node.usedAt) upper.usedAt.set(replica, at);
  node.parent!.children.set(keyOf(node.pieces[0]!), upper);
  node.pieces = dropTokens(node.pieces, tokens);
  node.tokens -= tokens;
  node.parent = upper;
  upper.children.set(keyOf(node.pieces[0]!), node);
  return upper;
}

function isLeaf(node: Node, replica: number): boolean {
  for (const child of node.children.values()) if (child.usedAt.has(replica)) return false;
  return true;
}

function piecesOf(spans: readonly Span[]): Piece[] {
  return spans.map(({ id, tokens }) => ({ id, from: 0, to: tokens }));
}

function keyOf({ id, from }: Piece): number {
  return from === 0 ? id : SAME_SPAN;
}

function countTokens(pieces: readonly Piece[]): number {
  let tokens = 0;
  for (const { from, to } of pieces) tokens += to - from;
  return tokens;
}

/** Leading tokens that two stretches, beginning at one place, have in common. */
function sharedTokens(a: readonly Piece[], b: readonly Piece[]): number {
  let shared = 0;
  for (let i = 0; i < a.length && i < b.length; i++) {
    const [left, right] = [a[i]!, b[i]!];
    if (left.id !== right.id || left.from !== right.from) break;
    shared += Math.min(left.to, right.to) - left.from;
    if (left.to !== right.to) break;
  }
  return shared;
}

function takeTokens(pieces: readonly Piece[], tokens: number): Piece[] {
  const taken: Piece[] = [];
  let left = tokens;
  for (const { id, from, to } of pieces) {
    if (left === 0) break;
    const length = Math.min(to - from, left);
    taken.push({ id, from, to: from + length });
    left -= length;
  }
  return taken;
}

function dropTokens(pieces: readonly Piece[], tokens: number): Piece[] {
  let left = tokens;
  let first = 0;
  while (first < pieces.length && pieces[first]!.to - pieces[first]!.from <= left) {
    left -= pieces[first]!.to - pieces[first]!.from;
    first++;
  }
  const rest = pieces.slice(first);
  if (left > 0) rest[0] = { ...rest[0]!, from: rest[0]!.from + left };
  return rest;
}
