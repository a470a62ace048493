// The page: the microphone at one end, words at the other. What comes from elsewhere is shown as text, never as markup.
import { Line } from "./line.js";

const [button, state, level, words, notes] = ["speak", "state", "level", "words", "notes"].map((id) => document.getElementById(id));
const REFUSED = {
  NotAllowedError: "The microphone was refused. Allow it for this page in the browser's settings, then press Speak.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "Another program holds the microphone.",
};
const QUALITY = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
const MOST_NOTES = 20;
let stop = null;

button.onclick = () => (stop ? stop() : speak());

async function speak() {
  button.disabled = true;
  words.replaceChildren();
  notes.replaceChildren();
  let microphone;
  try {
    if (!navigator.mediaDevices) throw new Error("Browsers give the microphone to https and localhost only.");
    tell("waiting", "Waiting for the microphone.");
    microphone = await listen();
  } catch (refused) {
    tell("failed", REFUSED[refused.name] ?? refused.message);
    button.disabled = false;
    return;
  }
  talk(microphone);
}

// At the machine's own rate: the service converts it better than browsers do, and Firefox takes no other.
async function listen() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: QUALITY });
  const [track] = stream.getTracks();
  const context = new AudioContext();
  const close = () => (track.stop(), context.close());
  try {
    if (context.sampleRate > 48000) throw new Error(`${context.sampleRate} Hz are more than the service takes.`);
    await context.audioWorklet.addModule(new URL("microphone.js", import.meta.url));
    const options = { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" };
    const node = new AudioWorkletNode(context, "microphone", options);
    context.createMediaStreamSource(stream).connect(node);
    return { rate: context.sampleRate, pieces: node.port, track, close };
  } catch (failed) {
    close();
    throw failed;
  }
}

function talk(microphone) {
  let [lost, before] = [0, null];
  tell("waiting", "Connecting.");
  const line = new Line(microphone.rate, {
    event: (type, data) => show(type, data) && finish(),
    ready: () => before && tell(...before),
    held: (seconds) => tell("held", `The service is behind: ${seconds.toFixed(0)} s of you wait here.`),
    taken: () => state.dataset.state === "held" && tell("live", "Listening."),
    broken: () => {
      if (state.dataset.state !== "broken") before = [state.dataset.state, state.textContent];
      tell("broken", "The line is broken. What you say is kept; trying again.");
    },
  });
  const finish = () => {
    line.close();
    microphone.close();
    level.value = 0;
    button.disabled = false;
    button.textContent = "Speak";
    stop = null;
  };
  microphone.pieces.onmessage = ({ data: piece }) => {
    if (piece === null) return line.end();
    level.value = piece.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0) / 32767;
    if (line.say(piece)) lost = 0;
    else if (!lost++) note("Too much waits: what you say now is lost.");
  };
  stop = () => {
    button.disabled = true;
    microphone.pieces.postMessage("stop");
  };
  microphone.track.onended = () => stop?.();
  button.disabled = false;
  button.textContent = "Stop";
}

function tell(name, text) {
  state.dataset.state = name;
  state.textContent = text;
}

function note(text) {
  notes.append(element("li", "", text));
  if (notes.children.length > MOST_NOTES) notes.firstChild.remove();
}

function element(tag, kind, text) {
  const made = document.createElement(tag);
  made.className = kind;
  made.textContent = text;
  return made;
}

// -- the transcript ----------------------------------------------------------------------------------------------------

const seconds = (data) => `${data.start.toFixed(1)} to ${data.end.toFixed(1)} s`;

// What each event does to the page; the run's other events do nothing.
const SHOWN = {
  "run.queued": () => tell("waiting", "Waiting for a worker. You may speak already."),
  "run.resumed": () => (interim(""), note("Another worker took over.")),
  "stt.connected": () => tell("live", "Listening."),
  "stt.interim": (data) => interim(data.text),
  "stt.final": (data) => (interim(""), final(data.text, data.glued)),
  "stt.retracted": () => interim(""),
  "stt.end_of_speech": () => paragraph().textContent && words.append(element("p", "", "")),
  "stt.lag": (data) => data.full ? tell("lagging", `The service is ${data.behind_s.toFixed(0)} s behind.`) : tell("live", "Listening."),
  "stt.gap": (data) => mark("gap", ` [${seconds(data)}: not heard] `),
  "stt.lost": () => (interim(""), tell("waiting", "The recogniser hung up. Connecting again; nothing is lost.")),
  "stt.reconnecting": () => interim(""),
  "stt.trouble": (data) => note(`${data.kind}: ${data.message}`),
  "stt.closed": () => interim(""),
  "run.completed": () => tell("idle", "The session is over."),
  "run.cancelled": (data) => tell("idle", `The session was cancelled. ${data.reason ?? ""}`),
  "run.failed": (data) => tell("failed", `The session failed: ${data.failure?.message ?? data.failure?.code ?? "nobody knows why"}`),
};
const LAST = ["run.completed", "run.cancelled", "run.failed"];

// Shows one event of the run; returns whether it was the last.
export function show(type, data) {
  SHOWN[type]?.(data);
  scrollTo(0, document.body.scrollHeight);
  return LAST.includes(type);
}

const paragraph = () => words.lastElementChild ?? words.appendChild(element("p", "", ""));

function mark(kind, text) {
  const before = paragraph().querySelector(".interim");
  paragraph().insertBefore(element("span", kind, text), before);
}

function final(text, glued) {
  mark("final", paragraph().querySelector(".final") && !glued ? ` ${text}` : text);
}

// All that is not final stands in one place, at the end.
function interim(text) {
  words.querySelector(".interim")?.remove();
  if (text) paragraph().append(element("span", "interim", (paragraph().textContent ? " " : "") + text));
}
