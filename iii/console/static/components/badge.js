// The small parts every page is made of: states, times, numbers, links, copied commands, empty and failed states.
import { html, useEffect, useRef, useState } from "../html.js";
import { href } from "../router.js";
import { compactNumber, duration, exactNumber, exactTime, firstLine, relative, shellWord, shortId } from "../format.js";
import { Icon } from "./icon.js";
import { toast } from "./toast.js";

const STATES = {
  __proto__: null,
  done: ["done", "done"],
  failed: ["failed", "failed"],
  dead: ["failed", "dead"],
  error: ["failed", "error"],
  running: ["running", "running"],
  leased: ["running", "running"],
  ready: ["waiting", "ready"],
  waiting: ["waiting", "waiting"],
  later: ["waiting", "delayed"],
  delayed: ["waiting", "delayed"],
  behind: ["waiting", "behind"],
  snoozed: ["waiting", "snoozed"],
  cancelled: ["muted", "cancelled"],
  paused: ["paused", "paused"],
  warning: ["waiting", "warning"],
  unserved: ["muted", "no step"],
  healthy: ["done", "healthy"],
  ok: ["done", "healthy"],
  draining: ["paused", "draining"],
  debug: ["muted", "debug"],
  info: ["running", "info"],
  critical: ["failed", "critical"],
};

export function Badge({ state, text }) {
  const [tone, name] = STATES[state] ?? ["muted", state];
  return html`<span class=${`badge tone-${tone}`}><span class="dot" aria-hidden="true"></span>${text ?? name}</span>`;
}

/** Of what lately sent on without delay so often that it may be a loop; nothing of anything else. */
export function Chain({ generation }) {
  if (!generation) return null;
  return html`<span class="badge tone-waiting" title="Its messages follow from each other without delay: a loop, unless the work ends"><span
      class="dot" aria-hidden="true"></span>generation ${compactNumber(generation)}</span>`;
}

export const toneOf = (state) => (STATES[state] ?? ["muted"])[0];

const KINDS = {
  __proto__: null,
  http: "http",
  queue: "queues",
  cron: "cron",
  state: "state",
  message: "message",
  change: "change",
  dead: "dead",
  route: "http",
  step: "steps",
  topic: "queues",
};

export function Kind({ kind, label }) {
  return html`<span class=${`kind kind-${kind}`} title=${label ?? kind}><${Icon} name=${KINDS[kind] ?? "steps"} size=${14} /></span>`;
}

const clocks = new Set();
setInterval(() => {
  if (!document.hidden) clocks.forEach((tick) => tick(Date.now()));
}, 1_000);

/** The time, once a second. */
export function useNow() {
  const [now_ms, setNow] = useState(Date.now);
  useEffect(() => {
    clocks.add(setNow);
    return () => clocks.delete(setNow);
  }, []);
  return now_ms;
}

export function Ago({ at_ms, title = exactTime(at_ms) }) {
  const now_ms = useNow();
  if (at_ms === null || at_ms === undefined) return html`<span class="faint">–</span>`;
  return html`<time class="num nowrap" title=${title}
      datetime=${new Date(at_ms).toISOString()}>${relative(at_ms, now_ms)}</time>`;
}

export const Took = ({ ms }) =>
  html`<span class="num nowrap" title=${ms === null || ms === undefined ? "" : `${ms} ms`}>${duration(ms)}</span>`;

/** A count: quiet where it is 0, exact in its title where it is shortened. */
export function Count({ value, tone }) {
  const quiet = !value;
  return html`<span class=${`num ${quiet ? "faint" : tone ? `text-${tone}` : ""}`}
      title=${exactNumber(value)}>${compactNumber(value)}</span>`;
}

export function IdLink({ kind, id }) {
  if (!id) return html`<span class="faint">–</span>`;
  return html`<a class="mono nowrap" href=${href([kind, id])} title=${id}>${shortId(id)}</a>`;
}

export const StepLink = ({ step }) =>
  step
    ? html`<a class="strong-link" href=${href(["steps", step])}>${step}</a>`
    : html`<span class="faint">no step</span>`;

export const ErrorText = ({ error }) =>
  error ? html`<span class="error-text" title=${error}>${firstLine(error)}</span>` : null;

export function CopyButton({ text, label = "Copy", small = true }) {
  const [copied, setCopied] = useState(false);
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    if (!(await copyText(typeof text === "function" ? text() : text))) return;
    setCopied(true);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setCopied(false), 1_500);
  };
  return html`<button type="button" class=${`button quiet ${small ? "tiny" : ""}`} onClick=${copy} aria-label=${label} title=${label}>
    <${Icon} name=${copied ? "check" : "copy"} size=${14} />
  </button>`;
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    toast("The browser did not allow to copy; select the text instead.", "failed");
    return false;
  }
}

/** The same on the command line: `words` are quoted as a shell needs it. */
export function Cli({ words }) {
  const command = words
    .filter((word) => word !== null && word !== undefined && word !== "")
    .map(shellWord)
    .join(" ");
  const copy = async () => {
    if (await copyText(command)) toast(`Copied: ${command}`);
  };
  return html`<button type="button" class="cli" onClick=${copy} title=${`Copy the command: ${command}`}
      aria-label=${`Copy the command ${command}`}>
    <span class="cli-mark" aria-hidden="true">CLI</span><code>${command}</code>
  </button>`;
}

export function Empty({ title, icon = "search", children }) {
  return html`<div class="empty"><${Icon} name=${icon}
      size=${22} /><p class="empty-title">${title}</p><div class="empty-text">${children}</div></div>`;
}

export function Failed({ error, retry }) {
  return html`<div class="callout tone-failed" role="alert">
    <${Icon} name="error" />
    <div class="callout-body"><strong>${error.status === 404 ? "Not found" : "This could not be loaded"}</strong><p>${error.message}</p></div>
    ${retry && html`<button type="button" class="button" onClick=${retry}>Try again</button>`}
  </div>`;
}

export function Loading({ rows = 6 }) {
  return html`<div class="skeleton" role="status" aria-label="Loading">
    ${Array.from({ length: rows }, (_, row) => html`<div class="skeleton-row" key=${row}></div>`)}
  </div>`;
}

/** Loading, error or what `children` makes of the data. */
export function Answer({ of, rows, children }) {
  if (of.data === null && of.error) return html`<${Failed} error=${of.error} retry=${of.reload} />`;
  if (of.data === null) return html`<${Loading} rows=${rows} />`;
  return html`${of.error && html`<${Failed} error=${of.error} retry=${of.reload} />`}${children(of.data)}`;
}

/** What is said about one thing: [["Name", content], ...]; without content it is left out. */
export function Facts({ of }) {
  const told = of.filter((fact) => fact && fact[1] !== null && fact[1] !== undefined && fact[1] !== "");
  return html`<dl class="facts">${told.map(([name, content]) => html`<div key=${name}><dt>${name}</dt><dd>${content}</dd></div>`)}</dl>`;
}

export function Tabs({ label, tabs, current }) {
  return html`<nav class="tabs" aria-label=${label}>
    ${tabs.map(
      ([
        id,
        text,
        address,
        count,
      ]) => html`<a key=${id} class="tab" href=${address} aria-current=${id === current ? "page" : null}>
      ${text}${count !== undefined && html` <span class="tab-count num">${compactNumber(count)}</span>`}
    </a>`,
    )}
  </nav>`;
}

/** One of few: [[value, text, count?], ...]. */
export function Choice({ label, options, value, onChange }) {
  return html`<div class="choice" role="group" aria-label=${label}>
    ${options.map(
      ([
        option,
        text,
        count,
      ]) => html`<button type="button" key=${option} aria-pressed=${option === value ? "true" : "false"} onClick=${() => onChange(option)}>
      ${text}${count !== undefined && count !== null && html` <span class="tab-count num">${compactNumber(count)}</span>`}
    </button>`,
    )}
  </div>`;
}
