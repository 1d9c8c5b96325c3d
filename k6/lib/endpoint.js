// The endpoint under load: where it is, how a sensor posts to it, and what has to come out even at the end.
import http from "k6/http";
import { check } from "k6";
import { Counter, Rate } from "k6/metrics";
import { bodyOf } from "./envelopes.js";

export const url = __ENV.URL || "http://127.0.0.1:8080/";
export const origin = url.match(/^\w+:\/\/[^/]+/)[0];
/** Base of the administrative listener, such as http://127.0.0.1:8081. Where it is not known, what it tells is not checked. */
export const admin = __ENV.ADMIN;
export const headers = { Authorization: `Bearer ${__ENV.TOKEN}`, "Content-Type": "application/json" };

// Less than the 30 s that k6 leaves to iterations at the end, so that an answer which is missing counts as such.
const timeout = "25s";

const accepted = new Counter("events_accepted");
/** Events that sensors were told are accepted, less those that the endpoint counted as such. */
const unaccounted = new Counter("events_unaccounted");
/** Of the posts that were answered 2xx: does the answer tell on which level the events are durable? All ids are fresh, so that each stores some. */
const durable = new Rate("posts_durable");
/** And does it account for each item that was sent, as accepted or as rejected, as the corpus has it? */
const accounted = new Rate("posts_accounted");
const levels = ["fsync", "replicated", "stored", "spooled"]; // all that the contract has

/** Makes a request that has to be answered with status; bodies of answers are kept where responseType says so. */
export function request(status, { method = "POST", address = url, body = null, ...params }) {
  const res = http.request(method, address, body, {
    headers, timeout, responseCallback: http.expectedStatuses(status), ...params,
  });
  const met = res.status === status;
  check(res, { [met ? `${status}` : `${res.status || "no answer"} instead of ${status}`]: () => met });
  return res;
}

/** An iteration of which an exception breaks a promise; k6 by itself only logs it. */
export const iteration = (run) => (data) => {
  try {
    run(data);
  } catch (error) {
    check(null, { "the script has no defect": () => false });
    throw error;
  }
};

/** Whether an answer has these numbers; false where it is no JSON. */
function counts(res, accepted, rejected) {
  try {
    const said = res.json();
    return said.accepted === accepted && said.rejected === rejected;
  } catch {
    return false;
  }
}

/** Posts an envelope with fresh ids. */
export function post(envelope, params) {
  const res = request(envelope.status, { body: bodyOf(envelope), responseType: "text", ...params });
  if (res.status === 200 || res.status === 202) {
    const n = envelope.items - envelope.rejected;
    durable.add(levels.includes(res.headers["Caliper-Durability"]));
    accounted.add(counts(res, n, envelope.rejected));
    accepted.add(n);
    if (admin) unaccounted.add(n);
  }
  return res;
}

/** The sum of a metric of the endpoint over its labels; fallback where there is no such line, which is an error without one. */
export function metric(name, fallback) {
  const res = http.get(`${admin}/metrics`, { responseType: "text" });
  if (res.status !== 200) throw new Error(`${admin}/metrics answers ${res.status}`);
  const lines = res.body.split("\n").filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  if (lines.length === 0) {
    if (fallback === undefined) throw new Error(`${admin}/metrics has no ${name}`);
    return fallback;
  }
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

/** Ends the run before it begins where the endpoint is away or does not know the token. */
export function setup() {
  const res = http.get(url, { headers, timeout, responseType: "text" });
  if (res.status !== 200) {
    throw new Error(`GET ${url} is answered ${res.status}: is the endpoint there, and is TOKEN one of its tokens?`);
  }
  return {
    maxBodyBytes: res.json("caliperMaximumPayloadSize") * 1024,
    before: admin && metric("caliper_events_accepted_total", 0),
  };
}

/**
 * Compares with the endpoint's own numbers. They agree only where nobody else sends to it, and where each request was
 * answered: whoever interrupts a run leaves events that are stored and of which nobody was told.
 */
export function teardown({ before }) {
  if (!admin) return;
  unaccounted.add(before - metric("caliper_events_accepted_total", 0));
  check(metric("caliper_budget_used_bytes"), { "no memory is held for requests after the last one": (n) => n === 0 });
}
