// The stack of scopes: what each open array and object of the body stands for.
import { AT_DEPTH, AT_SCOPE, AT_SCOPES, SCOPE_LIST } from "./layout";

/** Enters an array or object. The scanner has checked the depth. */
export function pushScope(record: usize, scope: u8): void {
  const depth = load<u8>(record, AT_DEPTH) + 1;
  store<u8>(record, depth, AT_DEPTH);
  store<u8>(record + AT_SCOPES + depth, scope);
  store<u8>(record, scope, AT_SCOPE);
}

/** Leaves it. */
export function popScope(record: usize): void {
  const depth = load<u8>(record, AT_DEPTH) - 1;
  store<u8>(record, depth, AT_DEPTH);
  store<u8>(record, load<u8>(record + AT_SCOPES + depth), AT_SCOPE);
}

/** Whether the list that is open is an element of another one. */
export function isNestedList(record: usize): bool {
  return load<u8>(record + AT_SCOPES + load<u8>(record, AT_DEPTH) - 1) == SCOPE_LIST;
}
