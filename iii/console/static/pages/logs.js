// Log lines, the newest at the end, live: filtered by level, step, trace and text; one opened shows its fields.
import { html, useCallback, useEffect, useMemo, useState } from "../html.js";
import { apiPath, get, useApi } from "../api.js";
import { onLive } from "../live.js";
import { href, setQuery } from "../router.js";
import { clock, exactNumber, exactTime } from "../format.js";
import { PageHead } from "../shell.js";
import { Answer, Badge, Choice, Cli, Empty, Facts, IdLink, StepLink } from "../components/badge.js";
import { Icon } from "../components/icon.js";
import { JsonView } from "../components/json.js";
import { SearchField } from "../components/search.js";
import { LongList } from "../components/table.js";

const LINES_MAX = 5_000;
const ROW_PX = 26;
const LEVELS = ["debug", "info", "warning", "error", "critical"];
let number = 0;
const numbered = (line) => ({ ...line, number: ++number });

export default function Logs({ route }) {
  const { level = "", step = "", trace = "", q = "" } = route.query;
  const [following, setFollowing] = useState(true);
  const [open, setOpen] = useState(null);
  const { answer, lines, older, skipped, clear } = useLines({ level, step, trace, q }, following);
  const row = useCallback(
    (
      line,
    ) => html`<button type="button" class=${`log-row level-${line.level} ${open?.number === line.number ? "chosen" : ""}`}
        onClick=${() => setOpen(open?.number === line.number ? null : line)}>
    <span class="num faint log-at">${clock(line.at_ms)}</span><span class="log-level">${line.level}</span><span class="log-step">${line.step || line.logger || ""}</span><span class="log-message">${line.message}</span>
    <code class="log-fields">${Object.keys(line.fields ?? {}).length ? JSON.stringify(line.fields) : ""}</code></button>`,
    [open],
  );
  return html`<div class="logs-page">
    <${PageHead} title="Logs" cli=${html`<${Cli}
        words=${["iii", "logs", "-f", ...(level ? ["--level", level] : []), ...(step ? ["--step", step] : [])]} />`}>
      <button type="button" class="button" aria-pressed=${following ? "true" : "false"}
          onClick=${() => setFollowing(!following)}><${Icon} name=${following ? "pause" : "play"}
          size=${14} />${following ? "Hold" : "Follow"}</button>
      <button type="button" class="button" onClick=${clear}>Clear</button><//>
    <div class="filters"><${Choice} label="At least" options=${[
      ["", "All"],
      ["info", "Info"],
      ["warning", "Warning"],
      ["error", "Error"],
    ]} value=${level} onChange=${(next) => setQuery(route, { level: next })} />
      <${SearchField} label="Search logs" placeholder="Text in a line or its fields" value=${q}
          onSearch=${(next) => setQuery(route, { q: next })} />
      ${step && html`<p class="filter-note">Only step <b>${step}</b> <button type="button" class="link-button"
          onClick=${() => setQuery(route, { step: "" })}>show all</button></p>`}
      ${trace && html`<p class="filter-note">Only trace <${IdLink} kind="traces"
          id=${trace} /> <button type="button" class="link-button"
          onClick=${() => setQuery(route, { trace: "" })}>show all</button></p>`}</div>
    <${Answer} of=${answer} rows=${12}>${() =>
      lines.length === 0
        ? html`<${Empty}
            title=${level || step || trace || q ? "No line fits" : "No lines yet"} icon="logs">What steps log is shown here as it is written.<//>`
        : html`
      <div class="log-box">
        <div class="log-top faint">${older.more ? html`<button type="button" class="link-button"
            onClick=${older.load}>older lines</button>` : html`<span>the oldest line that is kept</span>`}<span class="num">${exactNumber(lines.length)} lines${skipped ? ` · ${exactNumber(skipped)} left out under load` : ""}</span></div>
        <${LongList} label="Log lines" items=${lines} row_px=${ROW_PX} keyOf=${(line) => line.number} row=${row} follow=${following} />
      </div>
      ${open && html`<${Line} line=${open} route=${route} onClose=${() => setOpen(null)} />`}`}<//></div>`;
}

/** The asked lines turned oldest first, then what is logged since, at most LINES_MAX. */
function useLines(filter, following) {
  const { level, step, trace, q } = filter;
  const path = apiPath(["logs"], { level, step, trace, q, limit: 200 });
  const answer = useApi(path);
  const [before, setBefore] = useState([]);
  const [next, setNext] = useState(null);
  const [after, setAfter] = useState([]);
  const [hidden, setHidden] = useState(false);
  const [skipped, setSkipped] = useState(0);
  useEffect(() => {
    setBefore((answer.data?.lines ?? []).map(numbered).reverse());
    setNext(answer.data?.next ?? null);
    setAfter([]);
    setHidden(false);
  }, [answer.data]);
  useEffect(() => {
    if (!following) return undefined;
    return onLive("log", (list) => {
      const fit = list.filter((line) => line.message !== undefined && fits(line, { level, step, trace, q }));
      const left = list.reduce((sum, line) => sum + (line.skipped ?? 0), 0);
      if (left) setSkipped((last) => last + left);
      if (fit.length) setAfter((last) => [...last, ...fit.map(numbered)].slice(-LINES_MAX));
    });
  }, [following, level, step, trace, q]);
  const lines = useMemo(() => [...(hidden ? [] : before), ...after].slice(-LINES_MAX), [hidden, before, after]);
  const load = async () => {
    const page = await get(`${path}&${new URLSearchParams({ before: next })}`);
    setBefore((last) => [...page.lines.map(numbered).reverse(), ...last]);
    setNext(page.next ?? null);
  };
  const clear = () => {
    setHidden(true);
    setAfter([]);
  };
  return { answer, lines, skipped, clear, older: { more: next !== null && next !== undefined && !hidden, load } };
}

function fits(line, { level, step, trace, q }) {
  if (level && LEVELS.indexOf(line.level) < LEVELS.indexOf(level)) return false;
  if (step && line.step !== step) return false;
  if (trace && line.trace_id !== trace) return false;
  return !q || `${line.message} ${JSON.stringify(line.fields ?? {})}`.toLowerCase().includes(q.toLowerCase());
}

function Line({ line, route, onClose }) {
  return html`<aside class="panel log-detail" aria-label="The line"><header class="panel-head"><${Badge}
      state=${line.level} /><h2>${line.message}</h2>
      <button type="button" class="button quiet" aria-label="Close the line" onClick=${onClose}><${Icon} name="close" /></button></header>
    <${Facts} of=${[
      ["At", html`<span class="num">${exactTime(line.at_ms)}</span>`],
      [
        "Step",
        line.step &&
          html`<${StepLink} step=${line.step} /> <button type="button" class="link-button"
              onClick=${() => setQuery(route, { step: line.step })}>only this</button>`,
      ],
      [
        "Trace",
        line.trace_id &&
          html`<${IdLink} kind="traces" id=${line.trace_id} /> <a href=${href(["logs"], { trace: line.trace_id })}>only this</a>`,
      ],
      ["Attempt", line.attempt],
      ["Instance", line.instance],
    ]} />
    ${Object.keys(line.fields ?? {}).length > 0 && html`<${JsonView} value=${line.fields} label="fields" />`}</aside>`;
}
