// What a run leaves: its verdict and numbers on standard output and in out/SCRIPT.txt, all that k6 measured in
// out/SCRIPT.json.
const script = __ENV.SCRIPT || "run";

export function handleSummary(data) {
  const text = verdict(data.metrics) + answers(data.root_group) + times(data.metrics) + amounts(data.metrics);
  return { stdout: text, [`out/${script}.txt`]: text, [`out/${script}.json`]: JSON.stringify(data, null, 2) };
}

const round = (n, digits = 2) => String(Number(n.toFixed(digits)));
const row = (...cells) => `  ${cells.map((c, i) => (i ? c.padStart(9) : c.padEnd(44))).join(" ")}\n`;

function verdict(metrics) {
  let text = "", all = 0, broken = 0;
  for (const [name, { thresholds = {}, values }] of Object.entries(metrics).sort()) {
    for (const [promise, { ok }] of Object.entries(thresholds)) {
      const value = values[promise.split(/[<>=]/)[0]];
      text += row(`${name} ${promise}`, ok ? "kept" : "BROKEN", value === undefined ? "" : round(value, 4));
      all++;
      broken += !ok;
    }
  }
  return `\n${script}: ${broken ? `${broken} of ${all} promises BROKEN` : `all ${all} promises kept`}\n${text}`;
}

function answers({ checks }) {
  return "checks, how often they were met and how often not\n" +
    checks.map((c) => row(c.name, String(c.passes), String(c.fails))).sort().join("");
}

function times(metrics) {
  let text = row("milliseconds", "p50", "p90", "p99", "p99.9", "max");
  for (const [name, { values }] of Object.entries(metrics).sort()) {
    if (name !== "http_req_duration" && !name.startsWith("http_req_duration{scenario")) continue;
    text += row(name, ...["med", "p(90)", "p(99)", "p(99.9)", "max"].map((s) => round(values[s])));
  }
  return text;
}

function amounts(metrics) {
  const { http_reqs, events_accepted, dropped_iterations } = metrics;
  const count = (metric) => (metric ? `${metric.values.count} (${round(metric.values.rate)}/s)` : "0");
  return `requests ${count(http_reqs)}, events accepted ${count(events_accepted)}, ` +
    `arrivals that found nobody to send them ${count(dropped_iterations)}\n\n`;
}
