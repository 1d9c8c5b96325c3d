// Does anything grow, slow down or come undone over a long time? All kinds of events, five items an envelope.
//
//   RATE       posts per second (50)
//   DURATION   how long (5m); hours are what it is for
//   MAX_MEMORY most MiB that the endpoint may hold, where ADMIN tells (768: three times the budget it has unless configured)
import exec from "k6/execution";
import { Trend } from "k6/metrics";
import { admin, iteration, metric, post } from "./lib/endpoint.js";
import { mix, turn } from "./lib/envelopes.js";
import { constant, inTime, number, options as suite } from "./lib/options.js";
export { setup, teardown } from "./lib/endpoint.js";
export { handleSummary } from "./lib/summary.js";

const duration = __ENV.DURATION || "5m";
const memory = new Trend("endpoint_memory_mib");

export const options = suite(
  {
    load: constant(number("RATE", 50), duration),
    ...(admin && { watch: constant(1, duration, { exec: "watch" }) }),
  },
  {
    "http_req_duration{scenario:load}": inTime,
    ...(admin && { endpoint_memory_mib: [`max<${number("MAX_MEMORY", 768)}`] }),
  },
);

export default iteration(() => {
  post(turn(mix, exec.scenario.iterationInTest));
});

export const watch = iteration(() => {
  memory.add(metric("process_resident_memory_bytes") / 2 ** 20);
});
