// All queues, live: what waits, runs and died in each, and pause and resume. One topic's messages: messages.js.
import { html, useEffect, useState } from "../html.js";
import { useApi } from "../api.js";
import { onLive } from "../live.js";
import { href, setQuery } from "../router.js";
import { compactNumber, rate } from "../format.js";
import { PageHead } from "../shell.js";
import { Ago, Answer, Badge, Chain, Choice, Cli, Count, Empty, Kind, StepLink } from "../components/badge.js";
import { Icon } from "../components/icon.js";
import { SearchField } from "../components/search.js";
import { Table } from "../components/table.js";
import { setPaused } from "../acts.js";
import { MessagesPage } from "./messages.js";

export default function Queues({ route, read_only }) {
  const topic = route.parts[1];
  return topic
    ? html`<${MessagesPage} key=${topic} topic=${topic} route=${route} read_only=${read_only} />`
    : html`<${QueuesPage} route=${route} read_only=${read_only} />`;
}

const keyOf = (row) => JSON.stringify([row.topic, row.step]);

/** The rows of /api/queues, kept up to date by events. */
export function useQueues() {
  const answer = useApi("api/queues", { every_ms: 15_000 });
  const [newer, setNewer] = useState(new Map());
  useEffect(() => setNewer(new Map()), [answer.data]);
  useEffect(
    () =>
      onLive("queues", (list) =>
        setNewer((last) => {
          const next = new Map(last);
          for (const { queues } of list) for (const row of queues ?? []) next.set(keyOf(row), row);
          return next;
        }),
      ),
    [],
  );
  const asked = answer.data?.queues ?? [];
  const known = new Set(asked.map(keyOf));
  const rows = [
    ...asked.map((row) => newer.get(keyOf(row)) ?? row),
    ...[...newer.values()].filter((row) => !known.has(keyOf(row))),
  ];
  return { ...answer, rows };
}

const SHOWN = {
  __proto__: null,
  all: () => true,
  waiting: (row) => row.ready + row.later + row.behind > 0,
  paused: (row) => row.paused,
  trouble: (row) =>
    row.dead > 0 || row.generation > 0 || (row.kind !== "dead" && !row.served) || (row.kind === "dead" && row.ready > 0),
};

function QueuesPage({ route, read_only }) {
  const queues = useQueues();
  const { q = "", show = "all" } = route.query;
  const fits = (row) => `${row.topic} ${row.step}`.toLowerCase().includes(q.toLowerCase());
  const rows = queues.rows.filter((row) => fits(row) && (SHOWN[show] ?? SHOWN.all)(row));
  const options = [
    ["all", "All"],
    ["waiting", "Waiting"],
    ["paused", "Paused"],
    ["trouble", "Trouble"],
  ].map(([id, text]) => [id, text, queues.data ? queues.rows.filter(SHOWN[id]).length : null]);
  return html`
    <${PageHead} title="Queues" detail="One row for each topic and the step that takes from it." cli=${html`<${Cli}
        words=${["iii", "queue", "list"]} />`} />
    <div class="filters"><${Choice} label="Which queues" options=${options} value=${show}
        onChange=${(next) => setQuery(route, { show: next === "all" ? "" : next })} />
      <${SearchField} label="Search queues" placeholder="Topic or step" value=${q}
          onSearch=${(next) => setQuery(route, { q: next })} /></div>
    <${Answer} of=${queues}>${() => html`<${Table} label="Queues" rows=${rows} keyOf=${keyOf}
        open=${(row) => href(["queues", row.topic], { step: row.kind === "dead" ? "" : row.step })}
      columns=${columns(read_only, queues.reload)} rowClass=${(row) => (row.paused ? "row-paused" : "")}
      empty=${html`<${Empty}
          title=${queues.rows.length ? "No queue fits" : "No queues yet"} icon="queues">${queues.rows.length ? "Change what is searched for." : "A queue comes to be with its first message, or with a step that subscribes."}<//>`} />`}<//>`;
}

function columns(read_only, reload) {
  const number = (key, label, tone) => ({
    key,
    label,
    align: "end",
    cell: (row) => html`<${Count} value=${row[key]} tone=${tone} />`,
  });
  return [
    {
      key: "topic",
      label: "Topic",
      wide: true,
      cell: (row) =>
        html`<span class="cell-pair"><${Kind} kind=${row.kind} /><span class="cell-stack"><a class="strong-link"
            href=${href(["queues", row.topic], { step: row.kind === "dead" ? "" : row.step })}>${row.topic}</a><small>${row.kind === "dead" ? "dead letters" : row.step ? html`<${StepLink}
            step=${row.step} />` : "no step yet"}</small></span></span>`,
    },
    {
      key: "state",
      label: "State",
      cell: (row) => html`<${QueueState} row=${row} /><${Chain} generation=${row.generation} />`,
    },
    number("ready", "Ready", "waiting"),
    number("later", "Delayed"),
    number("behind", "Behind"),
    number("leased", "Running", "running"),
    number("dead", "Dead", "failed"),
    {
      key: "rates",
      label: "In / out",
      align: "end",
      cell: (row) =>
        html`<span class="num nowrap faint-zero">${rate(row.enqueued_per_s)} / ${rate(row.done_per_s)}<small>/s</small></span>`,
    },
    { key: "oldest", label: "Oldest", align: "end", cell: (row) => html`<${Ago} at_ms=${row.oldest_ms} />` },
    { key: "done", label: "Done", align: "end", cell: (row) => html`<${Count} value=${row.done} />` },
    {
      key: "failed",
      label: "Failed",
      align: "end",
      cell: (row) => html`<${Count} value=${row.failed} tone="failed" />`,
    },
    {
      key: "acts",
      label: "Pause",
      align: "end",
      cell: (row) =>
        row.kind === "dead" ? null : html`<${PauseButton} row=${row} read_only=${read_only} reload=${reload} />`,
    },
  ];
}

export function QueueState({ row }) {
  if (row.paused) return html`<${Badge} state="paused" />`;
  if (row.kind === "dead")
    return html`<${Badge} state=${row.ready ? "dead" : "done"} text=${row.ready ? `${compactNumber(row.ready)} letters` : "empty"} />`;
  if (!row.served) return html`<${Badge} state="unserved" />`;
  return html`<${Badge} state=${row.leased ? "running" : "ok"} text=${row.leased ? "running" : "idle"} />`;
}

export function PauseButton({ row, read_only, reload, words = false }) {
  const text = row.paused ? "Resume" : "Pause";
  const act = async () => (await setPaused(row, !row.paused)) && reload();
  return html`<button type="button" class=${words ? "button" : "button quiet tiny"} disabled=${read_only}
      title=${read_only ? "This console is read only" : `${text} ${row.topic}`}
      aria-label=${words ? null : `${text} ${row.topic} ${row.step}`} onClick=${act}>
    <${Icon} name=${row.paused ? "play" : "pause"} size=${14} />${words && text}</button>`;
}
