// Plays what was decoded, from a short queue: it starts once a little is queued, and falls silent when the queue runs dry.

const START_SECONDS = 0.07; // covers the usual jitter of a network; a caller does not notice it
const CATCH_UP_SECONDS = 0.3; // above this, pauses are left out until the queue is short again; words never are
const QUIET_PEAK = 0.004;

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.blocks = [];
    this.offset = 0; // into the first block
    this.queued = 0; // samples
    this.isPlaying = false;
    this.port.onmessage = ({ data }) => this.push(data);
  }

  push(block) {
    if (this.queued > CATCH_UP_SECONDS * sampleRate && block.every((sample) => Math.abs(sample) < QUIET_PEAK)) return;
    this.blocks.push(block);
    this.queued += block.length;
  }

  process(inputs, [[output]]) {
    if (!this.isPlaying) {
      if (this.queued < START_SECONDS * sampleRate) return true;
      this.isPlaying = true;
    }
    let filled = 0;
    while (filled < output.length && this.blocks.length) {
      const [block] = this.blocks;
      const part = block.subarray(this.offset, this.offset + output.length - filled);
      output.set(part, filled);
      filled += part.length;
      this.offset += part.length;
      if (this.offset === block.length) {
        this.blocks.shift();
        this.offset = 0;
      }
    }
    this.queued -= filled;
    if (!this.queued) {
      this.isPlaying = false;
      this.port.postMessage("dry");
    }
    return true;
  }
}

registerProcessor("playback", Playback);
