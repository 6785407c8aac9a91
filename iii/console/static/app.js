// Starts the console: which page an address means, the frame around it, and the login when the API asks for it.
import { html, render, useEffect, useErrorBoundary, useLayoutEffect, useState } from "./html.js";
import { onLockedOut, post } from "./api.js";
import { startLive, stopLive } from "./live.js";
import { parseRoute, useRoute } from "./router.js";
import { listenToKeys } from "./keys.js";
import { sentence } from "./format.js";
import { Failed, Loading } from "./components/badge.js";
import { AskedDialog } from "./components/dialog.js";
import { Palette } from "./components/search.js";
import { Toasts } from "./components/toast.js";
import { Help, Shell, useEngine } from "./shell.js";

// Tables that are asked for names from outside (addresses, the API) inherit none: #/constructor is no page.
const PAGES = {
  __proto__: null,
  "": () => import("./pages/overview.js"),
  flow: () => import("./pages/flow.js"),
  traces: () => import("./pages/trace.js"),
  runs: () => import("./pages/trace.js"),
  queues: () => import("./pages/queues.js"),
  dead: () => import("./pages/dead.js"),
  messages: () => import("./pages/message.js"),
  state: () => import("./pages/state.js"),
  cron: () => import("./pages/cron.js"),
  http: () => import("./pages/http.js"),
  steps: () => import("./pages/steps.js"),
  logs: () => import("./pages/logs.js"),
  instances: () => import("./pages/instances.js"),
  config: () => import("./pages/config.js"),
  audit: () => import("./pages/audit.js"),
};
const loaded = new Map();

/** Its modules are asked for at once, not after a frame was drawn without them. */
function load(section) {
  const page = PAGES[section]();
  page.then(
    (module) => loaded.set(section, module),
    () => {}, // told by who shows it
  );
  return page;
}

function App() {
  const [locked, setLocked] = useState(false);
  useEffect(() => onLockedOut(setLocked), []);
  useEffect(() => {
    if (locked) {
      stopLive();
      return undefined;
    }
    startLive();
    return stopLive;
  }, [locked]);
  return html`${locked ? html`<${Login} onDone=${() => setLocked(false)} />` : html`<${Console} />`}<${Toasts} /><${AskedDialog} />`;
}

function Console() {
  const route = useRoute();
  const engine = useEngine();
  const [open, setOpen] = useState(null);
  const section = route.parts[0] ?? "";
  useEffect(() => listenToKeys({ openSearch: () => setOpen("search"), openHelp: () => setOpen("help") }), []);
  useEffect(() => {
    document.getElementById("main")?.scrollTo(0, 0);
    scrollTo(0, 0);
  }, [route.path]);
  return html`<${Shell} section=${section || "overview"} engine=${engine.data} openSearch=${() => setOpen("search")}
      openHelp=${() => setOpen("help")}>
      <${Page} key=${section} section=${section} route=${route} engine=${engine} />
    <//>
    ${open === "search" && html`<${Palette} onClose=${() => setOpen(null)} />`}
    ${open === "help" && html`<${Help} onClose=${() => setOpen(null)} />`}`;
}

function Page({ section, route, engine }) {
  const [page, setPage] = useState(() => loaded.get(section) ?? null);
  const [fault, setFault] = useState(null);
  const [broken, repair] = useErrorBoundary((error) => console.error(error));
  useLayoutEffect(() => {
    let shown = true;
    if (page || !PAGES[section]) return undefined;
    load(section).then(
      (module) => shown && setPage(module),
      (error) => shown && setFault(error),
    );
    return () => {
      shown = false;
    };
  }, [section]);
  if (broken) return html`<${Failed} error=${broken} retry=${repair} />`;
  if (fault) return html`<${Failed} error=${fault} retry=${() => location.reload()} />`;
  if (!PAGES[section]) return html`<${Failed} error=${{ status: 404, message: `There is no page "${section}".` }} />`;
  if (!page) return html`<${Loading} />`;
  return html`<${page.default} route=${route} engine=${engine} read_only=${engine.data?.read_only ?? false} />`;
}

function Login({ onDone }) {
  const [token, setToken] = useState("");
  const [fault, setFault] = useState(null);
  useEffect(() => {
    document.title = "Sign in · iii Console";
  }, []);
  const enter = async (event) => {
    event.preventDefault();
    try {
      await post("api/login", { token });
      onDone();
    } catch (error) {
      setFault(error.status === 401 ? "This is not the token." : sentence(error.message));
    }
  };
  return html`<main class="login"><form onSubmit=${enter}>
    <span class="brand-mark big" aria-hidden="true"><i></i><i></i><i></i></span>
    <h1>iii Console</h1>
    <p class="faint">The token stands in the configuration: <code>console.token</code>.</p>
    <label>Token<input type="password" autocomplete="current-password" autofocus value=${token}
        onInput=${(event) => setToken(event.currentTarget.value)} /></label>
    ${fault && html`<p class="callout tone-failed" role="alert">${fault}</p>`}
    <button class="button primary" disabled=${!token}>Sign in</button>
  </form></main>`;
}

function begin() {
  const root = document.getElementById("app");
  root.replaceChildren();
  render(html`<${App} />`, root);
}

// The first drawing has the page in it: its modules are on their way already (index.html).
const first = parseRoute(location.hash).parts[0] ?? "";
if (PAGES[first]) load(first).then(begin, begin);
else begin();
