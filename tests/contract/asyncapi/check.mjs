// Prints what AsyncAPI's own parser says of a document, as one JSON object.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const messages = {};
for (const channel of document?.allChannels() ?? []) messages[channel.address()] = channel.messages().all().map((m) => m.name());
const said = diagnostics.map(({ code, message, path, severity }) => ({ code, message, path: path.join("."), severity }));
console.log(JSON.stringify({ messages, diagnostics: said }));
