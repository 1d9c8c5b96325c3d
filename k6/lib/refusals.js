// What a request can do by itself to be refused, and what it must be told: the table of statuses in README.md, less those
// that take a slow connection, a rate limit or a store that is away.
import { engage, bodyOf } from "./envelopes.js";
import { headers, origin } from "./endpoint.js";

const good = JSON.parse(bodyOf(engage[0]));
const enveloped = (members) => JSON.stringify({ ...good, ...members });
const event = (members) => enveloped({ data: [{ ...good.data[0], ...members }] });

const notJSON = "application/json payload expected.";
const unknown = "Bearer token missing or not recognized";
const notConformant = "Caliper envelope is non-conformant.";
const { Authorization, ...anonymous } = headers;

/** Small requests: of each its name, the status, the message, and what it is made of. */
export const refusals = [
  ["no envelope", 400, "Body is not a Caliper envelope.", { body: "[]" }],
  ["no sensor", 400, notConformant, { body: enveloped({ sensor: null }) }],
  ["no data", 400, notConformant, { body: enveloped({ data: [] }) }],
  ["no event conforms", 400, "No event in the Caliper envelope is conformant.", { body: event({ actor: 554433 }) }],
  ["no token", 401, unknown, { headers: anonymous }],
  ["unknown token", 401, unknown, { headers: { ...headers, Authorization: `${Authorization}x` } }],
  ["wrong path", 404, "No endpoint at this path.", { address: `${origin}/nowhere` }],
  ["wrong method", 405, "Events are sent by POST.", { method: "PUT" }],
  ["too many items", 413, "Envelope exceeds 10000 items.", { body: enveloped({ data: Array(10001).fill(0) }) }],
  ["text", 415, notJSON, { headers: { ...headers, "Content-Type": "text/plain" } }],
  ["unknown encoding", 415, notJSON, { headers: { ...headers, "Content-Encoding": "br" } }],
  ["damaged gzip", 415, notJSON, { headers: { ...headers, "Content-Encoding": "gzip" } }],
  ["cut off", 415, notJSON, { body: enveloped({}).slice(0, -1) }],
  ["unknown version", 422, "Caliper envelope dataVersion is non-conformant.", { body: enveloped({ dataVersion: "1.1" }) }],
  ["large header", 431, "Request header too large.", { headers: { ...headers, "X-Large": "x".repeat(8192) } }],
].map(([name, status, message, what]) => ({ name, status, message, body: enveloped({}), ...what }));

/** Requests of megabytes, made when they are sent: each virtual user would hold its own of them. */
export const largeRefusals = ({ maxBodyBytes }) => [
  ["large body", 413, `Body exceeds ${maxBodyBytes} bytes.`, { body: "x".repeat(maxBodyBytes + 1) }],
  ["large event", 413, "Event at index 0 exceeds 1000000 bytes.", { body: event({ extensions: { text: "x".repeat(1e6) } }) }],
].map(([name, status, message, what]) => ({ name, status, message, ...what }));
