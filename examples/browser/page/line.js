// The line to the gateway (talk.py says what goes over it). A line that breaks is made anew, and goes on where it was:
// what is not in Redis yet is kept here, in order, and events that came are not asked for again.
const WINDOW_S = 5, MOST_S = 120, AGAIN_MS = [250, 1000, 3000];

export class Line {
  #run = crypto.randomUUID();
  #socket = null;
  #kept = []; // pieces that are not taken yet, from byte #taken on
  #taken = 0;
  #end = 0; // of what was kept
  #sent = 0;
  #seq = 0;
  #failures = 0;
  #ended = false; // the speaker has finished
  #closed = false;
  #timer;

  // told: { event, ready, held, taken(waiting seconds), broken }
  constructor(rate, told) {
    this.rate = rate;
    this.told = told;
    this.#open();
  }

  // Returns false when too much waits already: then nobody will hear this piece.
  say(piece) {
    if (this.#end - this.#taken > MOST_S * 2 * this.rate) return false;
    this.#kept.push(piece);
    this.#end += piece.byteLength;
    this.#send();
    return true;
  }

  end() {
    this.#ended = true;
    this.#send();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket.close();
  }

  #open() {
    const asked = new URLSearchParams({ run: this.#run, rate: this.rate, at: this.#taken, after: this.#seq });
    const url = new URL(`live?${asked}`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.#socket = new WebSocket(url));
    socket.onmessage = (message) => this.#hear(JSON.parse(message.data));
    socket.onclose = () => this.#again();
    this.#sent = Infinity; // nothing is sent before it is ready
  }

  #again() {
    if (this.#closed) return;
    this.told.broken();
    this.#timer = setTimeout(() => this.#open(), AGAIN_MS[Math.min(this.#failures++, AGAIN_MS.length - 1)]);
  }

  #hear(said) {
    if (said.seq > this.#seq) {
      this.#seq = said.seq;
      this.told.event(said.type, said.data);
    } else if (said.type === "ready") {
      this.#failures = 0;
      this.#sent = said.at;
      this.told.ready();
      this.#send();
    } else if (said.type === "taken") {
      while (this.#kept.length && this.#taken + this.#kept[0].byteLength <= said.at) this.#taken += this.#kept.shift().byteLength;
      this.told.taken((this.#end - this.#taken) / 2 / this.rate);
      this.#send();
    } else if (said.type === "held") {
      this.told.held((this.#end - this.#taken) / 2 / this.rate);
    }
  }

  #send() {
    let at = this.#taken;
    for (const piece of this.#kept) {
      if (at >= this.#sent && at - this.#taken < WINDOW_S * 2 * this.rate) {
        this.#socket.send(piece);
        this.#sent = at + piece.byteLength;
      }
      at += piece.byteLength;
    }
    if (this.#ended && this.#sent === this.#end) {
      this.#socket.send("end");
      this.#sent = Infinity;
    }
  }
}
