// Prints the records of a topic, one a line, with the credential that
// `caliper-edge consumer add NAME TOPIC` printed:
//
//   node reader.js CREDENTIAL-FILE [--once] [--unique]
//
// A message is a batch of records. It is acknowledged after all of them have
// been written, so that nothing is lost; a reader that ends in between gets the
// batch again. With --unique an event that was printed before is left out, as far
// as this process remembers.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { jetstream } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { decompress } from "fzstd";
import snappy from "snappyjs";

const maxUnpackedBytes = 8 << 20; // what a message of format version 1 may have
const idle = 2000; // milliseconds without a message after which --once ends

/** The credential file: `name: value` lines. */
function readCredential(file) {
  const lines = readFileSync(file, "utf8").split("\n").filter((line) => line.includes(": "));
  return Object.fromEntries(lines.map((line) => line.split(/: (.*)/, 2)));
}

/** The records of a message, unpacked; none where it is not one of ours. */
function unpack(message) {
  const header = (name) => message.headers?.get(name) ?? "";
  const version = header("Caliper-Record");
  if (version === "") return new Uint8Array();
  if (version !== "1") throw new Error(`message ${message.seq} has format version ${version}, only 1 is known`);
  const size = Number(header("Caliper-Bytes"));
  if (!(size <= maxUnpackedBytes)) throw new Error(`message ${message.seq} claims ${size} bytes`);
  const body = unpackers(size)[header("Content-Encoding")]?.(message.data);
  if (body?.length !== size) throw new Error(`message ${message.seq} does not unpack to the ${size} bytes of its header`);
  return body;
}

const unpackers = (size) => ({
  "": (data) => data,
  snappy: (data) => snappy.uncompress(data, size),
  zstd: (data) => decompress(data, new Uint8Array(size)),
});

const remembered = 100_000; // events, and up to twice as many
let [recent, before] = [new Set(), new Set()];

/** Where the JSON value that begins at from ends: at the comma, colon or bracket behind it. */
function endOfValue(line, from) {
  for (let i = from, depth = 0; i < line.length; i++) {
    switch (line[i]) {
      case '"':
        for (i++; i < line.length && line[i] !== '"'; i++) if (line[i] === "\\") i++;
        break;
      case "{":
      case "[":
        depth++;
        break;
      case ",":
      case ":":
        if (depth === 0) return i;
        break;
      case "}":
      case "]":
        if (depth-- === 0) return i;
    }
  }
  return line.length;
}

/** The members of a record, each as it stands in the line: parsed, 9007199254740993 and 9007199254740992 are the same. */
function members(line) {
  const found = new Map();
  for (let at = 1; at < line.length; ) {
    const colon = endOfValue(line, at);
    const end = endOfValue(line, colon + 1);
    found.set(line.slice(at + 1, colon - 1), line.slice(colon + 1, end));
    at = end + 1;
  }
  return found;
}

/** Whether an event of this tool, id and content, to the letter, comes for the first time. What was refused always does. */
function isNew(line) {
  const record = members(line);
  if (record.has("reasons") || !record.has("event")) return true;
  const key = createHash("sha256");
  for (const name of ["tool", "id", "event"]) key.update(record.get(name) + "\n"); // a record has no line breaks
  const digest = key.digest("base64");
  const known = recent.has(digest) || before.has(digest);
  if (recent.size >= remembered) [recent, before] = [new Set(), recent];
  recent.add(digest);
  return !known;
}

/** The records without those that came before. */
function unique(records) {
  const lines = new TextDecoder().decode(records).split("\n").filter((line) => line !== "" && isNew(line));
  return lines.map((line) => line + "\n").join("");
}

const [file, ...options] = process.argv.slice(2);
if (!file || options.some((option) => option !== "--once" && option !== "--unique")) {
  console.error("usage: node reader.js CREDENTIAL-FILE [--once] [--unique]");
  process.exit(2);
}
const { server, user, password, stream, consumer: name } = readCredential(file);
const connection = await connect({
  servers: server,
  user,
  pass: password,
  maxReconnectAttempts: -1,
  tls: server.startsWith("tls:") ? {} : undefined, // NODE_EXTRA_CA_CERTS names a CA of your own
});
let stopping = false;
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => (stopping = true));

const consumer = await jetstream(connection).consumers.get(stream, name);
for (let seen = true; !stopping && (seen || !options.includes("--once")); ) {
  seen = false;
  for await (const message of await consumer.fetch({ max_messages: 16, expires: idle })) {
    seen = true;
    const records = unpack(message);
    if (!process.stdout.write(options.includes("--unique") ? unique(records) : records)) await once(process.stdout, "drain");
    message.ack();
    if (stopping) break; // what was fetched and not acknowledged comes again
  }
}
await connection.drain(); // sends the last acknowledgements
