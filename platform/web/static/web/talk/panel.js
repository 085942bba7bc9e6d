// Binds the markup of templates/web/_components/talk.html to a Call. A page may hold several; one talks at a time.

import { Call } from "./call.js";
import { CallFailure } from "./failure.js";
import { Trace } from "./trace.js";

const STATUS = {
  asking: "Your browser asks for the microphone…",
  connecting: "Connecting…",
  live: "You are on the line. Speak whenever you like; you may interrupt.",
};

export class TalkPanel {
  constructor(element) {
    this.element = element;
    this.part = (name) => element.querySelector(`[data-talk-${name}]`);
    this.trace = new Trace(this.part("trace"));
    this.part("button").addEventListener("click", () => this.toggle());
    for (const choice of element.querySelectorAll("[data-talk-choice]")) {
      choice.addEventListener("change", () => this.showSuggestions());
    }
    addEventListener("pagehide", () => this.call?.hangUp());
    this.showSuggestions();
  }

  get agent() {
    return this.element.querySelector("[data-talk-choice]:checked")?.value ?? this.element.dataset.agent;
  }

  get region() {
    return this.part("region")?.value ?? this.element.dataset.region;
  }

  get isTalking() {
    return this.call !== undefined && !this.call.hasEnded();
  }

  toggle() {
    if (this.isTalking) this.call.hangUp();
    else this.place();
  }

  place() {
    this.clear();
    this.call = new Call({
      url: () => this.askForTicket(),
      region: this.region,
      onState: (state) => this.showState(state),
      onCaption: (caption) => this.showCaption(caption),
      onStats: (stats) => this.showStats(stats),
      onTool: (tool) => this.showTool(tool),
      onLevel: (levels) => this.trace.push(levels),
      onEnd: (end) => this.showEnd(end),
    });
    // For tests, and for whoever debugs a call in the console.
    window.warmlineCall = this.call;
    this.call.start();
  }

  async askForTicket() {
    const { ticketUrl, csrf } = this.element.dataset;
    const body = new URLSearchParams({ agent: this.agent });
    let response;
    try {
      response = await fetch(ticketUrl, {
        method: "POST", body, headers: { "X-CSRFToken": csrf }, signal: AbortSignal.timeout(15_000),
      });
    } catch {
      throw new CallFailure(navigator.onLine ? "The server could not be reached. Please try again." : "This device is offline.");
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new CallFailure(answer.error ?? "The call could not be started. Please reload the page.");
    this.maxSeconds = answer.max_seconds;
    return answer.url;
  }

  // --- what is shown ---

  clear() {
    clearInterval(this.clock);
    this.part("captions").replaceChildren();
    this.openLine = null;
    this.lastTurns = 0;
    this.trace.reset();
    for (const readout of this.element.querySelectorAll("[data-talk-readout]")) readout.textContent = "–";
    this.part("boot").dataset.state = "";
  }

  showState(state) {
    this.element.dataset.state = state;
    const isOpen = state !== "ended";
    for (const choice of this.element.querySelectorAll("[data-talk-choice], [data-talk-region]")) choice.disabled = isOpen;
    this.part("label").textContent = isOpen ? "Hang up" : "Call again";
    this.part("icon").setAttribute("href", this.part("icon").getAttribute("href").replace(/#.*/, isOpen ? "#hang-up" : "#phone"));
    if (STATUS[state]) this.say(STATUS[state]);
    if (state === "live") this.startClock();
  }

  say(sentence, isError = false) {
    const status = this.part("status");
    status.textContent = sentence;
    status.classList.toggle("is-error", isError);
  }

  startClock() {
    const beganAt = performance.now();
    const tick = () => {
      const elapsed = (performance.now() - beganAt) / 1000;
      const shown = this.maxSeconds ? Math.max(0, this.maxSeconds - elapsed) : elapsed;
      this.readout("clock", clockTime(this.maxSeconds ? Math.ceil(shown) : shown));
      this.element.classList.toggle("is-ending", Boolean(this.maxSeconds) && shown <= 10);
    };
    tick();
    this.clock = setInterval(tick, 250);
  }

  readout(name, text) {
    this.element.querySelector(`[data-talk-readout="${name}"]`).textContent = text;
  }

  showStats(stats) {
    if (stats.recorded) this.say(`${STATUS.live} This call is recorded.`);
    if (stats.max_seconds && !this.maxSeconds) this.maxSeconds = stats.max_seconds;
    if (stats.first_audio_ms != null) this.readout("first-audio", milliseconds(stats.first_audio_ms));
    if (stats.turn_ms != null) this.readout("turn", milliseconds(stats.turn_ms));
    if (stats.cost_nano_dollars != null) this.readout("cost", dollars(stats.cost_nano_dollars));
    if (stats.boot) {
      this.readout("boot", stats.boot);
      this.part("boot").dataset.state = stats.boot;
    }
    if (stats.turns > this.lastTurns && stats.turn_ms != null) this.trace.mark(milliseconds(stats.turn_ms));
    this.lastTurns = stats.turns ?? this.lastTurns;
  }

  showCaption({ role, text, interrupted, isPiece }) {
    // The agent's words come piece by piece while they are spoken; their transcript then takes the pieces' place.
    const joins = role === "agent" && this.openLine;
    const line = joins ? this.openLine : captionLine(role);
    const words = line.querySelector(".said__words");
    words.textContent = isPiece && joins ? words.textContent + text : text;
    line.classList.toggle("said--interrupted", Boolean(interrupted));
    if (!joins) this.append(line);
    if (role === "agent") this.openLine = isPiece ? line : null;
    this.scrollToEnd();
  }

  showTool({ name, ok, duration_ms: durationMs }) {
    const line = captionLine("tool");
    line.querySelector(".said__words").textContent =
      `${name.replaceAll("_", " ")}${ok ? "" : " did not succeed"} · ${milliseconds(durationMs)}`;
    this.append(line);
  }

  append(line) {
    this.part("captions").append(line);
    this.scrollToEnd();
  }

  scrollToEnd() {
    const list = this.part("captions");
    list.scrollTop = list.scrollHeight;
  }

  showEnd({ sentence, isError }) {
    clearInterval(this.clock);
    this.element.classList.remove("is-ending");
    this.maxSeconds = undefined;
    this.say(sentence, isError);
  }

  showSuggestions() {
    for (const list of this.element.querySelectorAll("[data-talk-suggestions]")) {
      list.hidden = list.dataset.talkSuggestions !== this.agent;
    }
  }
}

const SPEAKERS = { agent: "Agent", caller: "You", tool: "Tool" };

function captionLine(role) {
  const line = document.createElement("li");
  line.className = `said said--${role}`;
  for (const [name, text] of [["who", SPEAKERS[role] ?? role], ["words", ""]]) {
    line.append(Object.assign(document.createElement("span"), { className: `said__${name}`, textContent: text }));
  }
  return line;
}

// The same forms as the server's template filters (templatetags/warmline.py).

export function milliseconds(value) {
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(2)} s`;
}

export function dollars(nanoDollars) {
  const amount = nanoDollars / 1e9;
  if (amount === 0 || amount >= 1) return `$${amount.toFixed(2)}`;
  const digits = amount >= 0.01 ? 4 : amount >= 0.0001 ? 6 : 9;
  return `$${amount.toFixed(digits)}`;
}

export function clockTime(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

for (const element of document.querySelectorAll("[data-talk]")) new TalkPanel(element);
