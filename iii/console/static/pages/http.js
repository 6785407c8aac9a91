// The HTTP routes with their schemas, and a request builder: the request runs in the engine, its trace is one click away.
import { html, useEffect, useMemo, useState } from "../html.js";
import { parseJson, postText, useApi } from "../api.js";
import { href, setQuery } from "../router.js";
import { bytes, duration } from "../format.js";
import { PageHead } from "../shell.js";
import { Answer, Choice, Cli, Empty, StepLink } from "../components/badge.js";
import { Icon } from "../components/icon.js";
import { JsonField, JsonView, jsonFault, pretty } from "../components/json.js";
import { SearchField } from "../components/search.js";

const BODY_METHODS = ["POST", "PUT", "PATCH", "DELETE"];
const keyOf = (route) => `${route.method} ${route.path}`;

export default function Http({ route, read_only }) {
  const answer = useApi("api/routes");
  const { q = "", at = "" } = route.query;
  const { routes = [], base_url } = answer.data ?? {};
  const fits = (candidate) => `${keyOf(candidate)} ${candidate.step}`.toLowerCase().includes(q.toLowerCase());
  const found = routes.filter(fits);
  const chosen = found.find((candidate) => keyOf(candidate) === at) ?? found[0];
  return html`
    <${PageHead} title="HTTP" detail=${base_url ? html`<span>served on <span class="mono">${base_url}</span></span>` : null}
        cli=${html`<${Cli} words=${["iii", "steps"]} />`} />
    <div class="http-page">
      <section class="pane" aria-label="Routes"><div class="pane-search"><${SearchField} label="Search routes" placeholder="Path, method or step"
          value=${q} onSearch=${(next) => setQuery(route, { q: next })} /></div>
        <${Answer} of=${answer}>${() => html`<${RouteList} all=${routes} found=${found} chosen=${chosen} q=${q} />`}<//></section>
      ${chosen && html`<${Route} key=${keyOf(chosen)} route=${chosen} base_url=${base_url} read_only=${read_only} />`}
    </div>`;
}

function RouteList({ all, found, chosen, q }) {
  if (!found.length)
    return html`<${Empty}
        title=${all.length ? "No route fits" : "No step answers HTTP"} icon="http">${all.length ? "Change what is searched for." : 'Give a step the trigger http("POST", "/path").'}<//>`;
  return html`<ul class="name-list" data-rows>${found.map(
    (
      candidate,
    ) => html`<li key=${keyOf(candidate)}><a data-row href=${href(["http"], { q, at: keyOf(candidate) })}
        aria-current=${candidate === chosen ? "true" : null}>
    <span
        class=${`method method-${candidate.method}`}>${candidate.method}</span><span class="clip mono">${candidate.path}</span></a></li>`,
  )}</ul>`;
}

function Route({ route, base_url, read_only }) {
  return html`<div class="http-main">
    <section class="panel" aria-label="Request"><header class="panel-head"><h2><span
        class=${`method method-${route.method}`}>${route.method}</span> <span class="mono">${route.path}</span></h2><span class="push"></span><${StepLink}
        step=${route.step} /></header>
      ${route.description && html`<p class="pad">${route.description}</p>`}
      <${Builder} route=${route} base_url=${base_url} read_only=${read_only} /></section>
    <${Schemas} route=${route} /></div>`;
}

const parametersOf = (path) => [...path.matchAll(/[{:](\w+)\}?/g)].map(([, name]) => name);

function Builder({ route, base_url, read_only }) {
  const names = useMemo(() => parametersOf(route.path), [route.path]);
  const example = route.example ?? {};
  const [parameters, setParameters] = useState(() =>
    Object.fromEntries(names.map((name) => [name, Object.hasOwn(example.path ?? {}, name) ? String(example.path[name]) : ""])),
  );
  const [query, setQueryText] = useState(() => new URLSearchParams(example.query ?? {}).toString());
  const [headers, setHeaders] = useState("");
  const [body, setBody] = useState(() =>
    example.body === undefined || example.body === null ? "" : pretty(example.body),
  );
  const [answer, setAnswer] = useState(null);
  const [busy, setBusy] = useState(false);
  const withBody = BODY_METHODS.includes(route.method);
  const filled = route.path.replace(/[{:](\w+)\}?/g, (_whole, name) => encodeURIComponent(parameters[name] ?? ""));
  const path = query ? `${filled}?${query}` : filled;
  const fault = withBody && body.trim() ? jsonFault(body) : null;
  const missing = names.some((name) => !parameters[name]);
  const send = async () => {
    setBusy(true);
    try {
      const given = { method: route.method, path, headers: headersOf(headers, withBody && body.trim()) };
      const text = JSON.stringify(given);
      setAnswer({
        done: await postText("api/request", withBody && body.trim() ? `${text.slice(0, -1)}, "body": ${body}}` : text),
      });
    } catch (error) {
      setAnswer({ error });
    }
    setBusy(false);
  };
  return html`<div class="builder">
    ${names.length > 0 && html`<div class="form-row">${names.map((name) => html`<label key=${name}>${name}<input
        value=${parameters[name]}
        onInput=${(event) => setParameters({ ...parameters, [name]: event.currentTarget.value })} /></label>`)}</div>`}
    <div class="form-row"><label>Query<input class="mono" value=${query} placeholder="name=value&more=1" spellcheck="false"
        onInput=${(event) => setQueryText(event.currentTarget.value)} /></label>
      <label>Headers<input class="mono" value=${headers} placeholder="Idempotency-Key: 1; X-Name: value" spellcheck="false"
          onInput=${(event) => setHeaders(event.currentTarget.value)} /></label></div>
    ${withBody && html`<${JsonField} label="Body" text=${body} onText=${setBody} rows=${9} optional=${true} />`}
    <div class="editor-foot"><${CurlChip} route=${route} base_url=${base_url} path=${path} body=${withBody ? body : ""} />
      <button type="button" class="button primary" disabled=${busy || read_only || fault !== null || missing}
          title=${read_only ? "This console is read only" : missing ? "Fill in the path first" : null}
          onClick=${send}><${Icon} name="send" size=${14} />${busy ? "Sending …" : "Send"}</button></div>
    ${answer && html`<${Response} answer=${answer} />`}</div>`;
}

function headersOf(text, json) {
  const pairs = text
    .split(/;|\n/)
    .map((line) => line.split(/:(.*)/s).map((part) => part?.trim()))
    .filter(([name, value]) => name && value);
  return { ...(json ? { "Content-Type": "application/json" } : {}), ...Object.fromEntries(pairs) };
}

function CurlChip({ route, base_url, path, body }) {
  const words = [
    "curl",
    "-X",
    route.method,
    `${base_url ?? ""}${path}`,
    ...(body.trim() ? ["-H", "Content-Type: application/json", "-d", body.replace(/\n\s*/g, " ")] : []),
  ];
  return html`<${Cli} words=${words} />`;
}

function Response({ answer }) {
  if (answer.error)
    return html`<div class="callout tone-failed" role="alert"><${Icon} name="error" />${answer.error.message}</div>`;
  const { status, headers, body, ms, trace_id } = answer.done;
  const tone = status < 300 ? "done" : status < 500 ? "waiting" : "failed";
  const value = typeof body === "string" ? (parseJson(body) ?? body) : body;
  return html`<section class="response" aria-label="Response" role="status">
    <header><b
        class=${`status text-${tone} num`}>${status}</b><span class="num faint">${duration(ms)}${typeof body === "string" ? ` · ${bytes(body.length)}` : ""}</span><span class="push"></span>
      ${trace_id && html`<a class="button" href=${href(["traces", trace_id])}><${Icon} name="trace"
          size=${14} />See its trace</a>`}</header>
    ${typeof value === "string" ? html`<pre class="code">${value}</pre>` : html`<${JsonView} value=${value} label="response" />`}
    <details><summary>Headers</summary><pre class="code">${Object.entries(headers ?? {})
      .map(([name, text]) => `${name}: ${text}`)
      .join("\n")}</pre></details></section>`;
}

/** A schema with what it refers to in its place; a shape within itself stays a reference. */
function inPlace(schema, definitions, within = []) {
  if (Array.isArray(schema)) return schema.map((part) => inPlace(part, definitions, within));
  if (schema === null || typeof schema !== "object") return schema;
  const name = /^#\/\$defs\/(.+)$/.exec(schema.$ref ?? "")?.[1];
  const known = definitions ?? schema.$defs ?? {};
  if (name && Object.hasOwn(known, name) && !within.includes(name)) return inPlace(known[name], known, [...within, name]);
  const parts = Object.entries(schema).filter(([key]) => key !== "$defs");
  return Object.fromEntries(parts.map(([key, part]) => [key, inPlace(part, known, within)]));
}

const eachInPlace = (schemas) =>
  Object.fromEntries(Object.entries(schemas).map(([status, schema]) => [status, inPlace(schema)]));

function Schemas({ route }) {
  const parts = [
    ["body", "Body", route.body_schema],
    ["query", "Query", route.query_params],
    ["response", "Response", route.response_schema],
  ]
    .filter(([, , schema]) => schema)
    .map(([id, text, schema]) => [id, text, id === "response" ? eachInPlace(schema) : inPlace(schema)]);
  const [shown, setShown] = useState(parts[0]?.[0] ?? "");
  useEffect(() => setShown(parts[0]?.[0] ?? ""), [route]);
  if (!parts.length)
    return html`<section class="panel"><${Empty} title="No schemas" icon="http">This route takes what comes: give it body_schema= to check it.<//></section>`;
  const current = parts.find(([id]) => id === shown) ?? parts[0];
  return html`<section class="panel" aria-label="Schemas"><header class="panel-head"><h2>Schema</h2><${Choice} label="Of what"
      options=${parts.map(([id, text]) => [id, text])} value=${current[0]} onChange=${setShown} /></header>
    <${JsonView} key=${current[0]} value=${current[2]} label="schema" /></section>`;
}
