// What does a sudden burst do, and is all as before when it is over? A reading tool holds what its users do offline and
// sends it when they are online again, one event a post, as fast as it can.
//
//   RATE  posts per second before and after (50)
//   PEAK  posts per second of the burst (500)
import exec from "k6/execution";
import { iteration, post } from "./lib/endpoint.js";
import { engage, turn } from "./lib/envelopes.js";
import { answered, constant, inTime, number, options as suite, ramping } from "./lib/options.js";
export { setup, teardown } from "./lib/endpoint.js";
export { handleSummary } from "./lib/summary.js";

const rate = number("RATE", 50);
const peak = number("PEAK", 500);
const burst = [
  { target: peak, duration: "1s" },
  { target: peak, duration: "10s" },
  { target: rate, duration: "1s" },
];

export const options = suite(
  {
    before: constant(rate, "10s"),
    burst: ramping(rate, peak, burst, { startTime: "10s" }),
    after: constant(rate, "10s", { startTime: "22s" }),
  },
  {
    "http_req_duration{scenario:before}": inTime,
    "http_req_duration{scenario:burst}": [answered], // nobody is turned away, and each is answered in time
    "http_req_duration{scenario:after}": inTime,
  },
);

export default iteration(() => {
  post(turn(engage, exec.scenario.iterationInTest));
});
