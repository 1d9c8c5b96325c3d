// What all scripts have in common: load that does not wait for answers, and the promises it is held to.
import { admin } from "./endpoint.js";

/** A number that the environment may set. */
export const number = (name, fallback) => Number(__ENV[name] || fallback);

// Arrivals must not wait for a free virtual user, or a stall of the endpoint would slow the sender and hide itself. So
// there are, from the start, enough of them for the longest stall that the endpoint allows itself, its request timeout.
// A longer one makes dropped_iterations, and the run fails.
const worstStall = 5; // seconds

const users = (rate) => {
  const n = Math.ceil(rate * worstStall);
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

// An answer waits for one sync of the disk that is under way and for its own: milliseconds. The bound leaves room for a
// disk and a processor that others use as well, and is a tenth of the request timeout. P99 sets another.
const p99 = `p(99)<${number("P99", 500)}`; // milliseconds

/** Promises about time: of most answers, and of each (the request timeout, and a second for a busy sender). */
export const inTime = [p99, "max<6000"];

/** The options of a script: its scenarios, the promises that all of them must keep, and those of its own. */
export const options = (scenarios, thresholds) => ({
  scenarios,
  discardResponseBodies: true,
  summaryTrendStats: ["med", "p(90)", "p(99)", "p(99.9)", "max"],
  thresholds: {
    checks: ["rate==1"], // each answer has the status that the envelope deserves
    http_req_failed: ["rate==0"],
    dropped_iterations: ["count<1"], // the load was what it says it was
    ...(admin && { events_unaccounted: ["count==0"] }),
    ...thresholds,
  },
});
