// Schedules: in words, when they fire next, how they went last; run one now, pause it.
import { html } from "../html.js";
import { apiPath, post, useApi } from "../api.js";
import { href } from "../router.js";
import { firstLine, sentence, zonedClock } from "../format.js";
import { PageHead } from "../shell.js";
import { Ago, Answer, Badge, Cli, Empty, Took } from "../components/badge.js";
import { ask } from "../components/dialog.js";
import { Icon } from "../components/icon.js";

export default function Cron({ read_only }) {
  const answer = useApi("api/cron", { every_ms: 5_000 });
  return html`
    <${PageHead} title="Cron" detail="Schedules of steps, with their next five fires." cli=${html`<${Cli}
        words=${["iii", "cron", "list"]} />`} />
    <${Answer} of=${answer} rows=${3}>${({ crons }) =>
      crons.length === 0
        ? html`<${Empty} title="No step has a schedule" icon="cron">Give a step the trigger cron("0 2 * * *").<//>`
        : html`<ul class="cards">${crons.map((cron) => html`<${Schedule} key=${`${cron.step} ${cron.expression}`}
            cron=${cron} read_only=${read_only} reload=${answer.reload} />`)}</ul>`}<//>`;
}

function Schedule({ cron, read_only, reload }) {
  const { step, paused, last_runs } = cron;
  const send = async (verb) => post(apiPath(["cron", step, verb]));
  const run = async () => {
    const done = await ask({
      title: `Run ${step} now?`,
      body: "One tick is enqueued at once; the schedule goes on as it is.",
      verb: "Run now",
      act: async () => {
        await send("run");
        return `${step} was started`;
      },
    });
    if (done) reload();
  };
  const pause = async () => {
    const done = await ask({
      title: `${paused ? "Resume" : "Pause"} ${step}?`,
      verb: paused ? "Resume" : "Pause",
      body: paused
        ? "Ticks are run again."
        : "No tick of it is run, in any instance and across restarts, until it is resumed.",
      act: async () => {
        await send(paused ? "resume" : "pause");
        return `${step} ${paused ? "resumed" : "paused"}`;
      },
    });
    if (done) reload();
  };
  const at = (at_ms) => zonedClock(at_ms, cron.timezone);
  const [next, ...later] = cron.next_ms ?? [];
  return html`<li class="panel cron-card">
    <header class="panel-head"><h2><a href=${href(["steps", step])}>${step}</a></h2>${paused && html`<${Badge} state="paused" />`}
      <span class="cron-acts"><button type="button" class="button" disabled=${read_only} onClick=${pause}><${Icon}
          name=${paused ? "play" : "pause"} size=${14} />${paused ? "Resume" : "Pause"}</button>
      <button type="button" class="button primary" disabled=${read_only} onClick=${run}><${Icon} name="play"
          size=${14} />Run now</button></span></header>
    <p class="cron-words">${cron.words}</p>
    <p class="cron-line"><code>${cron.expression}</code><span class="faint">${cron.timezone}</span></p>
    <div class="cron-next"><div><span class="faint">Next</span><strong>${next ? html`<${Ago} at_ms=${next} title=${at(next)} />` : "never"}</strong><span class="num faint">${next ? at(next) : ""}</span></div>
      <ol class="num faint" aria-label="After that">${later.map((at_ms) => html`<li key=${at_ms}>${at(at_ms)}</li>`)}</ol></div>
    ${cron.notes.length > 0 && html`<ul class="cron-notes">${cron.notes.map((note) => html`<li key=${note}>${sentence(note)}</li>`)}</ul>`}
    ${last_runs.length > 0 && html`<${LastRuns} runs=${last_runs} />`}
    <footer class="panel-foot">${last_runs.length === 0 && html`<span class="faint">It has not run yet, or no run of it is kept.</span>`}
      <span class="push"></span><${Cli} words=${["iii", "cron", "run", step]} /></footer></li>`;
}

function LastRuns({ runs }) {
  return html`<ol class="last-runs" aria-label="Last runs">${runs.map(
    (run) => html`<li key=${run.id}>
      <${Badge} state=${run.outcome} /><a class="num" href=${href(["traces", run.trace_id])}><${Ago} at_ms=${run.started_ms} /></a><${Took}
          ms=${run.duration_ms} /><span class="error-text">${firstLine(run.error ?? "")}</span></li>`,
  )}</ol>`;
}
