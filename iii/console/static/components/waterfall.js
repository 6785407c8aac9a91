// A trace drawn over time: one row a span, waits hatched, runs solid, and what happened inside as rows of its own.
import { html, useMemo, useState } from "../html.js";
import { duration, firstLine } from "../format.js";
import { asTree, beginOf, endOf, eventsOf, scaleOf } from "../timeline.js";
import { isTyping } from "../keys.js";
import { toneOf, Kind } from "./badge.js";
import { Icon } from "./icon.js";

const EVENTS_SHOWN_MAX = 60;
const percent = (share) => `${(share * 100).toFixed(3)}%`;

export function Waterfall({ spans, now_ms, selected, onSelect }) {
  const rows = useMemo(() => asTree(spans), [spans]);
  const count = useMemo(() => spans.reduce((sum, span) => sum + eventsOf(span, now_ms).length, 0), [spans]);
  const [inside, setInside] = useState(null);
  const [squeeze, setSqueeze] = useState(true);
  const showInside = inside ?? count <= EVENTS_SHOWN_MAX;
  const scale = scaleOf(spans, now_ms, squeeze);
  return html`<section class="waterfall" aria-label="Waterfall">
    <div class="waterfall-tools">
      <label class="check"><input type="checkbox" checked=${showInside}
          onChange=${() => setInside(!showInside)} /> Logs, state changes and messages between</label>
      ${(scale.breaks.length > 0 || !squeeze) && html`<label class="check"><input type="checkbox" checked=${squeeze}
          onChange=${() => setSqueeze(!squeeze)} /> Squeeze idle time</label>`}
      <span class="legend"><i class="key-wait" aria-hidden="true"></i>waits <i class="key-run" aria-hidden="true"></i>runs <i class="key-failed" aria-hidden="true"></i>failed</span>
    </div>
    <div class="waterfall-rows" role="list" data-rows onKeyDown=${moveInSpans}>
      <div class="waterfall-axis" aria-hidden="true"><div></div><div class="lane">${scale.ticks.map((tick, index) => html`<span
          key=${tick.at} class=${`tick ${tick.at > 0.93 ? "at-end" : ""} ${index > 0 && index === scale.ticks.length - 1 ? "last" : ""}`}
          style=${{ left: percent(tick.at) }}>${duration(tick.ms)}</span>`)}
        ${(scale.breaks.length > 3 ? [] : scale.breaks).map((gap) => html`<span key=${gap.from} class="break-label"
            style=${{ left: percent((gap.from + gap.to) / 2) }}>${duration(gap.ms)} idle</span>`)}</div></div>
      ${rows.map(
        (
          { span, depth },
          index,
        ) => html`<${SpanRow} key=${span.id} span=${span} depth=${depth} first=${index === 0} scale=${scale} now_ms=${now_ms}
            selected=${selected === span.id} onSelect=${onSelect} />
        ${showInside && eventsOf(span, now_ms).map((event, place) => html`<${EventRow} key=${`${span.id}/${place}`} event=${event}
            depth=${depth + 1} scale=${scale} onSelect=${() => onSelect(span.id)} />`)}`,
      )}
    </div>
  </section>`;
}

function Lane({ scale, children }) {
  return html`<div class="lane">
    ${scale.ticks.map((tick) => html`<i key=${tick.at} class="grid-line" style=${{ left: percent(tick.at) }}></i>`)}
    ${scale.breaks.map((gap) => html`<i key=${gap.from} class="time-break" title=${`${duration(gap.ms)} in which nothing ran`}
        style=${{ left: percent(gap.from), width: percent(gap.to - gap.from) }}></i>`)}
    ${children}
  </div>`;
}

function SpanRow({ span, depth, first, scale, now_ms, selected, onSelect }) {
  const end = endOf(span, now_ms);
  const wait = [scale.at(beginOf(span)), scale.at(span.started_ms)];
  const run = [scale.at(span.started_ms), scale.at(end)];
  const tone = toneOf(span.outcome);
  const told = spanText(span);
  const [name, by] = span.kind === "http" || !span.step ? [span.label, span.step] : [span.step, span.label];
  const textPlace = placeOfText(wait, run);
  return html`<div role="listitem" class="waterfall-item">
    <button type="button" data-row tabindex=${first ? 0 : -1} class=${`waterfall-row span-row ${selected ? "chosen" : ""}`}
        aria-pressed=${selected ? "true" : "false"} aria-label=${told} onClick=${() => onSelect(selected ? null : span.id)}>
      <span class="waterfall-label" style=${{ paddingInlineStart: `${8 + depth * 16}px` }}>
        <${Kind} kind=${span.kind} />
        <span class="waterfall-name" title=${name}>${name}</span>
        ${by && by !== name && html`<span class="waterfall-step" title=${by}>${by}</span>`}
        ${span.attempt > 1 && html`<span class="attempt">attempt ${span.attempt}</span>`}
      </span>
      <${Lane} scale=${scale}>
        ${wait[1] > wait[0] && html`<i class="bar-wait" style=${{ left: percent(wait[0]), width: percent(wait[1] - wait[0]) }}></i>`}
        ${!["waiting", "unserved"].includes(span.outcome) && html`<i class=${`bar-run tone-${tone} ${span.live ? "live" : ""}`}
            style=${{ left: percent(run[0]), width: percent(run[1] - run[0]) }}></i>`}
        <b class=${`bar-text num ${textPlace.name}`} style=${textPlace.style}>${barText(span, end)}</b>
      <//>
    </button></div>`;
}

/** Inside a wide bar, else after it, else before it. */
function placeOfText(wait, run) {
  if (run[1] - run[0] > 0.16) return { name: "inside", style: { left: percent(run[0]) } };
  if (run[1] < 0.82) return { name: "after", style: { left: percent(run[1]) } };
  return { name: "before", style: { right: percent(1 - Math.min(wait[0], run[0])) } };
}

const barText = (span, end) =>
  span.outcome === "waiting"
    ? "waiting"
    : span.outcome === "unserved"
      ? "no step takes it"
      : duration(span.duration_ms ?? end - span.started_ms);

function spanText(span) {
  const wait = span.wait_ms ? `, waited ${duration(span.wait_ms)}` : "";
  const took =
    span.duration_ms === null || span.duration_ms === undefined ? "" : `, took ${duration(span.duration_ms)}`;
  const error = span.error ? `: ${firstLine(span.error)}` : "";
  return `${span.step ?? span.label}, ${span.kind}, ${span.attempt > 1 ? `attempt ${span.attempt}, ` : ""}${span.outcome}${wait}${took}${error}`;
}

const EVENT_ICONS = { __proto__: null, log: "log", change: "state", enqueue: "send" };

function EventRow({ event, depth, scale, onSelect }) {
  const x = scale.at(event.at_ms);
  return html`<div role="listitem" class=${`waterfall-row event-row event-${event.kind} level-${event.tone ?? "none"}`} onClick=${onSelect}>
    <span class="waterfall-label" style=${{ paddingInlineStart: `${12 + depth * 16}px` }}><${Icon} name=${EVENT_ICONS[event.kind]}
        size=${12} /><span class="event-text">${eventText(event)}</span></span>
    <${Lane} scale=${scale}><i class=${`mark mark-${event.kind}`} style=${{ left: percent(x) }}></i><//>
  </div>`;
}

function eventText({ kind, log, change, message }) {
  if (kind === "log") return log.message;
  if (kind === "enqueue") return `enqueued ${message.topic}`;
  return `${change.op} ${change.namespace}/${change.key}`;
}

function moveInSpans(event) {
  const row = event.target.closest("[data-row]");
  const step = { __proto__: null, j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
  if (!row || !step || isTyping(event.target)) return;
  event.preventDefault();
  const all = [...event.currentTarget.querySelectorAll("[data-row]")];
  all[all.indexOf(row) + step]?.focus();
}
