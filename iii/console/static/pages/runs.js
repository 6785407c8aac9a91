// Lists of what ran: traces (one row a tree) and runs (one row an attempt), and the table of runs other pages show.
import { html, useEffect, useState } from "../html.js";
import { apiPath, useMore } from "../api.js";
import { onLiveRarely } from "../live.js";
import { href, setQuery } from "../router.js";
import { compactNumber, countOf } from "../format.js";
import { PageHead } from "../shell.js";
import {
  Ago,
  Answer,
  Badge,
  Choice,
  Cli,
  Count,
  Empty,
  ErrorText,
  IdLink,
  Kind,
  StepLink,
  Tabs,
  Took,
} from "../components/badge.js";
import { SearchField } from "../components/search.js";
import { More, Table } from "../components/table.js";

const NEW_MAX = 100;
const REDRAW_MS = 400;
const OUTCOMES = [
  ["", "All"],
  ["done", "Done"],
  ["failed", "Failed"],
  ["dead", "Dead"],
];
const TABS = [
  ["traces", "Traces", "#/traces"],
  ["runs", "Runs", "#/runs"],
];

export function TracesPage({ route }) {
  const { q = "", outcome = "" } = route.query;
  const list = useMore(apiPath(["traces"], { q, outcome, limit: 50 }), nextBefore, (data) => data.traces, {
    every_ms: 3_000,
  });
  return html`
    <${PageHead} title="Traces" detail="What one request, tick or message led to, as a whole." cli=${html`<${Cli}
        words=${["iii", "runs", ...(outcome ? ["--outcome", outcome] : [])]} />`} />
    <div class="filters"><${Tabs} label="Kind of list" tabs=${TABS} current="traces" />
      <${Choice} label="Outcome" options=${OUTCOMES} value=${outcome} onChange=${(next) => setQuery(route, { outcome: next })} />
      <${SearchField} label="Search traces" placeholder="Route, step or trace id" value=${q}
          onSearch=${(next) => setQuery(route, { q: next })} /></div>
    <${Answer} of=${list}>${() => html`
      <${Table} label="Traces" rows=${list.rows} keyOf=${(trace) => trace.trace_id} open=${(trace) => href(["traces", trace.trace_id])}
        empty=${q || outcome ? html`<${Empty} title="No trace fits">Change what is searched for.<//>` : html`<${Empty} title="No traces yet" icon="trace">Send a request or a message, and what it leads to is shown here.<//>`}
        columns=${[
          {
            key: "root",
            label: "Started by",
            wide: true,
            cell: (trace) =>
              html`<a class="strong-link"
                  href=${href(["traces", trace.trace_id])}>${trace.root}</a>${trace.steps?.length > 0 && html`<small class="clip">${trace.steps.join(" → ")}</small>`}`,
          },
          { key: "outcome", label: "Outcome", cell: (trace) => html`<${Badge} state=${trace.outcome} />` },
          { key: "runs", label: "Runs", align: "end", cell: (trace) => html`<${Count} value=${trace.runs} />` },
          {
            key: "failed",
            label: "Failed",
            align: "end",
            cell: (trace) => html`<${Count} value=${trace.failed} tone="failed" />`,
          },
          { key: "took", label: "Duration", align: "end", cell: (trace) => html`<${Took} ms=${trace.duration_ms} />` },
          {
            key: "started",
            label: "Started",
            align: "end",
            cell: (trace) => html`<${Ago} at_ms=${trace.started_ms} />`,
          },
          {
            key: "id",
            label: "Trace",
            hide: "narrow",
            cell: (trace) => html`<${IdLink} kind="traces" id=${trace.trace_id} />`,
          },
        ]} /><${More} of=${list} what="traces" />`}<//>`;
}

const nextBefore = (data) => (data?.next ? { name: "before", value: data.next } : null);

export function RunsPage({ route }) {
  const { q = "", outcome = "", step = "" } = route.query;
  const list = useMore(apiPath(["runs"], { q, outcome, step, limit: 50 }), nextBefore, (data) => data.runs);
  const [fresh, pause, setPause] = useFreshRuns(list, { q, outcome, step });
  return html`
    <${PageHead} title="Runs" detail="Each attempt of each step, the newest first." cli=${html`<${Cli}
        words=${["iii", "runs", ...(step ? ["--step", step] : []), ...(outcome ? ["--outcome", outcome] : [])]} />`} />
    <div class="filters"><${Tabs} label="Kind of list" tabs=${TABS} current="runs" />
      <${Choice} label="Outcome" options=${OUTCOMES} value=${outcome} onChange=${(next) => setQuery(route, { outcome: next })} />
      <${SearchField} label="Search runs" placeholder="Text in a run: error, id, log" value=${q}
          onSearch=${(next) => setQuery(route, { q: next })} />
      <label class="check"><input type="checkbox" checked=${!pause} onChange=${() => setPause(!pause)} /> live</label></div>
    ${step && html`<p class="filter-note">Only step <b>${step}</b> <button type="button" class="link-button"
        onClick=${() => setQuery(route, { step: "" })}>show all</button></p>`}
    <${Answer} of=${list}>${() => html`<${RunTable} runs=${fresh} empty=${html`<${Empty}
        title=${q || outcome || step ? "No run fits" : "No runs yet"} icon="trace">Under load only a sample of what succeeds is kept; what fails always is.<//>`} /><${More}
        of=${list} what="runs" />`}<//>`;
}

/** The asked runs with those that ended since above them, as far as they fit the filter. */
function useFreshRuns(list, { q, outcome, step }) {
  const [added, setAdded] = useState([]);
  const [pause, setPause] = useState(false);
  useEffect(() => setAdded([]), [q, outcome, step, list.data]);
  useEffect(() => {
    if (pause || q) return undefined;
    return onLiveRarely(
      "run",
      (runs) => {
        const fit = runs.filter(
          (run) => run.id && (!outcome || run.outcome === outcome) && (!step || run.step === step),
        );
        if (fit.length) setAdded((last) => [...fit.reverse(), ...last].slice(0, NEW_MAX));
      },
      REDRAW_MS,
    );
  }, [pause, q, outcome, step]);
  const known = new Set();
  const runs = [...added, ...list.rows].filter(({ id }) => !known.has(id) && known.add(id));
  return [runs, pause, setPause];
}

/** brief: in a panel that has not the whole width. */
export function RunTable({ runs, empty, withStep = true, brief = false }) {
  const columns = [
    withStep && {
      key: "step",
      label: "Step",
      head: true,
      cell: (run) =>
        html`<span class="cell-pair"><${Kind} kind=${run.trigger?.type} /><${StepLink} step=${run.step} /></span>`,
    },
    !brief && {
      key: "trigger",
      label: "Started by",
      wide: !withStep,
      cell: (run) => html`<span class="clip some" title=${run.trigger?.text}>${run.trigger?.text}</span>`,
    },
    { key: "outcome", label: "Outcome", cell: (run) => html`<${Badge} state=${run.outcome} />` },
    {
      key: "error",
      label: "Error",
      wide: true,
      cell: (run) => (run.error ? html`<${ErrorText} error=${run.error} />` : null),
    },
    {
      key: "attempt",
      label: "Attempt",
      align: "end",
      cell: (run) => html`<span class=${run.attempt > 1 ? "num text-waiting" : "num faint"}>${run.attempt}</span>`,
    },
    !brief && { key: "waited", label: "Waited", align: "end", cell: (run) => html`<${Took} ms=${run.wait_ms} />` },
    { key: "ran", label: "Ran", align: "end", cell: (run) => html`<${Took} ms=${run.duration_ms} />` },
    !brief && {
      key: "wrote",
      label: "Wrote",
      align: "end",
      hide: "narrow",
      cell: (run) =>
        html`<span class="num faint nowrap" title="state changes / messages / log lines">${compactNumber(countOf(run.changes))} / ${compactNumber(countOf(run.enqueued))} / ${compactNumber(countOf(run.logs))}</span>`,
    },
    { key: "at", label: "Started", align: "end", cell: (run) => html`<${Ago} at_ms=${run.started_ms} />` },
  ].filter(Boolean);
  return html`<${Table} label="Runs" rows=${runs} keyOf=${(run) => run.id}
      open=${(run) => (run.trace_id ? href(["traces", run.trace_id]) : null)} columns=${columns} empty=${empty} />`;
}
