// The Moshi protocol as a caller sees it: one byte for the kind, then the payload. docs/protocol.md has the whole table.

export const KIND = { HANDSHAKE: 0, AUDIO: 1, TEXT: 2, CONTROL: 3, METADATA: 4, ERROR: 5, PING: 6 };

/** What a caller is told for each close code of gpu_workers/protocol.py, in words of their own side of the line. */
export const CLOSE_SENTENCES = {
  1000: "The call has ended.",
  1001: "The server is restarting. Please call again.",
  1002: "The call ended because of a fault in the connection. Please call again.",
  1003: "The call ended because of a fault in the connection. Please call again.",
  1009: "The call ended because of a fault in the connection. Please call again.",
  1011: "Something failed on the server. The call was recorded, and can be tried again.",
  1013: "All lines are busy at the moment. Please try again in a minute.",
  4401: "This call was not started in time. Please press Talk again.",
  4402: "This account is suspended and takes no calls.",
  4403: "This page may not call this agent.",
  4404: "This agent does not exist, or has not been published.",
  4408: "Nothing was heard for a while, so the call was ended.",
  4429: "All lines of this business are busy. Please try again in a minute.",
  4430: "There were too many calls in a short time. Please try again later.",
  4431: "This account has reached its limit for the month.",
  4432: "The trial of this account has ended.",
  4440: "The time of this call is up.",
  4503: "No agent could be reached. Please try again in a minute.",
  4504: "The agent did not answer in time. Please try again in a minute.",
  4505: "The agent was lost during the call. Please call again.",
  4529: "All lines are busy at the moment. Please try again in a minute.",
  4531: "All lines are busy at the moment. Please try again in a minute.",
};

/** Codes with which a call ends as it should. */
const EXPECTED = new Set([1000, 4440]);

/** Return how a closed socket reads: a sentence, and whether something went wrong. */
export function readClose({ code, reason, wasConnected }) {
  if (code === 1006) {
    const sentence = !navigator.onLine
      ? "This device is offline."
      : wasConnected
        ? "The connection was lost. Please call again."
        : "The voice gateway could not be reached. Please try again in a minute.";
    return { code, sentence, isError: true };
  }
  const sentence = CLOSE_SENTENCES[code] ?? (reason || `The call ended (${code}).`);
  return { code, sentence, isError: !EXPECTED.has(code) };
}

const decoder = new TextDecoder();

/** Return {kind, …} of a message, or null where its kind is unknown and it is to be discarded. */
export function readMessage(buffer) {
  const bytes = new Uint8Array(buffer);
  switch (bytes[0]) {
    case KIND.HANDSHAKE:
      return { kind: KIND.HANDSHAKE };
    case KIND.AUDIO:
      return { kind: KIND.AUDIO, page: bytes.slice(1) };
    case KIND.TEXT:
      return { kind: KIND.TEXT, text: decoder.decode(bytes.subarray(1)) };
    case KIND.METADATA:
      try {
        return { kind: KIND.METADATA, document: JSON.parse(decoder.decode(bytes.subarray(1))) };
      } catch {
        return null;
      }
    case KIND.ERROR:
      return { kind: KIND.ERROR, sentence: decoder.decode(bytes.subarray(1)) };
    default:
      return null;
  }
}

/** Return an audio message around an Ogg page. */
export function audioMessage(page) {
  const message = new Uint8Array(page.length + 1);
  message[0] = KIND.AUDIO;
  message.set(page, 1);
  return message;
}
