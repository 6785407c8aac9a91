// The steps as a graph: what comes in, the step it starts, the topics and changes that lead on. Counts are live.
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { useApi } from "../api.js";
import { href } from "../router.js";
import { compactNumber, exactNumber, rate } from "../format.js";
import { edgeKey, layered } from "../layers.js";
import { PageHead } from "../shell.js";
import { Answer, Cli, Empty } from "../components/badge.js";

const LABEL_CHARS = 20;
const DETAIL_CHARS = 25;
const SMALLEST = 0.8;
const KINDS = [
  ["route", "HTTP route"],
  ["cron", "cron"],
  ["state", "state change"],
  ["step", "step"],
  ["topic", "topic"],
];

export default function Flow() {
  const answer = useApi("api/flow", { every_ms: 2_000 });
  return html`
    <${PageHead} title="Flow" detail="How work moves: what starts a step, and what the step leads to." cli=${html`<${Cli}
        words=${["iii", "steps"]} />`} />
    <${Answer} of=${answer}>${(data) =>
      data.nodes.length === 0
        ? html`<${Empty} title="No steps" icon="flow">Write a step, and it is drawn here.<//>`
        : html`<${Graph} nodes=${data.nodes} edges=${data.edges} />`}<//>`;
}

function Graph({ nodes, edges }) {
  const shape = JSON.stringify([nodes.map(({ id }) => id), edges.map(({ from, to }) => [from, to])]);
  const box = useRef(null);
  const [room, setRoom] = useState(innerWidth);
  useEffect(() => {
    const watched = new ResizeObserver(([{ contentRect }]) => setRoom(contentRect.width));
    watched.observe(box.current);
    return () => watched.disconnect();
  }, []);
  const plan = useMemo(() => fitting(nodes, edges, room), [shape, room]);
  const names = new Map(nodes.map((node) => [node.id, node.label]));
  return html`<div class="flow-legend">${KINDS.map(([kind, text]) => html`<span key=${kind}><i
      class=${`swatch node-${kind}`} aria-hidden="true"></i>${text}</span>`)}</div>
    <div class="panel flow-box" ref=${box} tabindex="0" role="region" aria-label="Graph of the steps, scrolls sideways">
      <svg class="flow" style=${{ maxWidth: `${plan.width}px`, minWidth: `${Math.round(plan.width * SMALLEST)}px` }}
          viewBox=${`0 0 ${plan.width} ${plan.height}`} role="group" aria-label="Graph of the steps">
        <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0.500 L7.500 4 L0 7.500 z" /></marker></defs>
        ${edges.map((edge) => html`<${Edge} key=${edgeKey(edge)} edge=${edge} path=${plan.paths.get(edgeKey(edge))} />`)}
        ${nodes.map((node) => html`<${Node} key=${node.id} node=${node} place=${plan.placed.get(node.id)} />`)}
        ${edges.map((edge) => html`<${EdgeLabel} key=${edgeKey(edge)} edge=${edge} path=${plan.paths.get(edgeKey(edge))} />`)}
      </svg></div>
    <details class="panel as-list"><summary>The same as a list</summary><table class="small-table"><thead><tr><th scope="col">From</th><th scope="col">How</th><th scope="col">To</th><th scope="col" class="end">Count</th><th scope="col" class="end">per s</th></tr></thead>
      <tbody>${edges.map((edge) => html`<tr
          key=${edgeKey(edge)}><td>${names.get(edge.from)}</td><td class="faint">${edge.kind}</td><td>${names.get(edge.to)}</td><td class="end num">${exactNumber(edge.count)}</td><td class="end num">${rate(edge.per_s)}</td></tr>`)}</tbody></table></details>`;
}

/** To the right where there is room, else down. */
function fitting(nodes, edges, room) {
  const right = layered(nodes, edges, "right");
  return right.width * SMALLEST <= room ? right : layered(nodes, edges, "down");
}

function Edge({ edge, path }) {
  if (!path) return null;
  return html`<path class=${`edge edge-${edge.kind} ${edge.per_s > 0 ? "moving" : ""}`} d=${path.d} marker-end="url(#arrow)" />`;
}

function EdgeLabel({ edge, path }) {
  if (!path || !(edge.count > 0)) return null;
  const text = edge.per_s > 0 ? `${compactNumber(edge.count)} · ${rate(edge.per_s)}/s` : compactNumber(edge.count);
  const width = text.length * 6.2 + 12;
  return html`<g class="edge-label"
      transform=${`translate(${path.middle.x - width / 2} ${path.middle.y - 9})`} aria-hidden="true"><rect
      width=${width} height="18" rx="9" /><text x=${width / 2} y="12.500" text-anchor="middle">${text}</text></g>`;
}

function Node({ node, place }) {
  if (!place) return null;
  const failing = Boolean(node.failing);
  const detail = node.kind === "topic" && node.depth > 0 ? `${compactNumber(node.depth)} waiting` : node.detail;
  const told = `${node.kind} ${node.label}${detail ? `, ${detail}` : ""}${failing ? ", failing" : ""}`;
  return html`<a class=${`node node-${node.kind} ${failing ? "failing" : ""} ${node.depth > 0 ? "deep" : ""}`}
      href=${addressOf(node)} aria-label=${told}>
    <title>${told}</title>
    <g transform=${`translate(${place.x} ${place.y})`}><rect class="node-box" width=${place.width} height=${place.height}
        rx=${node.kind === "step" ? 8 : 27} />
      <text class="node-label" x=${place.width / 2} y=${detail ? 23 : 32} text-anchor="middle">${cut(node.label, LABEL_CHARS)}</text>
      ${detail && html`<text class="node-detail" x=${place.width / 2} y="40" text-anchor="middle">${cut(detail, DETAIL_CHARS)}</text>`}
      ${failing && html`<circle class="node-alarm" cx=${place.width - 4} cy="4" r="6" />`}</g></a>`;
}

const cut = (text, most) => (String(text).length > most ? `${String(text).slice(0, most - 1)}…` : String(text));

function addressOf(node) {
  if (node.kind === "step") return href(["steps", node.step ?? node.label]);
  if (node.kind === "topic") return href(["queues", node.label]);
  if (node.kind === "cron") return href(["cron"]);
  if (node.kind === "route") return href(["http"], { q: node.label });
  return href(["state", node.namespace ?? node.label.replace(/^state:?\s*/, "").split(/[\s:/]/)[0]]);
}
