// What all scripts have in common: load that does not wait for answers, and the promises it is held to.
import { admin } from "./endpoint.js";

/** A number that the environment may set. */
export const number = (name, fallback) => Number(__ENV[name] || fallback);

// Arrivals must not wait for a free virtual user, or a stall of the endpoint would slow the sender and hide itself. So
// there are, from the start, enough of them for the longest stall that the endpoint allows itself, its request timeout.
// A longer one makes dropped_iterations, and the run fails.
const requestTimeout = 5; // seconds: the contract's default deadline of an answer

const users = (rate) => {
  const n = Math.ceil(rate * requestTimeout);
  return { preAllocatedVUs: n, maxVUs: n };
};

/** A scenario of so many iterations per second. */
export const constant = (rate, duration, more) => ({
  executor: "constant-arrival-rate", rate, duration, ...users(rate), ...more,
});

/** A scenario that goes from a rate through stages, none of which exceeds most. */
export const ramping = (startRate, most, stages, more) => ({
  executor: "ramping-arrival-rate", startRate, stages, ...users(most), ...more,
});

/** The promise about the time of each answer: the deadline, and a second for a busy sender. In milliseconds. */
export const answered = `max<${(requestTimeout + 1) * 1000}`;

// The contract has no percentile, only the deadline. An answer waits for one sync of the disk that is under way and for
// its own: milliseconds. A tenth of the deadline, 500 ms, leaves room for a disk and a processor that others use as well,
// and is far enough from it that a store which has to repeat an attempt (after 1.5 s) breaks it. P99 sets another.
const p99 = `p(99)<${number("P99", requestTimeout * 1000 / 10)}`;

/** Promises about time: of most answers, and of each. */
export const inTime = [p99, answered];

/** The options of a script: its scenarios, the promises that all of them must keep, and those of its own. */
export const options = (scenarios, thresholds) => ({
  scenarios,
  discardResponseBodies: true,
  summaryTrendStats: ["med", "p(90)", "p(99)", "p(99.9)", "max"],
  thresholds: {
    checks: ["rate==1"], // each answer has the status that the envelope deserves
    http_req_failed: ["rate==0"],
    posts_durable: ["rate==1"], // no 2xx without its level
    posts_accounted: ["rate==1"], // accepted and rejected are what was sent
    dropped_iterations: ["count<1"], // the load was what it says it was
    ...(admin && { events_unaccounted: ["count==0"] }),
    ...thresholds,
  },
});
