// One call from a browser: the microphone, the socket and the loudspeaker, and what the page is told of it.
// It knows nothing of the page; panel.js draws. docs/browser-protocol.md describes it.

import { CallFailure } from "./failure.js";
import { Microphone, askForMicrophone } from "./microphone.js";
import { Playback } from "./playback.js";
import { KIND, audioMessage, readClose, readMessage } from "./protocol.js";
import { Pauses, announcing, isResumable, returnAddress } from "./returning.js";

/** Unsent audio above this is stale: about half a second of it. Frames are left out until the network keeps up again. */
const STALE_BYTES = 4000;
const LEVEL_INTERVAL_MS = 50;
/** A cold start takes seconds; the gateway gives up long before this does. */
const ANSWER_TIMEOUT_MS = 90_000;
/** The gateway tells figures every three seconds: a line on which nothing comes for so long is dead. */
const SILENT_LINE_MS = 10_000;

export class Call {
  /**
   * @param {object} options
   * @param {string | (() => Promise<string>)} options.url the WebSocket's address. A function is asked once the microphone
   *   is open, so that a ticket does not grow old while the browser asks its question; it throws CallFailure to refuse.
   * @param {string} [options.region] near the caller: the gateway tries places there first. docs/protocol.md lists them.
   * @param {(state: "asking"|"connecting"|"live"|"reconnecting"|"ended") => void} [options.onState]
   * @param {(caption: {role, text, turn, interrupted, isPiece}) => void} [options.onCaption]
   * @param {(stats: object) => void} [options.onStats] everything that `call` and `stats` metadata said so far.
   * @param {(tool: {name, ok, duration_ms}) => void} [options.onTool]
   * @param {(levels: {caller: number, agent: number}) => void} [options.onLevel] RMS, 20 times a second.
   * @param {(isThere: boolean) => void} [options.onAgent] the agent was lost and another is sought, or is there again.
   * @param {(end: {code, sentence, isError}) => void} [options.onEnd] once, whatever happened.
   */
  constructor({ url, region, onState, onCaption, onStats, onTool, onLevel, onAgent, onEnd }) {
    Object.assign(this, { url, region, onState, onCaption, onStats, onTool, onLevel, onAgent, onEnd });
    this.state = "idle";
    this.stats = {};
    this.captions = [];
    this.framesSent = 0;
    this.framesDropped = 0;
    /** With it a call whose connection was lost is joined again, once: each connection brings a new one. */
    this.resumeToken = null;
    this.returns = 0;
    this.errorSentence = null;
  }

  /** What was heard of the agent: {samples, rms, firstAudioAt}. Silence does not count. */
  get heard() {
    return this.playback?.heard ?? { samples: 0, rms: 0, firstAudioAt: null };
  }

  /** Place the call. To be called from a click, or the browser keeps the loudspeaker silent. Never throws: see onEnd. */
  async start() {
    try {
      this.enter("asking");
      // Made here, inside the click: browsers start a context made later as suspended.
      this.context = new (window.AudioContext ?? window.webkitAudioContext)({ latencyHint: "interactive" });
      const stream = await askForMicrophone();
      if (this.hasEnded()) return stream.getTracks().forEach((track) => track.stop());
      this.enter("connecting");
      await this.prepare(stream);
      const url = typeof this.url === "function" ? await this.url() : this.url;
      if (this.hasEnded()) return;
      this.address = url;
      this.connect(announcing(this.region ? withRegion(url, this.region) : url));
    } catch (error) {
      if (this.hasEnded()) return; // given up meanwhile: what was being prepared is gone
      if (!(error instanceof CallFailure)) console.error(error);
      const sentence = error instanceof CallFailure ? error.message : "The call could not be started.";
      this.end({ code: null, sentence, isError: true });
    }
  }

  hangUp() {
    this.end({ code: 1000, sentence: "You ended the call.", isError: false });
  }

  hasEnded() {
    return this.state === "ended";
  }

  enter(state) {
    this.state = state;
    this.onState?.(state);
  }

  async prepare(stream) {
    this.microphone = new Microphone({
      context: this.context,
      stream,
      onPage: (page) => this.sendPage(page),
      onLost: () => this.end({ code: null, sentence: "The microphone was disconnected.", isError: true }),
    });
    this.playback = new Playback({
      context: this.context,
      onFailure: (sentence) => this.end({ code: null, sentence, isError: true }),
    });
    await Promise.all([this.context.resume(), this.microphone.prepare(), this.playback.prepare()]);
  }

  connect(url) {
    const socket = (this.socket = new WebSocket(url));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => (this.wasConnected = true);
    socket.onmessage = ({ data }) => this.receive(data);
    socket.onclose = ({ code, reason }) => {
      if (socket === this.socket) this.closed({ code, reason }); // else it was given up before
    };
    clearTimeout(this.answerTimer);
    this.answerTimer = setTimeout(
      () => this.end({ code: 4504, sentence: readClose({ code: 4504 }).sentence, isError: true }),
      ANSWER_TIMEOUT_MS,
    );
  }

  closed({ code, reason }) {
    if (this.resumeToken && !this.errorSentence && isResumable(code) && this.comeBack()) return;
    const end = readClose({ code, reason, wasConnected: this.wasConnected });
    // An error message of the server's is nearer to the cause than its close code.
    this.end(end.isError && this.errorSentence ? { ...end, sentence: this.errorSentence } : end);
  }

  /** Try to join the call again after a pause; false where it is too late. */
  comeBack() {
    if (this.hasEnded()) return false;
    if (this.state === "live") {
      this.pauses = new Pauses(this.resumeSeconds * 1000);
      this.enter("reconnecting");
    }
    const pauseMs = this.pauses?.next() ?? null;
    if (pauseMs === null) return false;
    clearTimeout(this.answerTimer);
    this.returnTimer = setTimeout(() => this.connect(returnAddress(this.address, this.resumeToken)), pauseMs);
    return true;
  }

  /** Give up a line on which nothing comes any more: a network that is gone says nothing of it. */
  watchLine() {
    if (this.state !== "live" || performance.now() - this.lastHeardAt < SILENT_LINE_MS) return;
    const dead = this.socket;
    this.socket = null;
    dead.close(4000);
    this.closed({ code: 1006, reason: "" });
  }

  receive(data) {
    this.lastHeardAt = performance.now();
    const message = typeof data === "string" ? null : readMessage(data);
    if (!message || this.hasEnded()) return;
    if (message.kind === KIND.HANDSHAKE) this.begin();
    else if (message.kind === KIND.AUDIO) this.playback.push(message.page);
    else if (message.kind === KIND.TEXT) this.caption({ role: "agent", text: message.text, isPiece: true });
    else if (message.kind === KIND.METADATA) this.readMetadata(message.document);
    else if (message.kind === KIND.ERROR) this.errorSentence = message.sentence;
  }

  begin() {
    if (this.state !== "connecting" && this.state !== "reconnecting") return;
    clearTimeout(this.answerTimer);
    if (this.state === "reconnecting") this.returns += 1;
    else {
      this.levelTimer = setInterval(() => {
        this.onLevel?.(this.levels());
        this.watchLine();
      }, LEVEL_INTERVAL_MS);
    }
    this.microphone.begin(); // each connection carries a stream of its own
    this.enter("live");
  }

  readMetadata({ type, ...document }) {
    if (type === "transcript") this.caption({ ...document, isPiece: false });
    else if (type === "tool") this.onTool?.(document);
    else if (type === "reconnecting") this.onAgent?.(false);
    else if (type === "reconnected") {
      this.errorSentence = null; // another worker goes on
      this.onAgent?.(true);
    } else if (type === "call" || type === "stats") {
      const { resume_token: resumeToken, resume_seconds: resumeSeconds, ...stats } = document;
      if (resumeToken) Object.assign(this, { resumeToken, resumeSeconds: resumeSeconds ?? 30 });
      Object.assign(this.stats, stats);
      this.onStats?.(this.stats);
    }
  }

  caption(caption) {
    this.captions.push(caption);
    this.onCaption?.(caption);
  }

  sendPage(page) {
    if (this.socket?.readyState !== WebSocket.OPEN || this.state !== "live") return;
    if (this.socket.bufferedAmount > STALE_BYTES) {
      this.framesDropped += 1;
      return;
    }
    this.socket.send(audioMessage(page));
    this.framesSent += 1;
  }

  levels() {
    return { caller: loudness(this.microphone.analyser), agent: loudness(this.playback.analyser) };
  }

  end(end) {
    if (this.hasEnded()) return;
    clearTimeout(this.answerTimer);
    clearTimeout(this.returnTimer);
    clearInterval(this.levelTimer);
    if (this.socket && this.socket.readyState <= WebSocket.OPEN) this.socket.close(1000);
    this.enter("ended");
    this.onEnd?.(end);
    this.release();
  }

  async release() {
    this.microphone?.close();
    await this.playback?.drain(1500);
    this.playback?.close();
    if (this.context?.state !== "closed") await this.context?.close();
  }
}

function withRegion(url, region) {
  const address = new URL(url);
  address.searchParams.set("region", region);
  return address.href;
}

function loudness(analyser) {
  const samples = new Float32Array(analyser.fftSize);
  analyser.getFloatTimeDomainData(samples);
  let squares = 0;
  for (const sample of samples) squares += sample * sample;
  return Math.sqrt(squares / samples.length);
}
