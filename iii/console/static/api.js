// The JSON API: requests, their errors, and a hook that keeps a page's answer fresh. Knows no page.
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { onLive } from "./live.js";

export class ApiError extends Error {
  constructor(status, message, { field = null, body = null } = {}) {
    super(message);
    this.status = status;
    this.field = field;
    this.body = body;
  }
}

const lockedOut = new Set();

/** Call `told(true)` when the API asks for a token. */
export function onLockedOut(told) {
  lockedOut.add(told);
  return () => lockedOut.delete(told);
}

/** Ends the session, here and wherever else its cookie is. */
export async function logOut() {
  await post("api/logout");
  lockedOut.forEach((told) => told(true));
}

/** An address below api/: each part is encoded whole; parameters without a value are left out. */
export function apiPath(parts, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const path = `api/${parts.map((part) => encodeURIComponent(part)).join("/")}`;
  return query.size ? `${path}?${query}` : path;
}

export const get = (path, options) => call("GET", path, undefined, options);
export const post = (path, body = {}) => call("POST", path, JSON.stringify(body));
export const remove = (path) => call("DELETE", path);

/** `text` is JSON already: what somebody typed goes out digit for digit. */
export const putText = (path, text) => call("PUT", path, text);
export const postText = (path, text) => call("POST", path, text);

async function call(method, path, body, { signal } = {}) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(path, { method, headers, body, signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The engine does not answer. Is it running?");
  }
  const answer = parseJson(await response.text());
  if (response.ok) return answer;
  const asksForToken = response.status === 401 || response.status === 429;
  if (asksForToken && path !== "api/login") lockedOut.forEach((told) => told(true));
  const told = answer?.error ?? {};
  throw new ApiError(response.status, told.message ?? `${method} ${path}: status ${response.status}`, {
    field: told.field,
    body: answer,
  });
}

/** JSON; integers that a double cannot hold keep their digits. */
export function parseJson(text) {
  if (!text) return null;
  try {
    return /\d{16}/.test(text) && JSON.rawJSON ? JSON.parse(text, exactInteger) : JSON.parse(text);
  } catch {
    return null;
  }
}

function exactInteger(_key, value, context) {
  const inexact = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
  return inexact && context?.source ? JSON.rawJSON(context.source) : value;
}

/**
 * What a GET answers: {data, error, loading, reload}. path null = nothing to ask. every_ms: asked again so often
 * while the page is seen. The last answer stays while the next one of the same path is under way.
 */
export function useApi(path, { every_ms = 0 } = {}) {
  const [state, setState] = useState({ path: null, data: null, error: null, loading: true });
  const [round, setRound] = useState(0);
  const asked = useRef(null);
  const reload = useCallback(() => setRound((last) => last + 1), []);

  useLayoutEffect(() => {
    // not after the next frame
    if (path === null) return undefined;
    const leaving = new AbortController();
    const same = asked.current === path;
    asked.current = path;
    setState((last) => (same ? last : { path, data: null, error: null, loading: true }));
    get(path, { signal: leaving.signal }).then(
      (data) => setState({ path, data, error: null, loading: false }),
      (error) => {
        if (error.name === "AbortError") return;
        setState((last) => ({ path, data: same ? last.data : null, error, loading: false }));
      },
    );
    return () => leaving.abort();
  }, [path, round]);

  useEffect(() => {
    if (!every_ms) return undefined;
    const timer = setInterval(() => document.hidden || reload(), every_ms);
    return () => clearInterval(timer);
  }, [every_ms, reload]);

  useEffect(() => onLive("again", reload), [reload]);

  const fresh = state.path === path ? state : { data: null, error: null, loading: path !== null };
  return { data: fresh.data, error: fresh.error, loading: fresh.loading, reload };
}

/** Pages of a list that grows downwards: {rows, error, loading, more, end, reload, data (of the first page)}. */
export function useMore(first, nextOf, rowsOf, options) {
  const start = useApi(first, options);
  const [added, setAdded] = useState({ first: null, rows: [], next: null, error: null, busy: false });
  const begun = added.first === first && start.data !== null;
  const next = begun ? added.next : nextOf(start.data);
  const rows = start.data ? [...rowsOf(start.data), ...(begun ? added.rows : [])] : [];

  const more = useCallback(async () => {
    if (!next || (begun && added.busy)) return;
    const base = begun ? added : { first, rows: [], next, error: null };
    setAdded({ ...base, busy: true });
    try {
      const page = await get(withParameter(first, next));
      setAdded({
        first,
        rows: [...base.rows, ...rowsOf(page)],
        next: nextOf(page)?.value ? nextOf(page) : null,
        error: null,
        busy: false,
      });
    } catch (error) {
      setAdded({ ...base, error, busy: false });
    }
  }, [first, next, begun, added]);

  const reload = useCallback(() => {
    setAdded({ first: null, rows: [], next: null, error: null, busy: false });
    start.reload();
  }, [start.reload]);

  return {
    rows,
    data: start.data,
    error: start.error ?? (begun ? added.error : null),
    loading: start.loading,
    busy: begun && added.busy,
    more,
    end: !next?.value,
    reload,
  };
}

function withParameter(path, { name, value }) {
  return `${path}${path.includes("?") ? "&" : "?"}${new URLSearchParams({ [name]: value })}`;
}
