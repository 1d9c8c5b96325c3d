// Does every kind of answer come as it should? It takes half a minute, at a rate that any machine holds, and nothing in the
// verdict depends on how long answers take.
import { check } from "k6";
import exec from "k6/execution";
import { headers, iteration, origin, post, request } from "./lib/endpoint.js";
import { bodyOf, engage, faulty, mix, turn } from "./lib/envelopes.js";
import { constant, options as suite } from "./lib/options.js";
import { largeRefusals, refusals } from "./lib/refusals.js";
export { setup, teardown } from "./lib/endpoint.js";
export { handleSummary } from "./lib/summary.js";

const posts = 1500; // all that is mixed and faulty, and as many of a reading tool
const rate = 50;

export const options = suite(
  {
    answers: { executor: "per-vu-iterations", exec: "answers", vus: 1, iterations: 1, maxDuration: "3m" }, // once, in order
    // More virtual users than elsewhere, for run.sh gives this endpoint 20 s; and a second more than it takes.
    corpus: constant(rate, `${posts / rate + 1}s`, { exec: "corpus", maxVUs: 20 * rate }),
  },
  { iterations: [`count>=${posts + 1}`] }, // all were made, none was cut off
);

const text = { responseType: "text" };

/** Holds an answer against what it must say, and shows it where it does not. */
function says(name, res, met) {
  const holds = () => {
    try {
      return met(res);
    } catch { // no JSON, or not the members that it must have
      return false;
    }
  };
  if (!check(res, { [name]: holds })) console.error(`${name}: ${res.status} ${JSON.stringify(res.headers)} ${res.body}`);
}

/** Each kind once. */
export const answers = iteration((data) => {
  for (const refusal of [...refusals, ...largeRefusals(data)]) {
    const res = request(refusal.status, { ...refusal, ...text });
    says(`refused: ${refusal.name}`, res, () => res.json("message") === refusal.message);
  }
  for (const compression of ["gzip", "zstd"]) {
    says(`taken: ${compression}`, post(engage[0], { compression, ...text }), (res) => res.json("accepted") === 1);
  }
  const asked = { ...text, body: bodyOf(engage[0]), headers: { ...headers, "X-DEBUG": "TRUE" } };
  says("explained, not stored", request(200, asked), (res) => res.json("accepted_events").length === 1);
  request(200, { method: "GET", address: `${origin}/livez`, headers: {} });
});

/** Whatever the corpus has, one after the other. */
export const corpus = iteration(() => {
  const i = exec.scenario.iterationInTest;
  const envelope = turn([engage, mix, faulty][i % 3], Math.floor(i / 3));
  const { status, items, rejected } = envelope;
  const res = post(envelope, text);
  if (res.status !== status) return; // a broken promise already
  if (status > 202) {
    says("a refusal has a message", res, () => Boolean(res.json("message")));
    return;
  }
  says("numbers are the corpus'", res, () => res.json("accepted") === items - rejected && res.json("rejected") === rejected);
  says("routes tell which item was taken", res, () => {
    const { routes, topics } = res.json();
    return routes ? routes.filter((r) => r === null).length === rejected : rejected === 0 && Object.keys(topics).length === 1;
  });
});
