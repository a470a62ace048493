// On the audio thread: what the microphone gives, as PCM16 in pieces of a tenth of a second. "stop" gives the rest, then null.
class Microphone extends AudioWorkletProcessor {
  #piece = new Int16Array(Math.round(sampleRate / 10));
  #length = 0;
  #stopped = false;

  constructor() {
    super();
    this.port.onmessage = () => {
      this.#give();
      this.port.postMessage(null);
      this.#stopped = true;
    };
  }

  process([[channel = []]]) {
    for (const sample of channel) {
      this.#piece[this.#length++] = Math.round(Math.max(-1, Math.min(1, sample)) * 32767);
      if (this.#length === this.#piece.length) this.#give();
    }
    return !this.#stopped;
  }

  #give() {
    if (this.#length && !this.#stopped) this.port.postMessage(this.#piece.slice(0, this.#length));
    this.#length = 0;
  }
}

registerProcessor("microphone", Microphone);
