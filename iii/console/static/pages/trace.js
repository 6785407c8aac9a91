// One trace: its story at a glance, the waterfall, and what is known of the span that was clicked.
import { html, useEffect, useMemo, useState } from "../html.js";
import { apiPath, useApi } from "../api.js";
import { onLive } from "../live.js";
import { href } from "../router.js";
import { clock, duration, exactTime, firstLine, plural, shortId } from "../format.js";
import { asTree, beginOf, endOf, storyOf, withoutParked } from "../timeline.js";
import { PageHead } from "../shell.js";
import {
  Ago,
  Answer,
  Badge,
  Cli,
  CopyButton,
  Empty,
  Facts,
  IdLink,
  StepLink,
  Took,
  useNow,
} from "../components/badge.js";
import { Icon } from "../components/icon.js";
import { Waterfall } from "../components/waterfall.js";
import { RunsPage, TracesPage } from "./runs.js";

const STORY_MAX = 14;
const SETTLE_MS = 250;

export default function TracePages({ route }) {
  const [section, id] = route.parts;
  if (section === "runs") return html`<${RunsPage} route=${route} />`;
  return id ? html`<${Trace} key=${id} id=${id} />` : html`<${TracesPage} route=${route} />`;
}

function Trace({ id }) {
  const answer = useApi(apiPath(["traces", id]));
  const spans = useMemo(() => withoutParked(answer.data?.spans ?? []), [answer.data]);
  const live = spans.some((span) => span.live);
  const [selected, setSelected] = useState(undefined);
  const now_ms = useNow();
  useFollowed(id, answer.reload);
  useEffect(() => {
    const timer = live ? setInterval(answer.reload, 1_000) : 0;
    return () => clearInterval(timer);
  }, [live, answer.reload]);
  const failed = spans.findLast(({ outcome }) => outcome === "dead") ?? spans.findLast(({ outcome }) => outcome === "failed");
  const chosen = selected === undefined ? failed?.id : selected;
  const span = spans.find((candidate) => candidate.id === chosen);
  return html`<${Answer} of=${answer} rows=${8}>${(trace) => html`
    <${PageHead} title=${rootLabel(trace)} trail=${[["Traces", href(["traces"])]]} cli=${html`<${Cli} words=${["iii", "trace", id]} />`}
      detail=${spans.length > 0 && html`<${Badge} state=${outcomeOf(spans)} /><span class="mono nowrap">${shortId(id)}</span><${CopyButton}
          text=${id} label="Copy the trace id" />
        <span>${exactTime(trace.started_ms)} · <${Ago} at_ms=${trace.started_ms} /></span><span><${Took}
            ms=${tookOf(spans, now_ms)} /> in all</span><span class="num">${plural(spans.length, "span")}</span>`} />
    ${
      spans.length === 0
        ? html`<${Empty} title="Nothing is kept of this trace" icon="trace">Under load only a sample of what succeeds is kept, and history is bounded (history: in the configuration).<//>`
        : html`
      <${Story} spans=${spans} now_ms=${now_ms} selected=${chosen} onSelect=${setSelected} />
      <div class=${span ? "trace-body with-details" : "trace-body"}>
        <${Waterfall} spans=${spans} now_ms=${now_ms} selected=${chosen} onSelect=${setSelected} />
        ${span && html`<${SpanDetails} key=${span.id} span=${span} onClose=${() => setSelected(null)} />`}
      </div>`
    }`}<//>`;
}

/** Ask again shortly after a run of this trace ended. */
function useFollowed(id, reload) {
  useEffect(() => {
    let timer = 0;
    const stop = onLive("run", (list) => {
      if (!list.some((run) => run.trace_id === id) || timer) return;
      timer = setTimeout(() => {
        timer = 0;
        reload();
      }, SETTLE_MS);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [id, reload]);
}

const rootLabel = (trace) => trace.spans.find((span) => !span.parent)?.label ?? trace.spans[0]?.label ?? "Trace";

const tookOf = (spans, now_ms) =>
  spans.length && Math.max(...spans.map((span) => endOf(span, now_ms))) - Math.min(...spans.map(beginOf));

function outcomeOf(spans) {
  const outcomes = new Set(spans.map(({ outcome }) => outcome));
  if (outcomes.has("dead")) return "dead";
  if (spans.some((span) => span.live)) return outcomes.has("running") ? "running" : "waiting";
  const last = new Map(spans.map((span) => [span.message_id ?? span.id, span.outcome]));
  return [...last.values()].includes("failed") ? "failed" : "done";
}

function Story({ spans, now_ms, selected, onSelect }) {
  const begin = Math.min(...spans.map(beginOf));
  const story = useMemo(() => storyOf(asTree(spans), now_ms), [spans]);
  const shown = story.slice(0, STORY_MAX);
  return html`<ol class="story" aria-label="What happened, in order">
    ${shown.map(
      (part, index) => html`<li key=${index} class=${`story-part tone-${part.tone}`}>
      <button type="button" class=${part.span.id === selected ? "chosen" : ""} onClick=${() => onSelect(part.span.id)}>
        <span class="story-icon"><${Icon} name=${part.icon} size=${14} /></span>
        <span class="story-verb">${part.verb}</span>
        <span class="story-what" title=${part.what}>${part.what}</span>
        <span class="story-said" title=${part.said ?? ""}>${part.said ? firstLine(part.said) : ""}</span>
        <span class="story-at num" title=${exactTime(part.at_ms)}>+${duration(Math.max(0, part.at_ms - begin))}</span>
      </button></li>`,
    )}
    ${story.length > STORY_MAX && html`<li class="story-rest faint">and ${story.length - STORY_MAX} more below</li>`}
  </ol>`;
}

function SpanDetails({ span, onClose }) {
  return html`<aside class="panel details" aria-label="Details of the span">
    <header class="panel-head"><h2>${span.step ?? span.label}</h2><${Badge} state=${span.outcome} />
      <button type="button" class="button quiet" aria-label="Close the details"
          onClick=${onClose}><${Icon} name="close" /></button></header>
    ${span.error && html`<div class="callout tone-failed"><${Icon} name="error" /><div class="callout-body"><strong>${firstLine(span.error)}</strong>${span.traceback && html`<pre class="code traceback">${span.traceback}</pre>`}</div></div>`}
    <${Facts} of=${[
      ["Step", span.step && html`<${StepLink} step=${span.step} />`],
      ["Started by", span.label],
      ["Topic", span.topic && html`<a href=${href(["queues", span.topic])}>${span.topic}</a>`],
      ["Message", span.message_id && span.kind !== "http" && html`<${IdLink} kind="messages" id=${span.message_id} />`],
      ["Status", span.status],
      ["Attempt", span.attempt],
      ["Started", html`<span class="num">${clock(span.started_ms)}</span>`],
      ["Waited", html`<${Took} ms=${span.wait_ms} />`],
      ["Ran", span.duration_ms === null ? "not yet done" : html`<${Took} ms=${span.duration_ms} />`],
    ]} />
    <${Wrote} span=${span} />
    <h3>Logs</h3>
    ${
      (span.logs ?? []).length
        ? html`<ol class="log-lines">${span.logs.map(
            (log, index) => html`<li key=${index} class=${`level-${log.level}`}>
      <span class="num faint">${clock(log.at_ms)}</span><span class="log-message">${log.message}</span>
      ${Object.keys(log.fields ?? {}).length > 0 && html`<code class="log-fields">${JSON.stringify(log.fields)}</code>`}</li>`,
          )}</ol>`
        : html`<p class="faint">It logged nothing.</p>`
    }
  </aside>`;
}

function Wrote({ span }) {
  return html`
    ${
      (span.changes ?? []).length > 0 &&
      html`<h3>State</h3><ul class="plain">${span.changes.map(
        (change, index) => html`<li key=${index}>
      <${Icon} name="state" size=${13} /><span class="faint">${change.op}</span> <a
          href=${href(["state", change.namespace, change.key])}>${change.namespace}/${change.key}</a></li>`,
      )}</ul>`
    }
    ${
      (span.enqueued ?? []).length > 0 &&
      html`<h3>Enqueued</h3><ul class="plain">${span.enqueued.map(
        (message, index) => html`<li key=${index}>
      <${Icon} name="send" size=${13} /><a href=${href(["queues", message.topic])}>${message.topic}</a></li>`,
      )}</ul>`
    }`;
}
