// The keyboard: / and ? and g + letter everywhere. Lists handle their own arrows (components/table.js).
import { go } from "./router.js";

export const PLACES = [
  ["o", "Overview", "#/"],
  ["f", "Flow", "#/flow"],
  ["t", "Traces", "#/traces"],
  ["r", "Runs", "#/runs"],
  ["q", "Queues", "#/queues"],
  ["d", "Dead letters", "#/dead"],
  ["s", "State", "#/state"],
  ["c", "Cron", "#/cron"],
  ["h", "HTTP", "#/http"],
  ["p", "Steps", "#/steps"],
  ["l", "Logs", "#/logs"],
  ["i", "Instances", "#/instances"],
  ["k", "Config", "#/config"],
  ["a", "Audit", "#/audit"],
];

export const KEYS = [
  ["/", "Search this page"],
  ["Ctrl K", "Go to a page, step, topic, trace or message"],
  ["j k or ↓ ↑", "Next, previous row"],
  ["Enter", "Open the row"],
  ["x", "Select the row"],
  ["Esc", "Close, or leave the search"],
  ["?", "This help"],
];

const LEADER_MS = 1_500;

export const isTyping = (target) =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

export function listenToKeys({ openSearch, openHelp }) {
  let leader_until = 0;
  const pressed = (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      openSearch();
      return;
    }
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (performance.now() < leader_until) {
      leader_until = 0;
      const place = PLACES.find(([letter]) => letter === event.key);
      if (place) {
        event.preventDefault();
        go(place[2]);
      }
      return;
    }
    if (event.key === "g") leader_until = performance.now() + LEADER_MS;
    else if (event.key === "?") openHelp();
    else if (event.key === "/") {
      event.preventDefault();
      const field = document.querySelector("main [data-search]");
      if (field) {
        field.focus();
        field.select?.();
      } else openSearch();
    } else if (event.key === "j" || event.key === "k") enterList(event);
  };
  addEventListener("keydown", pressed);
  return () => removeEventListener("keydown", pressed);
}

function enterList(event) {
  if (event.target.closest?.("[data-rows]")) return;
  const row = document.querySelector("main [data-rows] [data-row]");
  if (!row) return;
  event.preventDefault();
  row.focus();
}
