// Root contexts: one per plugin configuration, told apart by the role that the root id names.
//
// Envoy runs vm_start and configure again on a live VM at every listener update, under a new root id,
// while the old root still serves its streams; a root's place is free again after its on_delete.

export const ROLE_UNKNOWN: u32 = 0;
export const ROLE_PICKER: u32 = 1;
export const ROLE_INGEST: u32 = 2;

/** Root contexts alive at once. A further one is refused: configure fails, the old configuration stays. */
export const ROOTS_MAX: u32 = 16;
/** "No such root." */
export const NO_ROOT: u32 = 0xffffffff;

//   ┌ root, 24 bytes: 0 u32 context (0 = free)  4 u32 role  8 u32 configuration (0 = none) ┐
const ROOT_BYTES: usize = 24;
const roots: usize = memory.data(16 * 24, 8);

function rootAt(index: u32): usize {
  return roots + <usize>index * ROOT_BYTES;
}

/** Takes a place for a root context; NO_ROOT when all are taken. */
export function rootAdd(context: u32): u32 {
  for (let i: u32 = 0; i < ROOTS_MAX; i++) {
    const root = rootAt(i);
    if (load<u32>(root) != 0) continue;
    memory.fill(root, 0, ROOT_BYTES);
    store<u32>(root, context);
    return i;
  }
  return NO_ROOT;
}

export function rootFind(context: u32): u32 {
  for (let i: u32 = 0; i < ROOTS_MAX; i++) if (load<u32>(rootAt(i)) == context) return i;
  return NO_ROOT;
}

export function rootRemove(index: u32): void {
  memory.fill(rootAt(index), 0, ROOT_BYTES);
}

export function rootRole(index: u32): u32 {
  return load<u32>(rootAt(index), 4);
}
export function setRootRole(index: u32, role: u32): void {
  store<u32>(rootAt(index), role, 4);
}
/** The root's compiled configuration; 0 = not configured. */
export function rootConfig(index: u32): u32 {
  return load<u32>(rootAt(index), 8);
}
export function setRootConfig(index: u32, config: u32): void {
  store<u32>(rootAt(index), config, 8);
}
