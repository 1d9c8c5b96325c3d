// Does it hold a constant rate with its promises?
//
//   RATE      posts per second, one event each (200)
//   DURATION  how long (30s)
import exec from "k6/execution";
import { iteration, post } from "./lib/endpoint.js";
import { engage, turn } from "./lib/envelopes.js";
import { constant, inTime, number, options as suite } from "./lib/options.js";
export { setup, teardown } from "./lib/endpoint.js";
export { handleSummary } from "./lib/summary.js";

export const options = suite(
  { load: constant(number("RATE", 200), __ENV.DURATION || "30s") },
  { "http_req_duration{scenario:load}": inTime },
);

export default iteration(() => {
  post(turn(engage, exec.scenario.iterationInTest));
});
