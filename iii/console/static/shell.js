// The frame around every page: navigation, the bar on top, and what is true of the engine as a whole.
import { html, useEffect, useMemo, useRef, useState } from "./html.js";
import { logOut, useApi } from "./api.js";
import { liveStatus, onLive } from "./live.js";
import { KEYS, PLACES } from "./keys.js";
import { compactNumber } from "./format.js";
import { Dialog } from "./components/dialog.js";
import { Icon } from "./components/icon.js";
import { toast } from "./components/toast.js";

const NAVIGATION = [
  [
    "",
    [
      ["overview", "Overview", "#/"],
      ["flow", "Flow", "#/flow"],
    ],
  ],
  [
    "Work",
    [
      ["traces", "Traces", "#/traces"],
      ["queues", "Queues", "#/queues"],
      ["dead", "Dead letters", "#/dead"],
      ["state", "State", "#/state"],
    ],
  ],
  [
    "Sources",
    [
      ["cron", "Cron", "#/cron"],
      ["http", "HTTP", "#/http"],
      ["steps", "Steps", "#/steps"],
    ],
  ],
  [
    "Engine",
    [
      ["logs", "Logs", "#/logs"],
      ["instances", "Instances", "#/instances"],
      ["config", "Config", "#/config"],
      ["audit", "Audit", "#/audit"],
    ],
  ],
];
const BAR = ["overview", "traces", "queues", "state"];
const ICONS = { __proto__: null, traces: "trace" };
const SECTION_OF = { __proto__: null, runs: "traces", messages: "queues" };

/** The engine as the bar and the pages know it; the newest overview, live. */
export function useEngine() {
  const answer = useApi("api/overview", { every_ms: 30_000 });
  const [live, setLive] = useState(null);
  useEffect(() => onLive("overview", (list) => setLive(list.at(-1))), []);
  useEffect(() => setLive(null), [answer.data]);
  const history = useHistory(answer.data?.history, live?.point);
  const engine = answer.data && { ...answer.data, ...(live ?? {}), history };
  return { ...answer, data: engine };
}

/** The asked hour with the points that came since. */
function useHistory(asked, point) {
  const [added, setAdded] = useState([]);
  useEffect(() => setAdded([]), [asked]);
  const newest = added.at(-1) ?? asked?.points?.at(-1);
  useEffect(() => {
    if (point && point.at_ms > (newest?.at_ms ?? 0)) setAdded((last) => [...last, point]);
  }, [point]);
  return useMemo(() => asked && { ...asked, points: [...asked.points, ...added] }, [asked, added]);
}

export function Shell({ section, engine, openSearch, openHelp, children }) {
  const [drawer, setDrawer] = useState(false);
  const main = useRef(null);
  const current = SECTION_OF[section] ?? section;
  useEffect(() => setDrawer(false), [location.hash]);
  return html`
    <a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      main.current.focus();
    }}>Skip to the page</a>
    <header class="top">
      <a class="brand" href="#/" aria-label="iii Console, overview"><span class="brand-mark" aria-hidden="true"><i></i><i></i><i></i></span><span class="brand-name">${engine?.project ?? "iii"}</span></a>
      <button type="button" class="top-search" aria-label="Go to" title="Go to a page, step, topic, trace or message (Ctrl K)"
          onClick=${openSearch}><${Icon} name="search" /><span>Go to …</span><kbd aria-hidden="true">Ctrl K</kbd></button>
      <div class="top-end">
        ${engine?.read_only && html`<span class="badge tone-paused" title="This console only shows: it was started with read_only"><${Icon} name="lock"
            size=${12} />read only</span>`}
        <${LiveMark} />
        <${SchemeButton} />
        ${
          engine?.signed_in &&
          html`<button type="button" class="button quiet" aria-label="Sign out" title="Sign out, in every window"
            onClick=${() => logOut().catch((error) => toast(error.message, "failed"))}><${Icon} name="leave" /></button>`
        }
        <button type="button" class="button quiet hide-narrow" aria-label="Keyboard help" title="Keyboard help (?)"
            onClick=${openHelp}><${Icon} name="help" /></button>
      </div>
    </header>
    <nav class="side" aria-label="Pages">
      ${NAVIGATION.map(
        ([title, places]) => html`<div class="side-group" key=${title}>
        ${title && html`<h2>${title}</h2>`}
        ${places.map((place) => html`<${Place} key=${place[0]} place=${place} current=${current} engine=${engine} />`)}
      </div>`,
      )}
      <p class="side-foot faint">iii ${engine?.version ?? ""}</p>
    </nav>
    <main id="main" ref=${main} tabindex="-1">${children}</main>
    <nav class="bar" aria-label="Pages, short">
      ${NAVIGATION.flatMap(([, places]) => places)
        .filter(([id]) => BAR.includes(id))
        .map((place) => html`<${Place} key=${place[0]} place=${place} current=${current} engine=${engine} />`)}
      <button type="button" class="place" aria-expanded=${drawer ? "true" : "false"}
          onClick=${() => setDrawer(true)}><${Icon} name="more" /><span>More</span></button>
    </nav>
    ${
      drawer &&
      html`<${Dialog} title="Pages" onClose=${() => setDrawer(false)}>
      <div class="drawer">${NAVIGATION.flatMap(([, places]) => places).map((place) => html`<${Place} key=${place[0]}
          place=${place} current=${current} engine=${engine} onGo=${() => setDrawer(false)} />`)}</div>
    <//>`
    }`;
}

function Place({ place: [id, name, address], current, engine, onGo }) {
  const dead = id === "dead" ? engine?.totals?.dead : 0;
  const problems =
    id === "overview" ? (engine?.problems ?? []).filter(({ severity }) => severity === "error").length : 0;
  return html`<a class="place" href=${address} aria-current=${id === current ? "page" : null} onClick=${onGo}>
    <${Icon} name=${ICONS[id] ?? id} /><span>${name}</span>
    ${dead > 0 && html`<b class="place-count num" aria-label=${`${dead} dead letters`}>${compactNumber(dead)}</b>`}
    ${problems > 0 && html`<b class="place-count num" aria-label=${`${problems} problems`}>${problems}</b>`}
  </a>`;
}

function LiveMark() {
  const [status, setStatus] = useState(liveStatus);
  useEffect(() => onLive("status", ([next]) => setStatus(next)), []);
  const [text, title] = {
    __proto__: null,
    open: ["live", "Connected: what changes is shown at once"],
    connecting: ["connecting", "Connecting to the engine"],
    lost: ["offline", "The engine does not answer; trying again"],
  }[status];
  return html`<span class=${`live live-${status}`} role="status" title=${title}><i aria-hidden="true"></i>${text}</span>`;
}

const SCHEMES = { __proto__: null, "": ["auto", "As the system"], dark: ["moon", "Dark"], light: ["sun", "Light"] };

function SchemeButton() {
  const [scheme, setScheme] = useState(document.documentElement.dataset.scheme ?? "");
  const next = { __proto__: null, "": "dark", dark: "light", light: "" }[scheme];
  const change = () => {
    if (next) document.documentElement.dataset.scheme = next;
    else delete document.documentElement.dataset.scheme;
    try {
      localStorage.setItem("iii.scheme", next);
    } catch {
      // no storage: it holds for this visit
    }
    setScheme(next);
    dispatchEvent(new Event("schemechange"));
  };
  const [icon, name] = SCHEMES[scheme];
  return html`<button type="button" class="button quiet" onClick=${change}
      aria-label=${`Colours: ${name}. Change to ${SCHEMES[next][1]}`} title=${`Colours: ${name}`}><${Icon}
      name=${icon} /></button>`;
}

export function Help({ onClose }) {
  return html`<${Dialog} title="Keyboard" onClose=${onClose}>
    <div class="help">
      <dl>${KEYS.map(([key, text]) => html`<div key=${key}><dt><kbd>${key}</kbd></dt><dd>${text}</dd></div>`)}</dl>
      <dl>${PLACES.map(([letter, name]) => html`<div key=${letter}><dt><kbd>g</kbd> <kbd>${letter}</kbd></dt><dd>${name}</dd></div>`)}</dl>
    </div>
  <//>`;
}

/** The head of a page: where it is, what it is called, what can be done. */
export function PageHead({ title, trail = [], detail, cli, children }) {
  const name = typeof title === "string" ? title : "";
  useEffect(() => {
    if (name) document.title = `${name} · iii Console`;
  }, [name]);
  return html`<header class="page-head">
    <div class="page-title">
      ${trail.length > 0 && html`<nav class="trail" aria-label="Above">${trail.map(([text, address]) => html`<a key=${address}
          href=${address}>${text}</a><span aria-hidden="true">/</span>`)}</nav>`}
      <h1>${title}</h1>
      ${detail && html`<div class="page-detail">${detail}</div>`}
    </div>
    <div class="page-acts">${cli}${children}</div>
  </header>`;
}
