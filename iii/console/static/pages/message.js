// One message: why it waits, its payload, each attempt with its error; redrive, discard, edit and enqueue again.
import { html, useEffect, useState } from "../html.js";
import { apiPath, postText, useApi } from "../api.js";
import { onLive } from "../live.js";
import { go, href } from "../router.js";
import { bytes, exactTime, firstLine, sentence } from "../format.js";
import { PageHead } from "../shell.js";
import { Ago, Answer, Badge, Cli, CopyButton, Empty, Facts, IdLink, StepLink, Took } from "../components/badge.js";
import { Dialog } from "../components/dialog.js";
import { Icon } from "../components/icon.js";
import { JsonField, JsonView, jsonFault, pretty } from "../components/json.js";
import { toast } from "../components/toast.js";
import { bulk, resendPath, resendText } from "../acts.js";

const WHY_TONE = { __proto__: null, paused: "paused", running: "running", dead: "failed", retry: "failed", no_step: "waiting", quarantine: "waiting" };
const WHY_ICON = {
  __proto__: null,
  paused: "pause",
  running: "play",
  dead: "dead",
  retry: "redo",
  delay: "cron",
  group: "lock",
  no_step: "warning",
  quarantine: "warning",
};

export default function MessagePage({ route, read_only }) {
  const id = route.parts[1];
  const answer = useApi(apiPath(["messages", id]), { every_ms: 4_000 });
  const [editing, setEditing] = useState(false);
  const whole = answer.data?.id ?? id; // the address may name it by its number alone
  useEffect(
    () => onLive("run", (runs) => runs.some((run) => run.message_id === whole) && answer.reload()),
    [whole, answer.reload],
  );
  if (!id) return html`<${Empty} title="No message is named" icon="message">Open one from a queue.<//>`;
  if (answer.error?.status === 404) {
    return html`<${PageHead} title=${`Message ${id}`} trail=${[["Queues", href(["queues"])]]} />
      <${Empty} title="This message is not in the store" icon="check">Done messages leave it; what they did is in their trace. <a
          href=${href(["runs"], { q: id })}>Look for its runs</a><//>`;
  }
  return html`<${Answer} of=${answer}>${(
    message,
  ) => html`<${Message} message=${message} read_only=${read_only} reload=${answer.reload} onEdit=${() => setEditing(true)} />
    ${editing && html`<${ResendDialog} message=${message} onClose=${() => setEditing(false)} />`}`}<//>`;
}

function Message({ message, read_only, reload, onEdit }) {
  const dead = message.dead;
  const step = dead?.step ?? message.step;
  const act = async (verb, what) => {
    if (await bulk(verb, { topic: message.topic, ids: [message.id] }, { what }))
      verb === "discard" ? go(href(["queues", message.topic])) : reload();
  };
  const movable = message.state !== "leased";
  return html`
    <${PageHead} title=${`Message ${message.id}`} trail=${[
      ["Queues", href(["queues"])],
      [message.topic, href(["queues", message.topic])],
    ]}
      detail=${html`<${Badge} state=${dead ? "dead" : message.state} /><${CopyButton}
          text=${message.id} label="Copy the message id" /><span>enqueued <${Ago} at_ms=${message.enqueued_ms} /></span>${message.trace_id && html`<span>trace <${IdLink} kind="traces"
          id=${message.trace_id} /></span>`}`}
      cli=${html`<${Cli} words=${["iii", "queue", "peek", message.topic, "--id", message.id]} />`}>
      ${dead && html`<button type="button" class="button primary" disabled=${read_only}
          onClick=${() => act("redrive", "this message")}><${Icon} name="redo" size=${14} />Redrive</button>`}
      <button type="button" class="button" disabled=${read_only || !movable} title=${movable ? null : "It runs now"}
          onClick=${onEdit}><${Icon} name="edit" size=${14} />Edit and enqueue again</button>
      <button type="button" class="button danger-quiet" disabled=${read_only || !movable}
          onClick=${() => act("discard", "this message")}><${Icon} name="trash" size=${14} />Discard</button>
    <//>
    ${
      message.why &&
      html`<div class=${`callout why tone-${WHY_TONE[message.why.code] ?? "waiting"}`} data-why=${message.why.code}><${Icon}
          name=${WHY_ICON[message.why.code] ?? "cron"} />
      <div class="callout-body"><strong>${dead ? "Why it died" : message.state === "leased" ? "It runs" : "Why it waits"}</strong><p>${sentence(message.why.text)}</p>${dead && html`<p class="error-line">${firstLine(dead.error)}</p>`}</div>
      ${message.trace_id && html`<a class="button" href=${href(["traces", message.trace_id])}><${Icon} name="trace"
          size=${14} />Trace</a>`}</div>`
    }
    <div class="columns">
      <section class="panel span-2" aria-labelledby="payload"><header class="panel-head"><h2 id="payload">Payload</h2><span class="faint num">${bytes(message.size)}</span></header><${JsonView}
          value=${message.payload} label="payload" /></section>
      <section class="panel" aria-label="Facts"><header class="panel-head"><h2>Message</h2></header><${Facts} of=${[
        ["Topic", html`<a href=${href(["queues", message.topic])}>${message.topic}</a>`],
        ["Step", step ? html`<${StepLink} step=${step} />` : "no step takes it yet"],
        dead && ["From topic", html`<a href=${href(["queues", dead.topic])}>${dead.topic}</a>`],
        ["Priority", html`<span class="num">${priorityText(message.priority)}</span>`],
        ["Failed attempts", html`<span class="num">${dead?.attempts ?? message.attempts}</span>`],
        ["Group", message.group && html`<span class="mono">${message.group}</span>`],
        ["Enqueued", html`<span class="num">${exactTime(message.enqueued_ms)}</span>`],
        message.due_ms && [
          "Due",
          html`<span class="num">${exactTime(message.due_ms)} · <${Ago} at_ms=${message.due_ms} /></span>`,
        ],
        dead && ["Died", html`<span class="num">${exactTime(dead.at_ms)}</span>`],
      ]} />
      ${Object.keys(message.headers ?? {}).length > 0 && html`<h3>Headers</h3><${Facts}
          of=${Object.entries(message.headers).map(([name, value]) => [name, html`<span class="mono break">${String(value)}</span>`])} />`}</section>
    </div>
    <${Attempts} message=${message} />`;
}

const priorityText = (priority) => ({ __proto__: null, 64: "low (64)", 128: "normal (128)", 192: "high (192)" })[priority] ?? priority;

function Attempts({ message }) {
  const runs = message.runs ?? [];
  return html`<section class="panel" aria-labelledby="attempts"><header class="panel-head"><h2 id="attempts">Attempts</h2></header>
    ${!runs.length && message.error && html`<pre class="code traceback">${message.error}</pre>`}
    ${!runs.length && !message.error && html`<p class="faint pad">It has not been tried yet.</p>`}
    ${
      runs.length > 0 &&
      html`<ol class="attempts">${runs.map(
        (run) => html`<li key=${run.id} class=${`attempt-row tone-${run.outcome === "done" ? "done" : "failed"}`}>
      <div class="attempt-head"><b>Attempt ${run.attempt}</b><${Badge} state=${run.outcome} /><span class="faint">waited <${Took}
          ms=${run.wait_ms} />, ran <${Took}
          ms=${run.duration_ms} /></span><span class="push"><${Ago} at_ms=${run.started_ms} /></span></div>
      ${run.error && html`<p class="error-line">${firstLine(run.error)}</p>`}
      ${run.traceback && html`<details><summary>Traceback</summary><pre class="code traceback">${run.traceback}</pre></details>`}
      ${Array.isArray(run.logs) && run.logs.length > 0 && html`<ol class="log-lines">${run.logs.map((log, index) => html`<li
          key=${index}
          class=${`level-${log.level}`}><span class="log-message">${log.message}</span>${Object.keys(log.fields ?? {}).length > 0 && html`<code class="log-fields">${JSON.stringify(log.fields)}</code>`}</li>`)}</ol>`}
    </li>`,
      )}</ol>`
    }</section>`;
}

function ResendDialog({ message, onClose }) {
  const [text, setText] = useState(() => pretty(message.payload));
  const [priority, setPriority] = useState(null);
  const [delay_s, setDelay] = useState("");
  const [fault, setFault] = useState(null);
  const [busy, setBusy] = useState(false);
  const send = async () => {
    setBusy(true);
    try {
      const { id } = await postText(
        resendPath(message.id),
        resendText(text, { priority, delay_ms: Math.round(Number(delay_s || 0) * 1000) }),
      );
      toast(`Enqueued again as ${id}; the old message is gone`);
      onClose();
      go(href(["messages", id]));
    } catch (error) {
      setFault(error.message);
      setBusy(false);
    }
  };
  const words = ["iii", "queue", "resend", message.id, text.replace(/\n\s*/g, " ")];
  const footer = html`<${Cli} words=${priority ? [...words, "--priority", priority] : words} />
    <button type="button" class="button" onClick=${onClose}>Cancel</button>
    <button type="button" class="button primary" disabled=${busy || jsonFault(text) !== null} onClick=${send}>Replace and enqueue</button>`;
  return html`<${Dialog} title="Edit and enqueue again" wide=${true} onClose=${onClose} footer=${footer}>
    <p>The message is replaced by a new one with this payload and new attempts, in one commit.</p>
    <${JsonField} label="Payload" text=${text} onText=${setText} rows=${14} first=${true} />
    <div class="form-row">
      <label>Priority<select value=${priority ?? ""}
          onChange=${(event) => setPriority(event.currentTarget.value || null)}><option value="">as it was</option><option>low</option><option>normal</option><option>high</option></select></label>
      <label>Delay in seconds<input type="number" min="0" step="1" value=${delay_s} placeholder="0"
          onInput=${(event) => setDelay(event.currentTarget.value)} /></label>
    </div>
    ${fault && html`<p class="callout tone-failed" role="alert">${fault}</p>`}<//>`;
}
