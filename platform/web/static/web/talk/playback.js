// The agent's voice: from pages of Ogg Opus to the loudspeaker, measured on the way.

const DECODER = new URL("../vendor/opus-recorder/decoderWorker.min.js", import.meta.url);
const WORKLET = new URL("./playback-worklet.js", import.meta.url);

const BLOCK_SECONDS = 0.02;
/** Blocks quieter than this are silence: an engine may send silent audio all the time. */
const SILENCE_RMS = 0.003;

export class Playback {
  constructor({ context, onFailure }) {
    this.context = context;
    this.onFailure = onFailure;
    /** What was heard that is not silence; `firstAudioAt` in milliseconds of performance.now(). */
    this.heard = { samples: 0, rms: 0, firstAudioAt: null };
    this.squares = 0;
    this.isDry = true;
  }

  async prepare() {
    this.decoder = new Worker(DECODER);
    this.decoder.onmessage = ({ data }) => data && this.play(data[0]);
    this.decoder.onerror = () => this.onFailure("The agent's voice could not be decoded.");
    this.decoder.postMessage({
      command: "init",
      bufferLength: Math.round(this.context.sampleRate * BLOCK_SECONDS),
      decoderSampleRate: 24000,
      outputBufferSampleRate: this.context.sampleRate,
      resampleQuality: 3,
      numberOfChannels: 1,
    });
    await this.context.audioWorklet.addModule(WORKLET);
    this.node = new AudioWorkletNode(this.context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
    this.node.port.onmessage = () => {
      this.isDry = true;
      this.whenDry?.();
    };
    this.analyser = this.context.createAnalyser();
    this.analyser.fftSize = 1024;
    this.node.connect(this.analyser).connect(this.context.destination);
  }

  /** Decode a page and queue it. A page that begins a new stream restarts the decoder. */
  push(page) {
    this.decoder.postMessage({ command: "decode", pages: page }, [page.buffer]);
  }

  play(block) {
    this.measure(block);
    this.isDry = false;
    this.node.port.postMessage(block, [block.buffer]);
  }

  measure(block) {
    let squares = 0;
    for (const sample of block) squares += sample * sample;
    if (Math.sqrt(squares / block.length) < SILENCE_RMS) return;
    this.heard.firstAudioAt ??= performance.now();
    this.heard.samples += block.length;
    this.squares += squares;
    this.heard.rms = Math.sqrt(this.squares / this.heard.samples);
  }

  /** Let the agent's last words be heard, for so long at most. */
  async drain(limitMs) {
    if (!this.node || this.isDry) return;
    await Promise.race([
      new Promise((resolve) => (this.whenDry = resolve)),
      new Promise((resolve) => setTimeout(resolve, limitMs)),
    ]);
  }

  close() {
    this.decoder?.terminate();
    this.node?.disconnect();
  }
}
