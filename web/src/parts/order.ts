/** Which studies the worklist showed last, so that next and previous go the same way. */
let shown: string[] = [];

export function rememberOrder(uids: string[]): void {
  shown = uids;
}

export function order(): string[] {
  return shown;
}

export function neighbour(uid: string, step: 1 | -1): string | null {
  const at = shown.indexOf(uid);
  return at < 0 ? null : (shown[at + step] ?? null);
}
