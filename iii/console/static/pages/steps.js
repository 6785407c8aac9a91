// The steps: what starts each, what it sends, how it goes; one step with its source, configuration, runs and errors.
import { html } from "../html.js";
import { apiPath, useApi } from "../api.js";
import { href, setQuery } from "../router.js";
import { firstLine } from "../format.js";
import { PageHead } from "../shell.js";
import { Ago, Answer, Badge, Chain, Cli, CopyButton, Count, Empty, Facts, Kind, Took } from "../components/badge.js";
import { JsonView } from "../components/json.js";
import { SearchField } from "../components/search.js";
import { Table } from "../components/table.js";
import { RunTable } from "./runs.js";

export default function Steps({ route }) {
  const name = route.parts[1];
  return name ? html`<${Step} key=${name} name=${name} />` : html`<${StepsPage} route=${route} />`;
}

function StepsPage({ route }) {
  const answer = useApi("api/steps", { every_ms: 5_000 });
  const { q = "" } = route.query;
  const fits = (step) =>
    `${step.name} ${step.description ?? ""} ${step.triggers.map(({ text }) => text).join(" ")}`
      .toLowerCase()
      .includes(q.toLowerCase());
  return html`
    <${PageHead} title="Steps" detail="One file each: a configuration and a handler." cli=${html`<${Cli} words=${["iii", "steps"]} />`} />
    <div class="filters"><${SearchField} label="Search steps" placeholder="Name, description or trigger" value=${q}
        onSearch=${(next) => setQuery(route, { q: next })} /></div>
    <${Answer} of=${answer}>${({
      steps,
    }) => html`<${Table} label="Steps" rows=${steps.filter(fits)} keyOf=${(step) => step.name} open=${(step) => href(["steps", step.name])}
      empty=${html`<${Empty}
          title=${steps.length ? "No step fits" : "No steps"} icon="steps">${steps.length ? "Change what is searched for." : "Write steps/hello_step.py; iii create does."}<//>`}
      columns=${[
        {
          key: "name",
          label: "Step",
          wide: true,
          cell: (step) =>
            html`<span class="cell-stack"><a class="strong-link"
                href=${href(["steps", step.name])}>${step.name}</a><small>${step.description}</small></span>`,
        },
        {
          key: "triggers",
          label: "Started by",
          wide: "narrow",
          cell: (step) => html`<${Triggers} triggers=${step.triggers} />`,
        },
        {
          key: "serving",
          label: "State",
          cell: (step) =>
            html`<${Badge} state=${step.serving ? "ok" : "unserved"} text=${step.serving ? "serving" : "not served"} /><${Chain}
                generation=${step.stats.generation} />`,
        },
        {
          key: "running",
          label: "Running",
          align: "end",
          cell: (step) => html`<${Count} value=${step.stats.in_flight} tone="running" />`,
        },
        { key: "done", label: "Done", align: "end", cell: (step) => html`<${Count} value=${step.stats.done} />` },
        {
          key: "failed",
          label: "Failed",
          align: "end",
          cell: (step) => html`<${Count} value=${step.stats.failed} tone="failed" />`,
        },
        {
          key: "dead",
          label: "Dead",
          align: "end",
          cell: (step) => html`<${Count} value=${step.stats.dead} tone="failed" />`,
        },
        { key: "p50", label: "p50", align: "end", cell: (step) => html`<${Took} ms=${step.stats.run_p50_ms} />` },
        { key: "p99", label: "p99", align: "end", cell: (step) => html`<${Took} ms=${step.stats.run_p99_ms} />` },
      ]} />`}<//>`;
}

function Triggers({ triggers }) {
  return html`<ul class="plain tight">${triggers.map((trigger, index) => html`<li key=${index}><${Kind}
      kind=${trigger.type} /><span class="clip">${trigger.text}</span></li>`)}</ul>`;
}

function Step({ name }) {
  const answer = useApi(apiPath(["steps", name]), { every_ms: 5_000 });
  return html`<${Answer} of=${answer} rows=${9}>${(step) => html`
    <${PageHead} title=${step.name} trail=${[["Steps", href(["steps"])]]} detail=${html`<${Badge}
        state=${step.serving ? "ok" : "unserved"}
        text=${step.serving ? "serving" : "not served"} /><${Chain} generation=${step.stats.generation} /><span>${step.description}</span>`}
      cli=${html`<${Cli} words=${["iii", "runs", "--step", step.name]} />`} />
    <div class="columns">
      <section class="panel" aria-label="Triggers"><header class="panel-head"><h2>Started by</h2></header><div class="pad"><${Triggers}
          triggers=${step.triggers} /></div>
        ${(step.enqueues ?? []).length > 0 && html`<h3>May enqueue</h3><ul class="chips">${step.enqueues.map((topic) => html`<li
            key=${topic}><a class="chip" href=${href(["queues", topic])}>${topic}</a></li>`)}</ul>`}
        ${(step.flows ?? []).length > 0 && html`<h3>Flows</h3><ul class="chips">${step.flows.map((flow) => html`<li
            key=${flow}><a class="chip" href=${href(["flow"])}>${flow}</a></li>`)}</ul>`}</section>
      <section class="panel" aria-label="Counts"><header class="panel-head"><h2>So far</h2></header><${Facts} of=${[
        ["Started", html`<${Count} value=${step.stats.started} />`],
        ["Done", html`<${Count} value=${step.stats.done} tone="done" />`],
        ["Failed attempts", html`<${Count} value=${step.stats.failed} tone="failed" />`],
        ["Dead", html`<${Count} value=${step.stats.dead} tone="failed" />`],
        ["Running", html`<${Count} value=${step.stats.in_flight} tone="running" />`],
        ["Run p50 / p99", html`<${Took} ms=${step.stats.run_p50_ms} /> / <${Took} ms=${step.stats.run_p99_ms} />`],
      ]} /></section>
      <${Errors} step=${step} />
    </div>
    <section class="panel" aria-labelledby="recent"><header class="panel-head"><h2 id="recent">Recent runs</h2><a
        href=${href(["runs"], { step: step.name })}>all runs</a></header>
      <${RunTable} runs=${step.recent_runs ?? []} withStep=${false}
          empty=${html`<${Empty} title="It has not run yet" icon="trace">Or no run of it is kept.<//>`} /></section>
    <div class="columns">
      <section class="panel span-2" aria-labelledby="source"><header class="panel-head"><h2 id="source">Source</h2><span class="mono faint break">${step.file}</span>${step.source && html`<${CopyButton}
          text=${step.source} label="Copy the source" />`}</header>
        ${step.source ? html`<${Source}
            text=${step.source} />` : html`<p class="faint pad">The file cannot be read from here.</p>`}</section>
      <section class="panel" aria-labelledby="config"><header class="panel-head"><h2 id="config">Configuration</h2></header><${JsonView}
          value=${step.config ?? {}} label="configuration" /></section>
    </div>`}<//>`;
}

function Errors({ step }) {
  const errors = step.errors ?? [];
  return html`<section class="panel" aria-label="Errors"><header class="panel-head"><h2>Errors</h2>${step.stats.dead > 0 && html`<a
      href=${href(["dead"], { q: step.name })}>dead letters</a>`}</header>
    ${errors.length === 0 ? html`<p class="faint pad">None is kept.</p>` : html`<ul class="error-list">${errors.map((error, index) => html`<li
        key=${index}><b class="num text-failed">${error.count}</b><span class="error-text wrap"
        title=${error.error}>${firstLine(error.error)}</span><${Ago} at_ms=${error.last_ms} /></li>`)}</ul>`}</section>`;
}

function Source({ text }) {
  return html`<pre class="code source" tabindex="0">${text.split("\n").map((line, index) => html`<span class="line"
      key=${index}><i class="line-number" aria-hidden="true">${index + 1}</i>${line}</span>`)}</pre>`;
}
