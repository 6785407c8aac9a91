// Dead letters by their error: what died, where, how often; a whole group redriven or discarded at once.
import { html } from "../html.js";
import { apiPath, useApi } from "../api.js";
import { href, setQuery } from "../router.js";
import { exactNumber, firstLine, plural } from "../format.js";
import { PageHead } from "../shell.js";
import { Ago, Answer, Cli, Empty, StepLink } from "../components/badge.js";
import { Icon } from "../components/icon.js";
import { SearchField } from "../components/search.js";
import { bulk } from "../acts.js";

export default function DeadLetters({ route, read_only }) {
  const { topic = "", q = "" } = route.query;
  const answer = useApi(apiPath(["dead"], { topic, by: "error" }), { every_ms: 5_000 });
  const fits = (group) => `${group.topic} ${group.step} ${group.error}`.toLowerCase().includes(q.toLowerCase());
  return html`
    <${PageHead} title="Dead letters" detail="Messages that used up their attempts, grouped by the error they died of."
        cli=${html`<${Cli} words=${["iii", "queue", "dead", topic]} />`} />
    <div class="filters"><${SearchField} label="Search dead letters" placeholder="Error, step or topic" value=${q}
        onSearch=${(next) => setQuery(route, { q: next })} />
      ${topic && html`<p class="filter-note">Only topic <b>${topic}</b> <button type="button" class="link-button"
          onClick=${() => setQuery(route, { topic: "" })}>show all</button></p>`}</div>
    <${Answer} of=${answer} rows=${3}>${(data) => {
      const groups = data.groups.filter(fits);
      if (!groups.length)
        return html`<${Empty}
            title=${data.groups.length ? "No group fits" : "No dead letters"} icon="check">${data.groups.length ? "Change what is searched for." : "Every message so far was done, or still has attempts left."}<//>`;
      const sum = groups.reduce((total, group) => total + group.count, 0);
      return html`<p class="faint num">${plural(sum, "message")} in ${plural(groups.length, "group")}</p>
        <ul class="dead-groups">${groups.map((group) => html`<${Group}
            key=${JSON.stringify([group.topic, group.step, group.error])} group=${group} read_only=${read_only}
            reload=${answer.reload} />`)}</ul>`;
    }}<//>`;
}

function Group({ group, read_only, reload }) {
  const { topic, step, error, count } = group;
  const act = async (verb) => {
    if (await bulk(verb, { topic, step: step || undefined, filter: { error } }, { what: "this group" })) reload();
  };
  const lines = String(error ?? "").split("\n");
  return html`<li class="panel dead-group">
    <div class="dead-count num text-failed">${exactNumber(count)}</div>
    <div class="dead-text">
      <p class="dead-error">${firstLine(error) || "no error was given"}</p>
      ${lines.length > 1 && html`<details><summary>${plural(lines.length - 1, "more line")}</summary><pre class="code traceback">${error}</pre></details>`}
      <p class="dead-where"><${StepLink} step=${step} /><span class="faint">in</span><a href=${href(["queues", topic])}>${topic}</a>
        <span class="faint">first <${Ago} at_ms=${group.first_ms} />, last <${Ago} at_ms=${group.last_ms} /></span></p>
    </div>
    <div class="dead-acts">
      ${group.sample_id && html`<a class="button" href=${href(["messages", group.sample_id])}>Look at one</a>`}
      <button type="button" class="button danger-quiet" disabled=${read_only}
          onClick=${() => act("discard")}><${Icon} name="trash" size=${14} />Discard</button>
      <button type="button" class="button primary" disabled=${read_only} onClick=${() => act("redrive")}><${Icon} name="redo"
          size=${14} />Redrive</button>
    </div></li>`;
}
