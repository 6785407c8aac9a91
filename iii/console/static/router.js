// Addresses of pages: #/part/part?name=value. Each part is encoded whole, so a name may hold anything.
import { useEffect, useState } from "./html.js";

/** href(["queues", topic], {step}) */
export function href(parts, query = {}) {
  const path = `#/${parts.map((part) => encodeURIComponent(part)).join("/")}`;
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") given.set(name, value);
  }
  return given.size ? `${path}?${given}` : path;
}

export function go(address) {
  location.hash = address;
}

export function parseRoute(hash) {
  const [path, query = ""] = hash.replace(/^#?\/?/, "").split(/\?(.*)/s);
  const parts = path.split("/").filter(Boolean).map(decoded);
  return { parts, query: Object.fromEntries(new URLSearchParams(query)), path };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function useRoute() {
  const [route, setRoute] = useState(() => parseRoute(location.hash));
  useEffect(() => {
    const changed = () => setRoute(parseRoute(location.hash));
    addEventListener("hashchange", changed);
    changed(); // the address may have changed between the first drawing and this
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}

/** Change the query of the page that is shown, without a step in the browser's history. */
export function setQuery(route, changes) {
  const now = parseRoute(location.hash); // `route` may be older: two fields are typed into within a moment
  if (now.path !== route.path) return;
  history.replaceState(null, "", href(now.parts, { ...now.query, ...changes }));
  dispatchEvent(new HashChangeEvent("hashchange"));
}
