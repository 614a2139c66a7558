// Whether the other end of a loopback connection has read all that was written: what it then gets, it reads apart.
import { readFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 2;
/** An end that stops reading, as a full one does, is not waited for longer than this. */
const PATIENCE_MS = 2_000;

/** Settles once the peer has read everything, the connection is gone, or the peer does not read for a while. */
export async function readByPeer(socket: Socket | null | undefined): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (socket != null && (await hasUnread(socket)) && performance.now() < deadline) await sleep(POLL_MS);
}

async function hasUnread(socket: Socket): Promise<boolean> {
  if (socket.destroyed) return false;
  if (socket.connecting || socket.writableLength > 0) return true;
  const hex = (port: number | undefined): string =>
    `0100007F:${(port ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
  const ends = ` ${hex(socket.remotePort)} ${hex(socket.localPort)} `;
  // Of each socket: number, own address, the other's, state, bytes that wait to be sent and to be read.
  const line = (await readFile("/proc/net/tcp", "utf8")).split("\n").find((one) => one.includes(ends));
  return line !== undefined && !/ [0-9A-F]{2} [0-9A-F]{8}:00000000 /.test(line);
}
