// Two searches: the field of a page (focused by /), and the palette that goes anywhere (Ctrl K).
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { get } from "../api.js";
import { go, href } from "../router.js";
import { PLACES } from "../keys.js";
import { Dialog } from "./dialog.js";
import { Icon } from "./icon.js";

const WAIT_MS = 200;
const SHOWN_MAX = 12;

/** A field whose text reaches onSearch when the typing rests. */
export function SearchField({ label, value = "", placeholder, onSearch, mark = true }) {
  const [text, setText] = useState(value);
  const timer = useRef(0);
  const sent = useRef(value);
  useEffect(() => {
    if (value !== sent.current) {
      sent.current = value;
      setText(value);
    }
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const search = (next) => {
    clearTimeout(timer.current);
    sent.current = next;
    onSearch(next);
  };
  const typed = (event) => {
    const next = event.currentTarget.value;
    setText(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => search(next), WAIT_MS);
  };
  const pressed = (event) => {
    if (event.key === "Enter") search(text);
    if (event.key === "Escape" && text) {
      event.stopPropagation();
      setText("");
      search("");
    }
  };
  return html`<label class="search-field"><${Icon} name="search" /><span class="hidden">${label}</span>
    <input type="search" value=${text} placeholder=${placeholder ?? label} autocomplete="off" spellcheck="false"
        data-search=${mark ? "" : null} onInput=${typed} onKeyDown=${pressed} />
    ${mark && html`<kbd aria-hidden="true">/</kbd>`}
  </label>`;
}

/** Go anywhere: pages, steps, topics, namespaces, and whatever was typed as an id. */
export function Palette({ onClose }) {
  const [text, setText] = useState("");
  const [known, setKnown] = useState([]);
  const [at, setAt] = useState(0);
  useEffect(() => {
    let shown = true;
    knownPlaces().then((places) => shown && setKnown(places));
    return () => {
      shown = false;
    };
  }, []);
  const found = useMemo(() => matches(text.trim(), known), [text, known]);
  const choose = (place) => {
    onClose();
    go(place.address);
  };
  const pressed = (event) => {
    const step = { __proto__: null, ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && found.length) {
      event.preventDefault();
      setAt((at + step + found.length) % found.length);
    } else if (event.key === "Enter" && found[at]) {
      event.preventDefault();
      choose(found[at]);
    } else if (event.key === "Escape") {
      event.preventDefault(); // a search field would be emptied first
      onClose();
    }
  };
  const typed = (event) => {
    setText(event.currentTarget.value);
    setAt(0);
  };
  return html`<${Dialog} title="Go to" onClose=${onClose}>
    <div class="palette">
      <label class="search-field"><${Icon} name="search" /><span class="hidden">Page, step, topic, namespace or id</span>
        <input type="search" data-first
            value=${text} placeholder="Page, step, topic, namespace, trace or message id" autocomplete="off" spellcheck="false"
          role="combobox" aria-expanded="true" aria-controls="palette-found"
              aria-activedescendant=${found[at] ? `palette-${at}` : null} onInput=${typed} onKeyDown=${pressed} /></label>
      <ul id="palette-found" role="listbox" aria-label="Found">
        ${found.map(
          (
            place,
            index,
          ) => html`<li key=${place.address + place.name} id=${`palette-${index}`} role="option"
              aria-selected=${index === at ? "true" : "false"} class=${index === at ? "at" : ""} onMouseMove=${() => setAt(index)}
              onClick=${() => choose(place)}>
          <span class="palette-kind">${place.kind}</span><span class="palette-name">${place.name}</span></li>`,
        )}
      </ul>
      ${!found.length && html`<p class="faint">Nothing is called so.</p>`}
    </div>
  <//>`;
}

async function knownPlaces() {
  const [steps, queues, state] = await Promise.all(
    ["api/steps", "api/queues", "api/state"].map((path) => get(path).catch(() => null)),
  );
  const topics = [...new Set((queues?.queues ?? []).map((row) => row.topic))];
  return [
    ...(steps?.steps ?? []).map(({ name }) => ({ kind: "step", name, address: href(["steps", name]) })),
    ...topics.map((topic) => ({ kind: "topic", name: topic, address: href(["queues", topic]) })),
    ...(state?.namespaces ?? []).map(({ name }) => ({ kind: "state", name, address: href(["state", name]) })),
  ];
}

function matches(text, known) {
  const pages = PLACES.map(([, name, address]) => ({ kind: "page", name, address }));
  const wanted = text.toLowerCase();
  const fits = ({ name }) => name.toLowerCase().includes(wanted);
  const found = [...pages, ...known].filter((place) => !wanted || fits(place)).slice(0, SHOWN_MAX);
  if (!text) return found;
  const asId = [];
  if (/^[0-9a-f]{32}$/i.test(text)) asId.push({ kind: "trace", name: text, address: href(["traces", wanted]) });
  if (/^([0-9a-f]{12}-)?\d+$/.test(text)) asId.push({ kind: "message", name: text, address: href(["messages", text]) });
  const inRuns = { kind: "runs", name: `that hold “${text}”`, address: href(["runs"], { q: text }) };
  const inLogs = { kind: "logs", name: `that hold “${text}”`, address: href(["logs"], { q: text }) };
  return [...asId, ...found, inRuns, inLogs];
}
