// Follows the KV caches of all replicas of one pool.
import type { Credentials } from "../config/credentials.ts";
import type { KvEventsSettings } from "../config/settings.ts";
import { type Endpoint, labelOf } from "../discovery/endpoint.ts";
import { portOf } from "../discovery/label-notes.ts";
import { codeOf, messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import { hostPort } from "../scrape/page-client.ts";
import type { BlockSink, ReplicaKey } from "./block-sink.ts";
import type { KvEventBatch } from "./events.ts";
import type { HistoryCounts } from "./history.ts";
import { PORT_LABEL, REPLAY_PORT_LABEL } from "./labels.ts";
import { ReplicaBlocks, type BlockCounts } from "./replica-blocks.ts";
import { ReplicaState } from "./replica-state.ts";
import { Subscriber } from "./subscriber.ts";
import { TokenLearner } from "./token-learner.ts";
import { HttpTokenServer } from "./token-server.ts";
import type { TokenTable } from "./token-table.ts";
import { readTokenizer } from "./tokenizer-file.ts";

/** A subscription that ended by an unexpected failure is made anew after this. */
const RESTART_AFTER_MS = 5_000;

/** What a pool lends its KV events. */
export interface KvEventsContext {
  readonly settings: KvEventsSettings;
  /** Of the endpoints' API, for learning tokens. */
  readonly credentials: () => Credentials;
  readonly sink: BlockSink;
  readonly log: Logger;
}

/** One engine that is followed. */
export interface FollowedEngine {
  readonly replica: ReplicaKey;
  readonly state: ReplicaState;
  readonly blocks: ReplicaBlocks;
  readonly counts: HistoryCounts & BlockCounts;
  /** Seconds from the engine's writing to our applying of its last batch; NaN before. */
  readonly lagSeconds: number;
}

class Follower implements FollowedEngine {
  readonly state: ReplicaState;
  readonly blocks: ReplicaBlocks;
  private subscriber: Subscriber;
  private timer: NodeJS.Timeout | null = null;
  private stopped = false;
  /** Counts of subscriptions that failed, so that totals never fall. */
  private readonly retired: Partial<Record<keyof HistoryCounts, number>> = {};

  constructor(
    readonly replica: ReplicaKey,
    private readonly make: (blocks: ReplicaBlocks, state: ReplicaState) => Subscriber,
    private readonly view: {
      readonly tokens: TokenTable;
      readonly sink: BlockSink;
      readonly blocksMax: number;
    },
    private readonly log: Logger,
  ) {
    view.sink.followed?.(replica);
    this.state = new ReplicaState((degraded) => {
      if (this.stopped) return;
      log.debug({ ...replica, state: String(this.state) }, "KV events changed state");
      view.sink.state?.(replica, degraded);
    });
    this.blocks = new ReplicaBlocks({ replica, state: this.state, ...view });
    this.subscriber = make(this.blocks, this.state);
    this.run();
  }

  get counts(): HistoryCounts & BlockCounts {
    const history = { ...this.subscriber.history.counts };
    for (const [name, count] of Object.entries(this.retired)) history[name as keyof HistoryCounts] += count;
    return { ...history, ...this.blocks.counts };
  }

  get lagSeconds(): number {
    return this.subscriber.history.lagSeconds;
  }

  stop(): void {
    this.stopped = true;
    if (this.timer !== null) clearTimeout(this.timer);
    this.subscriber.stop();
    this.blocks.clear();
    this.view.sink.left?.(this.replica);
  }

  private run(): void {
    this.subscriber.run().catch((error: unknown) => {
      if (this.stopped) return;
      this.log.error({ ...this.replica, code: codeOf(error) }, `KV events: ${messageOf(error)}`);
      this.subscriber.stop();
      this.state.setProgress("unreachable");
      this.timer = setTimeout(() => this.renew(), RESTART_AFTER_MS);
    });
  }

  private renew(): void {
    const { counts } = this.subscriber.history;
    for (const name of Object.keys(counts) as (keyof HistoryCounts)[]) {
      this.retired[name] = (this.retired[name] ?? 0) + counts[name];
    }
    this.blocks.clear();
    this.subscriber = this.make(this.blocks, this.state);
    this.run();
  }
}

/** Where one engine publishes. */
interface Source {
  readonly replica: ReplicaKey;
  readonly endpoint: string;
  readonly replayEndpoint: string | null;
}

/** One follower an engine: as many an endpoint as it has data-parallel ranks. */
export class KvEventsMonitor {
  /** By what `Source` says. */
  private readonly followers = new Map<string, Follower>();
  /** Bad labels of the present endpoints, each of which the log has once. */
  private badLabels = new Set<string>();
  private readonly tokens: TokenTable;
  private readonly learner: TokenLearner | null;

  /** @throws FileReadError, TokenizerError */
  constructor(private readonly context: KvEventsContext) {
    const { tokenizerPath } = context.settings;
    this.learner = tokenizerPath === null ? new TokenLearner(context.log) : null;
    this.tokens = this.learner?.table ?? readTokenizer(tokenizerPath!);
  }

  get engines(): Iterable<FollowedEngine> {
    return this.followers.values();
  }

  /** Token ids whose bytes are known. */
  get knownTokens(): number {
    return this.tokens.size;
  }

  /**
   * Text of the tokens of a whole prompt; null = the bytes of one are not known.
   * @param address "ip:port" of the server that told them, of which unknown ones are learnt
   */
  async textOf(address: string, tokens: readonly number[]): Promise<Uint8Array | null> {
    const server = new HttpTokenServer(address, this.context.credentials);
    await this.learner?.learn(server, [tokens]);
    return this.tokens.render(tokens);
  }

  /** Makes `endpoints` the ones to follow. */
  update(endpoints: readonly Endpoint[]): void {
    const wanted = new Map<string, Source>();
    const known = this.badLabels;
    this.badLabels = new Set();
    for (const endpoint of endpoints) {
      this.warnOfLabels(endpoint, known);
      for (const source of this.sourcesOf(endpoint)) wanted.set(JSON.stringify(source), source);
    }
    for (const [key, follower] of this.followers) {
      if (wanted.has(key)) continue;
      follower.stop();
      this.followers.delete(key);
    }
    this.learner?.forgetOthers(new Set(endpoints.map(({ address }) => address)));
    for (const [key, source] of wanted) {
      if (!this.followers.has(key)) this.followers.set(key, this.follow(source));
    }
  }

  stop(): void {
    for (const follower of this.followers.values()) follower.stop();
    this.followers.clear();
  }

  /** An endpoint that discovery knows by its rank is one engine; any other has them all. */
  private sourcesOf(endpoint: Endpoint): readonly Source[] {
    const { settings } = this.context;
    const { address, ip, rank: only } = endpoint;
    const port = portOf(labelOf(endpoint, PORT_LABEL) ?? "") ?? settings.port;
    const replayPort = portOf(labelOf(endpoint, REPLAY_PORT_LABEL) ?? "") ?? settings.replayPort;
    const ranks = only !== null ? [only] : Array.from({ length: settings.ranks }, (_, rank) => rank);
    const at = (first: number, rank: number): string => `tcp://${hostPort(ip, first + rank)}`;
    return ranks.map((rank) => ({
      replica: { address, rank },
      endpoint: at(port, rank),
      replayEndpoint: replayPort === null ? null : at(replayPort, rank),
    }));
  }

  /** @param known what the log has already */
  private warnOfLabels(endpoint: Endpoint, known: ReadonlySet<string>): void {
    for (const label of [PORT_LABEL, REPLAY_PORT_LABEL]) {
      const text = labelOf(endpoint, label);
      if (text === undefined || portOf(text) !== null) continue;
      const message = `label ${label}: ${JSON.stringify(text)}: expected a port number`;
      const key = `${endpoint.address} ${message}`;
      if (!known.has(key)) this.context.log.warn({ endpoint: endpoint.address }, message);
      this.badLabels.add(key);
    }
  }

  private follow({ replica, endpoint, replayEndpoint }: Source): Follower {
    const { settings, sink, log } = this.context;
    const { topic, replayTimeoutMs, idleCheckMs, blocksMax } = settings;
    const target = { endpoint, replayEndpoint, topic, replayTimeoutMs, idleCheckMs };
    const make = (blocks: ReplicaBlocks, state: ReplicaState): Subscriber =>
      new Subscriber(target, { blocks, state, log, learn: this.learnFrom(replica.address) });
    return new Follower(replica, make, { tokens: this.tokens, sink, blocksMax }, log);
  }

  private learnFrom(address: string): ((batch: KvEventBatch) => Promise<void>) | null {
    const { learner } = this;
    if (learner === null) return null;
    const server = new HttpTokenServer(address, this.context.credentials);
    return ({ events }) => {
      const texts = events.flatMap((event) => (event.kind === "stored" ? [event.tokens] : []));
      return learner.learn(server, texts);
    };
  }
}
