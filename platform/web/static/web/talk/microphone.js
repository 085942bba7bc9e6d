// The caller's voice: from the microphone to pages of Ogg Opus, 24 kHz mono, one frame of 20 ms in each.

import { CallFailure } from "./failure.js";

const ENCODER = new URL("../vendor/opus-recorder/encoderWorker.min.js", import.meta.url);

const CONSTRAINTS = { audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true } };

const REFUSALS = {
  NotAllowedError: "The microphone was refused. Allow it for this page beside the browser's address, then press Talk again.",
  NotFoundError: "No microphone was found. Connect one, then press Talk again.",
  NotReadableError: "The microphone could not be opened. Another program may be using it.",
  SecurityError: "This browser does not let this page use the microphone.",
};

/**
 * Ask for the microphone.
 * @throws {CallFailure} refused, missing, in use, or the page is not secure.
 */
export async function askForMicrophone() {
  if (!window.isSecureContext) {
    throw new CallFailure("Browsers open the microphone only for secure pages: use https, or localhost.");
  }
  if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode || !window.WebAssembly) {
    throw new CallFailure("This browser cannot place calls. A current Chrome, Edge, Firefox or Safari can.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia(CONSTRAINTS);
  } catch (error) {
    throw new CallFailure(REFUSALS[error.name] ?? `The microphone could not be opened (${error.name}).`);
  }
}

export class Microphone {
  /** `onPage(Uint8Array)` gets each Ogg page once `begin()` was called; `onLost()` when the device goes away. */
  constructor({ context, stream, onPage, onLost }) {
    this.context = context;
    this.stream = stream;
    this.onPage = onPage;
    for (const track of stream.getTracks()) track.addEventListener("ended", onLost);
  }

  /** Load the encoder and join it to the microphone. Nothing is encoded yet. */
  async prepare() {
    await this.context.audioWorklet.addModule(ENCODER);
    this.source = this.context.createMediaStreamSource(this.stream);
    this.analyser = this.context.createAnalyser();
    this.analyser.fftSize = 1024;
    this.encoder = new AudioWorkletNode(this.context, "encoder-worklet", { numberOfOutputs: 0 });
    this.encoder.port.onmessage = ({ data }) => {
      if (data.message === "page") this.onPage(data.page);
    };
    this.source.connect(this.analyser);
    this.source.connect(this.encoder);
  }

  /** Begin the stream: its two header pages first. */
  begin() {
    this.encoder.port.postMessage({
      command: "init",
      originalSampleRate: this.context.sampleRate,
      encoderSampleRate: 24000,
      encoderApplication: 2048, // voice
      encoderBitRate: 32000,
      encoderComplexity: 5,
      encoderFrameSize: 20,
      maxFramesPerPage: 1,
      numberOfChannels: 1,
      resampleQuality: 3,
    });
    this.encoder.port.postMessage({ command: "getHeaderPages" });
  }

  /** Let the device go, so that the browser's recording sign goes out. */
  close() {
    for (const track of this.stream.getTracks()) track.stop();
    this.encoder?.port.postMessage({ command: "close" });
    this.source?.disconnect();
  }
}
