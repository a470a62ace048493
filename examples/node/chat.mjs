// A chat from Node, without a package: a message of Celery's protocol 2 by LPUSH, the run's events by XREAD.
//   FW_REDIS_URL=redis://localhost:6379/0 node chat.mjs "Hello"      prints the answer as it is made
// FW_MODEL names the model; with FW_SIGNING_KEYS the message is signed. The broker is the same Redis, without TLS.
import { createHmac, randomUUID } from "node:crypto";
import { connect } from "node:net";

const url = new URL(process.env.FW_REDIS_URL ?? "redis://localhost:6379/0");
const key = (process.env.FW_SIGNING_KEYS ?? "").split(",")[0].trim();
const [task, queue, id] = ["fireworks.chat.complete", "fireworks.chat", process.env.RUN_ID ?? randomUUID()];

const socket = connect(Number(url.port || 6379), url.hostname);
const chunks = socket[Symbol.asyncIterator]();
let unread = Buffer.alloc(0);

const more = async () => (unread = Buffer.concat([unread, (await chunks.next()).value ?? process.exit(1)]));
async function take(size) { // so many bytes, and the line break after them
  while (unread.length < size + 2) await more();
  const text = unread.toString("utf8", 0, size);
  unread = unread.subarray(size + 2);
  return text;
}
async function reply() { // one value of Redis' protocol (RESP 2)
  while (!unread.includes("\r\n")) await more();
  const line = await take(unread.indexOf("\r\n")), rest = line.slice(1);
  if (line[0] === "-") throw new Error(rest);
  if (line[0] === "$") return rest === "-1" ? null : take(Number(rest));
  if (line[0] !== "*") return rest;
  const list = rest === "-1" ? null : [];
  for (let n = Number(rest); n > 0; n--) list.push(await reply());
  return list;
}
function redis(...words) {
  socket.write(`*${words.length}\r\n` + words.map((w) => `$${Buffer.byteLength(w)}\r\n${w}\r\n`).join(""));
  return reply();
}

const [user, password] = [url.username, url.password].map(decodeURIComponent);
if (password) await redis("AUTH", ...(user ? [user] : []), password);
await redis("SELECT", url.pathname.slice(1) || "0");

const request = { model: process.env.FW_MODEL, messages: [{ role: "user", content: process.argv[2] ?? "Hello" }] };
const body = Buffer.from(JSON.stringify([[], { request }, {}]));
const headers = { lang: "js", task, id };
if (key) headers.fw_signature = createHmac("sha256", key).update(`v1\n${id}\n${task}\n`).update(body).digest("hex");
const delivery = { delivery_tag: randomUUID(), delivery_info: { exchange: "", routing_key: queue } };
const properties = { ...delivery, body_encoding: "base64" };
const wrapping = { "content-type": "application/json", "content-encoding": "utf-8" };
await redis("LPUSH", queue, JSON.stringify({ headers, properties, ...wrapping, body: body.toString("base64") }));

const stream = `fw:{${id.at(-1)}}:${id}:events`;
for (let after = "0", over = false; !over; ) { // each event once and in order; `after` resumes exactly there
  const [[, entries]] = (await redis("XREAD", "BLOCK", "5000", "STREAMS", stream, after)) ?? [["", []]];
  for (const [entry, [, , , type, , , , , , data]] of entries) { // seq, type, at, epoch, data: names and values
    after = entry;
    if (type === "chat.delta") process.stdout.write(JSON.parse(data).text);
    if (type === "chat.replaced") process.stdout.write("\n(from the start)\n"); // its worker was lost: the text is void
    if ((over = /^run\.(completed|failed|cancelled)$/.test(type))) console.log(`\n${type}`);
  }
}
socket.end();
