// JSON to look at, to edit and to compare. All of it is text.
import { html, useMemo, useState } from "../html.js";
import { CopyButton } from "./badge.js";
import { Icon } from "./icon.js";

const OPEN_CHILDREN_MAX = 60;
const TEXT_CHARS_MAX = 2_000;
const DIFF_LINES_MAX = 1_500;

export const pretty = (value) => JSON.stringify(value, null, 2) ?? "null";

/** A value as a tree whose branches fold. */
export function JsonView({ value, label = "JSON" }) {
  return html`<div class="json" role="group" aria-label=${label}>
    <div class="json-tools"><${CopyButton} text=${() => pretty(value)} label=${`Copy ${label}`} /></div>
    <div class="json-tree"><${Node} value=${value} depth=${0} last=${true} /></div>
  </div>`;
}

function Node({ name, value, depth, last }) {
  const branch = value !== null && typeof value === "object" && !isRaw(value);
  const entries = branch ? (Array.isArray(value) ? value.map((item) => [null, item]) : Object.entries(value)) : [];
  const [open, setOpen] = useState(depth < 3 && entries.length <= OPEN_CHILDREN_MAX);
  const [shown, setShown] = useState(OPEN_CHILDREN_MAX);
  const key =
    name === null || name === undefined
      ? null
      : html`<span class="json-key">${JSON.stringify(name)}</span><span class="json-mark">: </span>`;
  const comma = last ? "" : ",";
  if (!branch || !entries.length) {
    return html`<div class="json-line">${key}${branch ? html`<span class="json-mark">${Array.isArray(value) ? "[]" : "{}"}</span>` : html`<${Leaf}
        value=${value} />`}<span class="json-mark">${comma}</span></div>`;
  }
  const [left, right] = Array.isArray(value) ? "[]" : "{}";
  return html`<div class="json-branch">
    <div class="json-line"><button type="button" class=${`json-fold ${open ? "open" : ""}`}
        aria-expanded=${open ? "true" : "false"} aria-label=${open ? "Fold" : "Unfold"}
        onClick=${() => setOpen(!open)}><${Icon} name="right" size=${10} /></button>${key}<span class="json-mark">${left}</span>
      ${!open && html`<button type="button" class="json-count"
          onClick=${() => setOpen(true)}>${entries.length}</button><span class="json-mark">${right}${comma}</span>`}</div>
    ${
      open &&
      html`<div class="json-children">
      ${entries.slice(0, shown).map(([childName, child], index) => html`<${Node} key=${childName ?? index} name=${childName}
          value=${child} depth=${depth + 1} last=${index === entries.length - 1} />`)}
      ${entries.length > shown && html`<button type="button" class="link-button"
          onClick=${() => setShown(shown + 500)}>${entries.length - shown} more</button>`}
    </div><div class="json-line"><span class="json-mark">${right}${comma}</span></div>`
    }
  </div>`;
}

const isRaw = (value) => JSON.isRawJSON?.(value) ?? false;

function Leaf({ value }) {
  const [whole, setWhole] = useState(false);
  const kind = value === null ? "null" : isRaw(value) ? "number" : typeof value;
  const text = JSON.stringify(value);
  const cut = text.length > TEXT_CHARS_MAX && !whole;
  return html`<span
      class=${`json-${kind}`}>${cut ? text.slice(0, TEXT_CHARS_MAX) : text}</span>${cut && html`<button type="button" class="json-count"
      onClick=${() => setWhole(true)}>… ${text.length} characters</button>`}`;
}

/** What is wrong with a text as JSON, in words, or null. */
export function jsonFault(text) {
  if (!text.trim()) return 'Nothing is written: null, "text", 1, [] and {} are values.';
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return placed(error.message, text);
  }
}

function placed(message, text) {
  const at = /position (\d+)/.exec(message);
  if (!at) return message;
  const before = text.slice(0, Number(at[1]));
  const line = before.split("\n").length;
  const told = message.replace(/ in JSON at position \d+.*$/s, "").replace(/ \(line.*$/s, "");
  return `Line ${line}, column ${before.length - before.lastIndexOf("\n")}: ${told}`;
}

/** A text that must be JSON. */
export function JsonField({ label, text, onText, rows = 12, optional = false, first = false }) {
  const fault = optional && !text.trim() ? null : jsonFault(text);
  const format = () => onText(keepDigits(text));
  return html`<div class=${`json-field ${fault ? "wrong" : ""}`}>
    <div class="json-field-head"><span>${label}</span>
      <button type="button" class="link-button" disabled=${fault !== null || !text.trim()} onClick=${format}>Format</button></div>
    <textarea aria-label=${label} rows=${rows} spellcheck="false" autocomplete="off" autocapitalize="off"
        data-first=${first ? "" : null} aria-invalid=${fault ? "true" : "false"} value=${text}
        onInput=${(event) => onText(event.currentTarget.value)}></textarea>
    <p class="json-fault" role="status">${fault ?? "valid JSON"}</p>
  </div>`;
}

function keepDigits(text) {
  const exact = (_key, value, context) =>
    typeof value === "number" && context?.source && JSON.rawJSON && String(value) !== context.source
      ? JSON.rawJSON(context.source)
      : value;
  return pretty(JSON.parse(text, exact));
}

/** Two values line by line: what went, what came. undefined: there was, is none. */
export function Diff({ old, current, oldLabel = "before", newLabel = "after" }) {
  const lines = useMemo(() => diffLines(linesOf(old), linesOf(current)), [old, current]);
  if (!lines.some(([mark]) => mark !== " ")) return html`<p class="faint">No difference.</p>`;
  return html`<pre class="diff" aria-label=${`From ${oldLabel} to ${newLabel}`}>${lines.map(([mark, text], index) => html`<span
      key=${index} class=${mark === "+" ? "diff-new" : mark === "-" ? "diff-old" : "diff-same"}>${mark} ${text}</span>`)}</pre>`;
}

const linesOf = (value) => (value === undefined ? [] : pretty(value).split("\n"));

/** Longest common subsequence over lines, after what is equal at both ends. */
function diffLines(a, b) {
  if (a.length + b.length > DIFF_LINES_MAX) return [...a.map((line) => ["-", line]), ...b.map((line) => ["+", line])];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const oldPart = a.slice(start, a.length - end);
  const newPart = b.slice(start, b.length - end);
  const same = (lines) => lines.map((line) => [" ", line]);
  return [...same(a.slice(0, start)), ...middle(oldPart, newPart), ...same(end ? a.slice(-end) : [])];
}

function middle(a, b) {
  const table = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      table[i][j] = a[i] === b[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
    }
  }
  const lines = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      lines.push([" ", a[i++]]);
      j++;
    } else if (j >= b.length || (i < a.length && table[i + 1][j] >= table[i][j + 1])) lines.push(["-", a[i++]]);
    else lines.push(["+", b[j++]]);
  }
  return lines;
}
