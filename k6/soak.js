// Does anything grow, slow down or come undone over a long time? All kinds of events, five items an envelope.
//
//   RATE       posts per second (50)
//   DURATION   how long (5m); hours are what it is for
//
// and where ADMIN tells how much memory the endpoint has resident:
//
//   MAX_GROWTH  by what share the last quarter of the run may be above the second, in the median (0.1); the first quarter
//               is for buffers and the heap to get their size
//   WINDOW_IDS  the endpoint's CALIPER_DUPLICATES_IDS (2000000)
//   MAX_MEMORY  most MiB at any time (the 300 that are promised without a window for duplicates, and 44 bytes for each of
//               WINDOW_IDS: 384)
import { sleep } from "k6";
import exec from "k6/execution";
import { Gauge, Trend } from "k6/metrics";
import { admin, iteration, metric, post } from "./lib/endpoint.js";
import { mix, turn } from "./lib/envelopes.js";
import { constant, inTime, number, options as suite } from "./lib/options.js";
export { setup, teardown } from "./lib/endpoint.js";
export { handleSummary } from "./lib/summary.js";

const duration = __ENV.DURATION || "5m";
const memory = new Trend("endpoint_memory_mib");
const growth = new Gauge("endpoint_memory_growth");
const mostMemory = number("MAX_MEMORY", 300 + Math.ceil((44 * number("WINDOW_IDS", 2e6)) / 2 ** 20));

/** The seconds of a duration such as 1h30m. */
function seconds(text) {
  const units = { h: 3600, m: 60, s: 1 };
  return [...text.matchAll(/([\d.]+)([hms])/g)].reduce((sum, [, n, unit]) => sum + n * units[unit], 0);
}

export const options = suite(
  {
    load: constant(number("RATE", 50), duration),
    ...(admin && { // one user who sees all of the run, to compare its parts
      watch: { executor: "per-vu-iterations", vus: 1, iterations: 1, maxDuration: `${seconds(duration) + 30}s`, exec: "watch" },
    }),
  },
  {
    "http_req_duration{scenario:load}": inTime,
    ...(admin && {
      endpoint_memory_mib: [`max<${mostMemory}`],
      endpoint_memory_growth: [`value<${number("MAX_GROWTH", 0.1)}`],
    }),
  },
);

export default iteration(() => {
  post(turn(mix, exec.scenario.iterationInTest));
});

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

export const watch = iteration(() => {
  const quarters = [[], [], [], []];
  const length = (seconds(duration) * 1000) / 4;
  const start = Date.now();
  for (;;) {
    const i = Math.floor((Date.now() - start) / length);
    if (i > 3) break;
    const mib = metric("process_resident_memory_bytes") / 2 ** 20;
    memory.add(mib);
    quarters[i].push(mib);
    sleep(1);
  }
  const second = median(quarters[1]), last = median(quarters[3]);
  if (!(second > 0 && last > 0)) throw new Error("too few looks at the memory to compare");
  growth.add(last / second - 1);
});
