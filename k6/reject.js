// Is each faulty post told what is wrong with it, and do good ones beside it not suffer?
//
//   RATE    good posts per second (100)
//   FAULTY  others per second: no token, no JSON, not conformant and so on (50); one more is megabytes too large
import exec from "k6/execution";
import { iteration, post, request } from "./lib/endpoint.js";
import { engage, faulty, turn } from "./lib/envelopes.js";
import { answered, constant, inTime, number, options as suite } from "./lib/options.js";
import { largeRefusals, refusals } from "./lib/refusals.js";
export { setup, teardown } from "./lib/endpoint.js";
export { handleSummary } from "./lib/summary.js";

const duration = __ENV.DURATION || "30s";

export const options = suite(
  {
    good: constant(number("RATE", 100), duration, { exec: "good" }),
    bad: constant(number("FAULTY", 50), duration, { exec: "bad" }),
    large: constant(1, duration, { exec: "large" }),
  },
  {
    "http_req_duration{scenario:good}": inTime,
    "http_req_duration{scenario:bad}": [answered],
  },
);

export const good = iteration(() => {
  post(turn(engage, exec.scenario.iterationInTest));
});

export const bad = iteration(() => {
  const i = exec.scenario.iterationInTest;
  if (i % 2) {
    post(turn(faulty, (i - 1) / 2));
  } else {
    const refusal = turn(refusals, i / 2);
    request(refusal.status, refusal);
  }
});

export const large = iteration((data) => {
  const refusal = turn(largeRefusals(data), exec.scenario.iterationInTest);
  request(refusal.status, refusal);
});
