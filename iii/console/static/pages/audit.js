// Every change that was made by hand, through the console or the command line.
import { html } from "../html.js";
import { useMore } from "../api.js";
import { PageHead } from "../shell.js";
import { Ago, Answer, Cli, Empty } from "../components/badge.js";
import { More, Table } from "../components/table.js";

export default function Audit() {
  const list = useMore(
    "api/audit?limit=100",
    (data) => (data?.next ? { name: "before", value: data.next } : null),
    (data) => data.entries,
    { every_ms: 5_000 },
  );
  return html`
    <${PageHead} title="Audit" detail="Changes made by hand: who, what, and how many it concerned."
        cli=${html`<${Cli} words=${["iii", "audit"]} />`} />
    <${Answer} of=${list}>${() => html`<${Table} label="Changes made by hand"
        rows=${list.rows.map((entry, index) => ({ ...entry, index }))}
        keyOf=${(entry) => entry.id ?? `${entry.at_ms}/${entry.index}`}
      empty=${html`<${Empty} title="No changes by hand yet" icon="audit">A pause, redrive, discard or edit leaves a line here.<//>`}
      columns=${[
        { key: "at", label: "When", cell: (entry) => html`<${Ago} at_ms=${entry.at_ms} />` },
        { key: "what", label: "What", cell: (entry) => html`<b>${entry.what}</b>` },
        {
          key: "detail",
          label: "Detail",
          wide: true,
          cell: (entry) =>
            html`<code class="preview">${typeof entry.detail === "string" ? entry.detail : JSON.stringify(entry.detail)}</code>`,
        },
        {
          key: "who",
          label: "Who",
          cell: (entry) =>
            html`<span class="nowrap">${typeof entry.who === "string" ? entry.who : JSON.stringify(entry.who)}</span>`,
        },
      ]} /><${More} of=${list} what="entries" />`}<//>`;
}
