// A strip chart of the conversation: the agent above the line, the caller below, one grid line a second.

const SECONDS_SHOWN = 12;
const SAMPLES_A_SECOND = 20; // as often as Call tells levels
const CAPACITY = SECONDS_SHOWN * SAMPLES_A_SECOND;

export class Trace {
  constructor(canvas) {
    this.canvas = canvas;
    this.reset();
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    // The theme's toggle sets an attribute, of which no media query tells.
    new MutationObserver(() => this.draw()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  reset() {
    this.levels = [];
    this.marks = [];
    this.count = 0;
    this.draw();
  }

  push(levels) {
    this.levels.push(levels);
    this.count += 1;
    if (this.levels.length > CAPACITY) this.levels.shift();
    this.draw();
  }

  /** Write a short text at this moment, such as a turn's time. */
  mark(text) {
    this.marks.push({ text, at: this.count });
    this.marks = this.marks.filter(({ at }) => this.count - at < CAPACITY);
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const { width, height } = canvas.getBoundingClientRect();
    if (!width) return;
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const middle = Math.round(height * 0.56) + 0.5;
    const step = width / CAPACITY;
    // The newest sample stands at the right edge, the grid moves with the paper.
    const xOf = (index) => width - (this.count - index) * step;

    pen.lineWidth = 1;
    pen.strokeStyle = colour("--trace-grid");
    pen.beginPath();
    for (let index = Math.ceil((this.count - CAPACITY) / SAMPLES_A_SECOND) * SAMPLES_A_SECOND; index <= this.count; index += SAMPLES_A_SECOND) {
      const x = Math.round(xOf(index)) + 0.5;
      pen.moveTo(x, 0);
      pen.lineTo(x, height);
    }
    pen.stroke();
    pen.strokeStyle = colour("--trace-line");
    pen.beginPath();
    pen.moveTo(0, middle);
    pen.lineTo(width, middle);
    pen.stroke();

    const first = this.count - this.levels.length;
    const bar = Math.max(1, step - 1);
    const lanes = [["agent", -1, middle - 18, "--trace-agent"], ["caller", 1, height - middle - 6, "--trace-caller"]];
    for (const [who, direction, room, name] of lanes) {
      pen.fillStyle = colour(name);
      this.levels.forEach((levels, index) => {
        const size = deflection(levels[who]) * room;
        if (size < 0.5) return;
        pen.fillRect(xOf(first + index), direction < 0 ? middle - size : middle + 1, bar, size);
      });
    }

    pen.font = `500 11px ${style.fontFamily}`;
    for (const { text, at } of this.marks) {
      const x = Math.round(xOf(at)) + 0.5;
      pen.strokeStyle = colour("--trace-mark");
      pen.beginPath();
      pen.moveTo(x, 4);
      pen.lineTo(x, height - 4);
      pen.stroke();
      pen.fillStyle = colour("--trace-text");
      const isNearEdge = x + pen.measureText(text).width + 8 > width;
      pen.textAlign = isNearEdge ? "right" : "left";
      pen.fillText(text, x + (isNearEdge ? -5 : 5), 13);
    }
  }
}

/** Loudness in decibels, from -52 (nothing) to -14 (the whole lane). */
function deflection(rms) {
  const decibels = 20 * Math.log10(Math.max(rms, 1e-6));
  return Math.max(0, Math.min(1, (decibels + 52) / 38));
}
