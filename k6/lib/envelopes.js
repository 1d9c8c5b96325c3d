// Envelopes of the corpus in bench/corpus, which all load tools of this repository send.
import { SharedArray } from "k6/data";

/**
 * The envelopes of out/NAME.jsonl as bench/corpus/write makes them, in memory once for all virtual users. Each has its
 * body in parts, the status that a post must be answered, the number of its items and of those that must be rejected.
 */
function load(name) {
  const file = import.meta.resolve(`../out/${name}.jsonl`);
  return new SharedArray(name, () => open(file).trimEnd().split("\n").map((line) => JSON.parse(line)));
}

export const engage = load("engage"); // one event each, of a reading tool
export const mix = load("mix"); // five items each, of many tools
export const faulty = load("faulty"); // three items each; in most some or all do not conform, or the envelope does not

/** The one whose turn it is at iteration i. */
export const turn = (envelopes, i) => envelopes[i % envelopes.length];

/** The body of an envelope, with ids that were never sent before. */
export function bodyOf({ parts }) {
  let body = parts[0];
  for (let i = 1; i < parts.length; i++) body += crypto.randomUUID() + parts[i];
  return body;
}
