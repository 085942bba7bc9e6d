// Coming back to a call whose connection was lost: where to, and after which pauses. docs/protocol.md has the rules.

/** With these codes a call may be joined again: the server restarts, the line is gone, no place is free at the moment. */
const RESUMABLE = new Set([1001, 1006, 1012, 1013]);
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 4000;

export const isResumable = (code) => RESUMABLE.has(code);

/** Return the address of a call with the word that this client comes back by itself. */
export function announcing(url) {
  const address = new URL(url);
  address.searchParams.set("resume", "1");
  return address.href;
}

/** Return where a call that was placed at `url` is joined again. */
export function returnAddress(url, token) {
  const address = new URL(url);
  // The last four parts are /call/TICKET/api/chat or /agent/KEY/api/chat; a gateway may stand below a path of its own.
  const base = address.pathname.replace(/\/[^/]+\/[^/]+\/api\/chat\/?$/, "");
  address.pathname = `${base}/call/resume/${encodeURIComponent(token)}/api/chat`;
  address.search = "";
  return address.href;
}

/** Pauses between attempts: each twice as long as the one before, none like another caller's, for so long in all. */
export class Pauses {
  constructor(limitMs) {
    this.endsAt = performance.now() + limitMs;
    this.pauseMs = FIRST_PAUSE_MS;
  }

  /** Return how long to wait before the next attempt in ms, or null where it is too late for one. */
  next() {
    const pauseMs = this.pauseMs * (0.75 + Math.random() / 2);
    this.pauseMs = Math.min(2 * this.pauseMs, LONGEST_PAUSE_MS);
    return performance.now() + pauseMs < this.endsAt ? pauseMs : null;
  }
}
