// How the engine is: what is wrong first, then the rates, the last hour, the store, and what runs right now.
import { html, useEffect, useMemo, useState } from "../html.js";
import { onLiveRarely } from "../live.js";
import { href } from "../router.js";
import { bytes, compactNumber, duration, percent, plural, rate } from "../format.js";
import { PageHead } from "../shell.js";
import { Ago, Answer, Cli, Empty, Facts, Took } from "../components/badge.js";
import { Chart, Spark } from "../components/chart.js";
import { Icon } from "../components/icon.js";
import { RunTable } from "./runs.js";
import { useApi } from "../api.js";

const RUNS_SHOWN = 10;
const REDRAW_MS = 400;

export default function Overview({ engine }) {
  return html`<${Answer} of=${engine} rows=${9}>${(now) => html`
    <${PageHead} title="Overview" detail=${html`<span>Started <${Ago} at_ms=${now.started_ms} /></span>`} cli=${html`<${Cli}
        words=${["iii", "top"]} />`} />
    <${Problems} problems=${now.problems ?? []} />
    <${Tiles} now=${now} />
    <${Hour} history=${now.history} />
    <div class="columns">
      <section class="panel span-2" aria-labelledby="now-runs"><header class="panel-head"><h2 id="now-runs">Latest runs</h2><a
          href=${href(["runs"])}>all runs</a></header><${LatestRuns} /></section>
      <${Latency} latency=${now.latency} />
      <${Store} store=${now.store} />
    </div>`}<//>`;
}

function Problems({ problems }) {
  if (!problems.length) {
    return html`<div class="callout tone-done all-well"><${Icon} name="check" /><div class="callout-body"><strong>Nothing is wrong.</strong> <span>No dead letters, no failing step, no queue that nobody serves.</span></div></div>`;
  }
  return html`<section aria-label="What is wrong now"><ul class="problems">${problems.map(
    (problem, index) => html`<li key=${index}>
    <a class=${`problem tone-${problem.severity === "error" ? "failed" : "waiting"}`} href=${safeHref(problem.href)}>
      <${Icon} name=${problem.severity === "error" ? "error" : "warning"} />
      <span class="problem-text"><strong>${problem.title}</strong><span>${problem.detail}</span></span><${Icon} name="right" /></a></li>`,
  )}</ul></section>`;
}

const safeHref = (address) => (typeof address === "string" && address.startsWith("#/") ? address : "#/");

function Tiles({ now }) {
  const { totals, rates, history } = now;
  const points = history?.points ?? [];
  const seconds = (history?.step_ms ?? 5_000) / 1_000;
  const perSecond = (name) => points.map((point) => (point[name] ?? 0) / seconds);
  const waits = (totals.ready ?? 0) + (totals.later ?? 0) + (totals.behind ?? 0);
  const tiles = [
    ["Done", rate(rates.done_per_s), "/s", perSecond("done"), "done", href(["runs"], { outcome: "done" })],
    ["Failed", rate(rates.failed_per_s), "/s", perSecond("failed"), "failed", href(["runs"], { outcome: "failed" })],
    ["Requests", rate(rates.requests_per_s), "/s", perSecond("requests"), "accent", href(["http"])],
    ["Enqueued", rate(rates.enqueued_per_s), "/s", perSecond("enqueued"), "accent", href(["queues"])],
    [
      "Waiting",
      compactNumber(waits),
      "",
      points.map((point) => point.depth),
      "waiting",
      href(["queues"]),
      `${compactNumber(totals.ready)} ready · ${compactNumber(totals.later)} delayed · ${compactNumber(totals.behind)} behind`,
    ],
    [
      "Running",
      compactNumber(totals.leased),
      "",
      null,
      "running",
      href(["queues"]),
      totals.paused_queues ? plural(totals.paused_queues, "paused queue") : "no queue paused",
    ],
    [
      "Dead letters",
      compactNumber(totals.dead),
      "",
      null,
      totals.dead ? "failed" : "muted",
      href(["dead"]),
      totals.dead ? "to redrive or discard" : "none",
    ],
  ];
  return html`<ul class="tiles" aria-label="Now">${tiles.map(
    ([name, value, unit, line, tone, address, note]) => html`<li key=${name}>
    <a class="tile" href=${address}><span class="tile-name">${name}</span><span
        class=${`tile-value num ${tone === "failed" && value !== "0" ? "text-failed" : ""}`}>${value}<small>${unit}</small></span>
      ${line ? html`<${Spark} values=${line.slice(-120)} tone=${tone} />` : html`<span class="tile-note">${note}</span>`}
      ${line && note && html`<span class="hidden">${note}</span>`}</a></li>`,
  )}</ul>`;
}

/** Where no engine ran there is nothing, and no line leads over it. */
function withGaps(points, step_ms) {
  return points.flatMap((point, index) => {
    const next = points[index + 1];
    return next && next.at_ms - point.at_ms > 3 * step_ms ? [point, { at_ms: point.at_ms + step_ms }] : [point];
  });
}

function Hour({ history }) {
  const step_ms = history?.step_ms ?? 5_000;
  const points = useMemo(() => withGaps(history?.points ?? [], step_ms), [history]);
  const parts = useMemo(() => {
    const seconds = step_ms / 1_000;
    const of = (name) => points.map((point) => point[name] ?? null);
    const perSecond = (name) =>
      points.map((point) => (point[name] === undefined || point[name] === null ? null : point[name] / seconds));
    return {
      times_ms: of("at_ms"),
      work: [
        { label: "done/s", tone: "done", values: perSecond("done") },
        { label: "enqueued/s", tone: "accent", values: perSecond("enqueued"), filled: false },
      ],
      failed: [{ label: "failed/s", tone: "failed", values: perSecond("failed") }],
      depth: [{ label: "messages", tone: "waiting", values: of("depth") }],
      latency: [{ label: "run p99", tone: "running", values: of("run_p99_ms") }],
    };
  }, [points]);
  if (points.length < 2)
    return html`<div class="panel"><${Empty} title="The last hour" icon="overview">Charts begin after the first seconds.<//></div>`;
  return html`<section class="charts" aria-label="The last hour">
    <div class="panel"><${Chart} title="Throughput" times_ms=${parts.times_ms} series=${parts.work} show=${rate} /></div>
    <div class="panel"><${Chart} title="Failures" times_ms=${parts.times_ms} series=${parts.failed} show=${rate} /></div>
    <div class="panel"><${Chart} title="Depth" times_ms=${parts.times_ms} series=${parts.depth} show=${whole} /></div>
    <div class="panel"><${Chart} title="Latency" times_ms=${parts.times_ms} series=${parts.latency} show=${duration} /></div>
  </section>`;
}

/** There are no half messages, whatever an axis has between. */
const whole = (value) => (Number.isInteger(value ?? 0) ? compactNumber(value) : "");

function Latency({ latency }) {
  return html`<section class="panel" aria-label="Latency"><header class="panel-head"><h2>Latency</h2><span class="faint">last minute</span></header>
    <table class="small-table"><thead><tr><th scope="col"><span class="hidden">Of</span></th><th scope="col" class="end">p50</th><th scope="col" class="end">p99</th></tr></thead><tbody>
      <tr><th scope="row">Wait in queue</th><td class="end"><${Took} ms=${latency?.wait_p50_ms} /></td><td class="end"><${Took}
          ms=${latency?.wait_p99_ms} /></td></tr>
      <tr><th scope="row">Run</th><td class="end"><${Took} ms=${latency?.run_p50_ms} /></td><td class="end"><${Took}
          ms=${latency?.run_p99_ms} /></td></tr>
      <tr><th scope="row">Commit, mean</th><td class="end"><${Took} ms=${latency?.commit_p50_ms} /></td><td class="end faint">–</td></tr>
    </tbody></table></section>`;
}

function Store({ store }) {
  if (!store) return null;
  return html`<section class="panel" aria-label="Store"><header class="panel-head"><h2>Store</h2></header>
    <${Facts} of=${[
      ["Path", html`<span class="mono break">${store.path}</span>`],
      ["File", html`<span class="num">${bytes(store.file_bytes)}</span>`],
      [
        "Map used",
        html`<span class="num">${percent(store.map_used)} of ${bytes(store.map_bytes)}</span><progress class="meter" max="1"
            value=${store.map_used ?? 0} aria-label="Map used"></progress>`,
      ],
      ["Free disk", html`<span class="num">${bytes(store.free_disk_bytes)}</span>`],
      ["Commits", html`<span class="num">${rate(store.commits_per_s)}/s</span>`],
      ["Group size", html`<span class="num">${rate(store.group_size)}</span>`],
      [
        "Kept answers",
        html`<span class="num">${compactNumber(store.kept.answers)} · ${bytes(store.kept.bytes)} of ${bytes(
          store.kept.bytes_max,
        )}${store.kept.evicted ? ` · ${compactNumber(store.kept.evicted)} evicted` : ""}</span>`,
      ],
    ]} /></section>`;
}

function LatestRuns() {
  const start = useApi("api/runs?limit=10");
  const [added, setAdded] = useState([]);
  useEffect(
    () =>
      onLiveRarely(
        "run",
        (runs) => {
          const newest = runs
            .filter((run) => run.id)
            .slice(-RUNS_SHOWN)
            .reverse();
          setAdded((last) => [...newest, ...last].slice(0, RUNS_SHOWN));
        },
        REDRAW_MS,
      ),
    [],
  );
  return html`<${Answer} of=${start}>${(data) => {
    const known = new Set();
    const runs = [...added, ...data.runs].filter(({ id }) => !known.has(id) && known.add(id)).slice(0, RUNS_SHOWN);
    return html`<${RunTable} runs=${runs} brief=${true}
        empty=${html`<${Empty} title="Nothing has run yet" icon="trace">Send a request or a message.<//>`} />`;
  }}<//>`;
}
