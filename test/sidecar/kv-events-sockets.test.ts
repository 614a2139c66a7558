// How many engines one process can follow, by the sockets that it may have.
import { expect, it } from "vitest";
import { loadZeromq } from "../../sidecar/kv-events/zeromq.ts";

/** More than the library has unless told otherwise. */
const SOCKETS = 1_200;

it("follows more engines than the library has sockets for unless it is told", async () => {
  const { Dealer } = await loadZeromq();
  const open: { close(): void }[] = [];
  try {
    while (open.length < SOCKETS) open.push(new Dealer({ linger: 0 }));
  } finally {
    for (const socket of open) socket.close();
  }
  expect(open).toHaveLength(SOCKETS);
});
