// State: namespaces, then the keys of one (any number, in pages), then one value. The value itself: value.js.
import { html, useCallback, useEffect, useRef, useState } from "../html.js";
import { apiPath, putText, useApi, useMore } from "../api.js";
import { onLive } from "../live.js";
import { go, href, setQuery } from "../router.js";
import { compactNumber, exactNumber, plural } from "../format.js";
import { PageHead } from "../shell.js";
import { Ago, Answer, Cli, Empty } from "../components/badge.js";
import { Dialog } from "../components/dialog.js";
import { Icon } from "../components/icon.js";
import { JsonField, jsonFault } from "../components/json.js";
import { SearchField } from "../components/search.js";
import { LongList } from "../components/table.js";
import { toast } from "../components/toast.js";
import { Value } from "./value.js";

const PAGE = 200;
const ROW_PX = 44;
const FLASH_MS = 1_600;
const REFRESH_MS = 1_000;

export default function StatePage({ route, read_only }) {
  const [, namespace, key] = route.parts;
  const named = namespace !== undefined;
  const cli = [
    "iii",
    "state",
    ...(key !== undefined ? ["get", namespace, key] : named ? ["list", namespace] : ["namespaces"]),
  ];
  return html`
    <${PageHead} title=${key ?? namespace ?? "State"}
        trail=${[...(named ? [["State", href(["state"])]] : []), ...(key !== undefined ? [[namespace, href(["state", namespace])]] : [])]}
      detail=${named ? null : "The values that steps share, by namespace. Changes are shown as they are committed."}
          cli=${html`<${Cli} words=${cli} />`} />
    <div class=${`panes ${key !== undefined ? "at-value" : named ? "at-keys" : "at-names"}`}>
      <${Namespaces} current=${namespace} />
      ${named && html`<${Keys} key=${namespace} namespace=${namespace} current=${key} route=${route} read_only=${read_only} />`}
      ${key !== undefined && html`<${Value} key=${JSON.stringify([namespace, key])} namespace=${namespace}
          name=${key} read_only=${read_only || namespace.startsWith("$")} />`}
      ${!named && html`<div class="pane-hint"><${Empty} title="Choose a namespace" icon="state">Its keys, then a value with its history, open beside it.<//></div>`}
    </div>`;
}

function Namespaces({ current }) {
  const answer = useApi("api/state", { every_ms: 10_000 });
  return html`<section class="pane pane-names" aria-label="Namespaces"><header class="pane-head"><h2>Namespaces</h2></header>
    <${Answer} of=${answer} rows=${4}>${({ namespaces }) =>
      namespaces.length === 0
        ? html`<${Empty} title="No state yet" icon="state">A step writes some with ctx.state.set().<//>`
        : html`<ul class="name-list" data-rows>${namespaces.map(
            ({
              name,
              keys,
            }) => html`<li key=${name}><a href=${href(["state", name])} data-row aria-current=${name === current ? "true" : null}>
          <span class="clip">${name}</span><span class="num faint" title=${exactNumber(keys)}>${compactNumber(keys)}</span></a></li>`,
          )}</ul>`}<//></section>`;
}

function Keys({ namespace, current, route, read_only }) {
  const [prefix, setPrefix] = useState(route.query.prefix ?? "");
  const [adding, setAdding] = useState(false);
  const list = useMore(
    apiPath(["state", namespace], { prefix, limit: PAGE }),
    (data) => (data?.next ? { name: "after", value: data.next } : null),
    (data) => data.entries,
  );
  const { flashed, changed } = useChanges(namespace, list);
  const search = (next) => {
    setPrefix(next);
    setQuery(route, { prefix: next });
  };
  const own = namespace.startsWith("$");
  const row = useCallback(
    (
      entry,
    ) => html`<a class=${`key-row ${flashed.has(entry.key) ? "flash" : ""}`}
        href=${href(["state", namespace, entry.key], { prefix })} aria-current=${entry.key === current ? "true" : null}>
    <span class="key-name"
        title=${entry.key}>${entry.key}</span><span class="key-at"><${Ago} at_ms=${entry.updated_ms} /></span><code class="key-preview">${entry.preview}</code></a>`,
    [namespace, current, prefix, flashed],
  );
  return html`<section class="pane pane-keys" aria-label=${`Keys of ${namespace}`}>
    <header class="pane-head"><a class="button quiet only-narrow" href="#/state" aria-label="Namespaces"><${Icon} name="back" /></a><h2 class="clip">${namespace}</h2>
      <button type="button" class="button tiny" disabled=${read_only || own} onClick=${() => setAdding(true)}><${Icon} name="plus"
          size=${13} />New key</button></header>
    <div class="pane-search"><${SearchField} label="Keys that begin with" placeholder="Keys that begin with …" value=${prefix}
        onSearch=${search} /></div>
    ${changed > 0 && html`<p class="pane-note"><span class="num">${plural(changed, "change")}</span> since <button type="button" class="link-button"
        onClick=${list.reload}>refresh</button></p>`}
    <${Answer} of=${list} rows=${8}>${() =>
      list.rows.length === 0
        ? html`<${Empty}
            title=${prefix ? "No key begins so" : "No keys"} icon="state">${prefix ? "Prefixes are compared letter by letter." : "This namespace is empty."}<//>`
        : html`<${LongList} label="Keys" items=${list.rows} row_px=${ROW_PX} keyOf=${(entry) => entry.key} row=${row}
            onEnd=${list.end || list.busy ? null : list.more} current=${Math.max(
            0,
            list.rows.findIndex(({ key }) => key === current),
          )} />
        <p class="pane-foot num faint">${plural(list.rows.length, "key")}${list.end ? "" : " loaded, more below"}</p>`}<//>
    ${adding && html`<${NewKey} namespace=${namespace} prefix=${prefix} onClose=${() => setAdding(false)} />`}</section>`;
}

/** Keys that changed just now flash; a list of one page is asked again, a longer one says how many changed. */
function useChanges(namespace, list) {
  const [flashed, setFlashed] = useState(new Set());
  const [changed, setChanged] = useState(0);
  const latest = useRef(list);
  latest.current = list;
  useEffect(() => setChanged(0), [list.data]);
  useEffect(() => {
    let refresh = 0;
    const fading = new Set();
    const stop = onLive("change", (changes) => {
      const keys = changes.filter((change) => change.namespace === namespace).map(({ key }) => key);
      if (!keys.length) return;
      setFlashed((last) => new Set([...last, ...keys.slice(-PAGE)]));
      const fade = setTimeout(() => {
        fading.delete(fade);
        setFlashed((last) => new Set([...last].filter((key) => !keys.includes(key))));
      }, FLASH_MS);
      fading.add(fade);
      if (latest.current.rows.length > PAGE) setChanged((last) => last + keys.length);
      else
        refresh ||= setTimeout(() => {
          refresh = 0;
          if (latest.current.rows.length <= PAGE) latest.current.reload(); // more may have been read since
        }, REFRESH_MS);
    });
    return () => {
      stop();
      clearTimeout(refresh);
      fading.forEach(clearTimeout);
    };
  }, [namespace]);
  return { flashed, changed };
}

function NewKey({ namespace, prefix, onClose }) {
  const [key, setKey] = useState(prefix);
  const [text, setText] = useState("{}");
  const [fault, setFault] = useState(null);
  const save = async () => {
    try {
      await putText(apiPath(["state", namespace, key]), `{"value": ${text}, "if_version": 0}`);
      toast(`${namespace}/${key} written`);
      onClose();
      go(href(["state", namespace, key]));
    } catch (error) {
      setFault(error.status === 409 ? `There is a key "${key}" already.` : error.message);
    }
  };
  const footer = html`<button type="button" class="button" onClick=${onClose}>Cancel</button>
    <button type="button" class="button primary" disabled=${!key || jsonFault(text) !== null} onClick=${save}>Write</button>`;
  return html`<${Dialog} title=${`New key in ${namespace}`} wide=${true} onClose=${onClose} footer=${footer}>
    <div class="form-row"><label>Key<input data-first value=${key} spellcheck="false"
        onInput=${(event) => setKey(event.currentTarget.value)} /></label></div>
    <${JsonField} label="Value" text=${text} onText=${setText} rows=${10} />
    ${fault && html`<p class="callout tone-failed" role="alert">${fault}</p>`}<//>`;
}
