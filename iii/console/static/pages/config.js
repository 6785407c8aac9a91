// The configuration as it is in effect, defaults and overrides applied; what is secret comes hidden from the API.
import { html } from "../html.js";
import { useApi } from "../api.js";
import { setQuery } from "../router.js";
import { PageHead } from "../shell.js";
import { Answer, Cli, CopyButton, Empty } from "../components/badge.js";
import { pretty } from "../components/json.js";
import { SearchField } from "../components/search.js";

export default function Config({ route }) {
  const answer = useApi("api/config");
  const { q = "" } = route.query;
  return html`<${Answer} of=${answer} rows=${8}>${(config) => {
    const sections = sectionsOf(config.effective ?? {}, q.toLowerCase());
    return html`
      <${PageHead} title="Config"
          detail=${html`<span>In effect, from <span class="mono break">${config.file ?? "defaults: there is no file"}</span></span>`}
          cli=${html`<${Cli} words=${["iii", "config"]} />`}>
        <${CopyButton} text=${() => pretty(config.effective)} label="Copy as JSON" small=${false} /><//>
      <div class="filters"><${SearchField} label="Search the configuration" placeholder="Setting or value" value=${q}
          onSearch=${(next) => setQuery(route, { q: next })} /></div>
      ${sections.length === 0 && html`<${Empty} title="No setting fits" icon="config">Change what is searched for.<//>`}
      <div class="masonry">${sections.map(
        ([
          name,
          rows,
        ]) => html`<section class="panel" key=${name} aria-labelledby=${`section-${name}`}><header class="panel-head"><h2
            id=${`section-${name}`} class="mono">${name}</h2></header>
        <table class="small-table settings"><tbody>${rows.map(([key, value]) => html`<tr
            key=${key}><th scope="row" class="mono">${key}</th><td class="mono break">${shown(value)}</td></tr>`)}</tbody></table></section>`,
      )}</div>`;
  }}<//>`;
}

function shown(value) {
  if (value === null) return html`<span class="faint">not set</span>`;
  return typeof value === "string" ? value : JSON.stringify(value);
}

function sectionsOf(effective, wanted) {
  const fits = ([key, value], section) => `${section}.${key} ${JSON.stringify(value)}`.toLowerCase().includes(wanted);
  const general = [];
  const sections = [];
  for (const [name, value] of Object.entries(effective)) {
    if (isMapping(value)) sections.push([name, flat(value)]);
    else general.push([name, value]);
  }
  if (general.length) sections.unshift(["general", general]);
  return sections
    .map(([name, rows]) => [name, rows.filter((row) => fits(row, name))])
    .filter(([, rows]) => rows.length);
}

const isMapping = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

function flat(mapping, before = "") {
  return Object.entries(mapping).flatMap(([name, value]) =>
    isMapping(value) && Object.keys(value).length ? flat(value, `${before}${name}.`) : [[before + name, value]],
  );
}
