// The messages of one topic: browse by state, search by text or payload field, and act on one, some or all found.
import { html, useState } from "../html.js";
import { apiPath, postText, useMore } from "../api.js";
import { href, setQuery } from "../router.js";
import { bytes, compactNumber, duration, exactNumber, plural, rate } from "../format.js";
import { PageHead } from "../shell.js";
import { Ago, Answer, Badge, Choice, Cli, Empty, ErrorText, Facts, IdLink, StepLink } from "../components/badge.js";
import { Dialog } from "../components/dialog.js";
import { Icon } from "../components/icon.js";
import { JsonField, jsonFault } from "../components/json.js";
import { SearchField } from "../components/search.js";
import { More, Table, useSelection } from "../components/table.js";
import { toast } from "../components/toast.js";
import { bulk } from "../acts.js";
import { PauseButton, QueueState, useQueues } from "./queues.js";

const STATES = ["ready", "later", "behind", "leased"];
const RULES = new Set([
  "concurrency",
  "max_in_flight",
  "max_retries",
  "retry_delay_ms",
  "backoff",
  "timeout_ms",
  "max_depth",
]);
const NAMES = { ready: "Ready", later: "Delayed", behind: "Behind", leased: "Running", dead: "Dead" };

export function MessagesPage({ topic, route, read_only }) {
  const queues = useQueues();
  const [sending, setSending] = useState(false);
  const { step = "", state = "", q = "", field = "", value = "" } = route.query;
  const rows = queues.rows.filter((row) => row.topic === topic);
  const row = rows.find((candidate) => candidate.step === step) ?? (rows.length === 1 ? rows[0] : null);
  const dead = rows.length > 0 && rows.every(({ kind }) => kind === "dead");
  const list = useMore(
    apiPath(["queues", topic, "messages"], { step, state, q, field, value: field ? value : "", limit: 50 }),
    (data) => (data?.next ? { name: "after", value: data.next } : null),
    (data) => data.messages,
    { every_ms: 4_000 },
  );
  const reload = () => {
    list.reload();
    queues.reload();
  };
  const sum = (name) =>
    rows
      .filter((candidate) => !step || candidate.step === step)
      .reduce((total, candidate) => total + (candidate[name] ?? 0), 0);
  const options = [["", "All"], ...STATES.map((id) => [id, NAMES[id], sum(id)])];
  const filter = Object.fromEntries(
    Object.entries({ q, field, value: field ? value : "", state }).filter(([, given]) => given),
  );
  return html`
    <${PageHead} title=${topic} trail=${[["Queues", href(["queues"])]]} detail=${html`${row && html`<${QueueState}
        row=${row} />`}${dead ? html`<span>Dead letters wait here until they are redriven or discarded.</span>` : html`<${StepChoice}
        rows=${rows} step=${step} route=${route} />`}`}
      cli=${html`<${Cli} words=${["iii", "queue", "peek", topic]} />`}>
      ${row && !dead && html`<${PauseButton} row=${row} read_only=${read_only} reload=${queues.reload} words=${true} />`}
      ${!dead && html`<button type="button" class="button" disabled=${read_only}
          onClick=${() => setSending(true)}><${Icon} name="plus" size=${14} />Enqueue</button>`}
    <//>
    ${row && !dead && html`<${QueueFacts} row=${row} />`}
    <div class="filters">
      ${!dead && html`<${Choice} label="State" options=${options} value=${state} onChange=${(next) => setQuery(route, { state: next })} />`}
      <${SearchField} label="Search messages" placeholder="Text in a payload or error" value=${q}
          onSearch=${(next) => setQuery(route, { q: next })} />
      <${FieldFilter} field=${field} value=${value} onChange=${(next) => setQuery(route, next)} />
    </div>
    <${Answer} of=${list}>${(data) =>
      queues.data && rows.length === 0
        ? html`<${Empty} title="Nobody uses this topic yet" icon="queues">No message was sent to it, and no step takes from it.<//>`
        : html`<${MessageRows} topic=${topic} step=${step} list=${list} data=${data} dead=${dead} filter=${filter}
            read_only=${read_only} reload=${reload} />`}<//>
    ${sending && html`<${EnqueueDialog} topic=${topic} onClose=${() => setSending(false)} onDone=${reload} />`}`;
}

function StepChoice({ rows, step, route }) {
  if (rows.length < 2)
    return rows[0]?.step
      ? html`<span>taken by <${StepLink} step=${rows[0].step} /></span>`
      : html`<span>no step takes from it yet</span>`;
  return html`<label class="inline-label">taken by <select value=${step}
      onChange=${(event) => setQuery(route, { step: event.currentTarget.value })}>
    <option value="">all ${rows.length} steps</option>${rows.map((row) => html`<option key=${row.step}
        value=${row.step}>${row.step}</option>`)}</select></label>`;
}

function QueueFacts({ row }) {
  const rules = Object.entries(row.rules ?? {}).filter(
    ([name, value]) => RULES.has(name) && value !== null && value !== undefined && value !== "",
  );
  return html`<div class="panel strip"><${Facts} of=${[
    ["Enqueued", html`<span class="num">${rate(row.enqueued_per_s)}/s</span>`],
    ["Done", html`<span class="num">${rate(row.done_per_s)}/s · ${compactNumber(row.done)} in all</span>`],
    ["Failed attempts", html`<span class="num">${exactNumber(row.failed)}</span>`],
    ["Oldest", html`<${Ago} at_ms=${row.oldest_ms} />`],
    row.dead > 0 && [
      "Dead letters",
      html`<a class="text-failed" href=${row.dead_topic ? href(["queues", row.dead_topic]) : href(["dead"])}>${exactNumber(row.dead)}</a>`,
    ],
    ...rules.map(([name, value]) => [
      name.replace(/_ms$/, "").replaceAll("_", " "),
      html`<span class="num">${name.endsWith("_ms") ? duration(value) : typeof value === "object" ? JSON.stringify(value) : String(value)}</span>`,
    ]),
  ]} /></div>`;
}

function FieldFilter({ field, value, onChange }) {
  return html`<span class="field-filter" role="group" aria-label="By a field of the payload">
    <${SearchField} label="Field of the payload" placeholder="field: user.id" value=${field} mark=${false}
        onSearch=${(next) => onChange({ field: next })} /><span aria-hidden="true">=</span>
    <${SearchField} label="Value of the field" placeholder="value" value=${value} mark=${false}
        onSearch=${(next) => onChange({ value: next })} /></span>`;
}

function MessageRows({ topic, step, list, data, dead, filter, read_only, reload }) {
  const selection = useSelection((message) => message.id, JSON.stringify([topic, step, filter]));
  const filtered = Object.keys(filter).length > 0;
  const ids = [...selection.chosen];
  const act = async (verb, of, what) => {
    if (await bulk(verb, { topic, step: step || undefined, ...of }, { what })) {
      selection.clear();
      reload();
    }
  };
  const all = filtered ? "all that fit" : "all of it";
  return html`
    <div class="bulk" role="group" aria-label="Acts on messages">
      <span class="faint num">${ids.length ? `${plural(ids.length, "message")} chosen` : data.total !== null && data.total !== undefined ? plural(data.total, "message") : `${exactNumber(list.rows.length)}${list.end ? "" : "+"} found · ${exactNumber(data.scanned)} looked at`}</span>
      <span class="bulk-acts">
        ${dead && html`<button type="button" class="button" disabled=${read_only || !list.rows.length}
            onClick=${() => act("redrive", ids.length ? { ids } : filtered ? { filter } : {}, ids.length ? plural(ids.length, "chosen message") : all)}><${Icon} name="redo"
            size=${14} />Redrive ${ids.length ? "chosen" : all}</button>`}
        ${(ids.length > 0 || filtered) && html`<button type="button" class="button danger-quiet"
            disabled=${read_only || !list.rows.length}
            onClick=${() => act("discard", ids.length ? { ids } : { filter }, ids.length ? plural(ids.length, "chosen message") : all)}><${Icon} name="trash"
            size=${14} />Discard ${ids.length ? "chosen" : all}</button>`}
        ${!ids.length && !filtered && html`<button type="button" class="button danger-quiet"
            disabled=${read_only || !list.rows.length} onClick=${() => act("purge", {}, topic)}><${Icon} name="trash"
            size=${14} />Purge</button>`}
      </span></div>
    <${Table} label="Messages" rows=${list.rows} keyOf=${(message) => message.id}
        open=${(message) => href(["messages", message.id])} select=${read_only ? null : selection}
      empty=${html`<${Empty}
          title=${filtered ? "No message fits" : "Nothing waits here"} icon="message">${filtered ? `${exactNumber(data.scanned)} messages were looked at.` : dead ? "No message has died here." : "What is enqueued and not yet done is shown here."}<//>`}
      columns=${[
        { key: "id", label: "Message", cell: (message) => html`<${IdLink} kind="messages" id=${message.id} />` },
        { key: "state", label: "State", cell: (message) => html`<${Badge} state=${message.state} />` },
        {
          key: "preview",
          label: "Payload",
          wide: true,
          cell: (message) =>
            html`<code class="preview" title=${message.preview}>${message.preview}</code>${message.error && html`<${ErrorText}
                error=${message.error} />`}`,
        },
        {
          key: "step",
          label: dead ? "Died in" : "Step",
          cell: (message) =>
            message.dead
              ? html`<span class="cell-stack"><${StepLink} step=${message.dead.step} /><small>${message.dead.topic}</small></span>`
              : html`<${StepLink} step=${message.step} />`,
        },
        {
          key: "group",
          label: "Group",
          hide: "narrow",
          cell: (message) =>
            message.group ? html`<span class="mono">${message.group}</span>` : html`<span class="faint">–</span>`,
        },
        {
          key: "attempts",
          label: "Attempts",
          align: "end",
          cell: (message) =>
            html`<span class=${message.attempts ? "num text-waiting" : "num faint"}>${message.dead?.attempts ?? message.attempts}</span>`,
        },
        {
          key: "size",
          label: "Size",
          align: "end",
          hide: "narrow",
          cell: (message) => html`<span class="num nowrap">${bytes(message.size)}</span>`,
        },
        !dead && {
          key: "due",
          label: "Due",
          align: "end",
          cell: (message) =>
            message.due_ms ? html`<${Ago} at_ms=${message.due_ms} />` : html`<span class="faint">–</span>`,
        },
        {
          key: "at",
          label: dead ? "Died" : "Enqueued",
          align: "end",
          cell: (message) => html`<${Ago} at_ms=${message.dead?.at_ms ?? message.enqueued_ms} />`,
        },
      ].filter(Boolean)} />
    <${More} of=${list} what="messages" />`;
}

export function EnqueueDialog({ topic, onClose, onDone }) {
  const [text, setText] = useState("{}");
  const [more, setMore] = useState({ priority: "normal", delay: "", group: "" });
  const [fault, setFault] = useState(null);
  const change = (name) => (event) => setMore({ ...more, [name]: event.currentTarget.value });
  const send = async () => {
    const given = Object.entries({ topic, ...more })
      .filter(([, value]) => value)
      .map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`);
    try {
      const { ids } = await postText("api/enqueue", `{${given.join(", ")}, "data": ${text}}`);
      toast(`Enqueued as ${ids.join(", ")}`);
      onClose();
      onDone();
    } catch (error) {
      setFault(error.message);
    }
  };
  const footer = html`<${Cli}
      words=${["iii", "enqueue", topic, text.replace(/\s+/g, " "), ...(more.priority === "normal" ? [] : ["--priority", more.priority])]} />
    <button type="button" class="button" onClick=${onClose}>Cancel</button><button type="button" class="button primary"
        disabled=${jsonFault(text) !== null} onClick=${send}>Enqueue</button>`;
  return html`<${Dialog} title=${`Enqueue to ${topic}`} wide=${true} onClose=${onClose} footer=${footer}>
    <${JsonField} label="Payload" text=${text} onText=${setText} rows=${10} first=${true} />
    <div class="form-row">
      <label>Priority<select value=${more.priority}
          onChange=${change("priority")}><option>low</option><option>normal</option><option>high</option></select></label>
      <label>Delay<input value=${more.delay} placeholder="5s, 2m, 1h" onInput=${change("delay")} /></label>
      <label>Group<input value=${more.group} placeholder="one at a time within it" onInput=${change("group")} /></label>
    </div>
    ${fault && html`<p class="callout tone-failed" role="alert">${fault}</p>`}<//>`;
}
