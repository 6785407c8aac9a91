// Server-sent events: one connection for the page, topics as they are listened to, handed out once per frame.
const EVENT_TOPICS = { overview: "overview", run: "runs", log: "logs", change: "changes", queues: "queues" };
const BUFFER_MAX = 2_000;
const HIDDEN_MS = 30_000;
const RETRY_MS = [500, 1_000, 2_000, 5_000];

const listeners = new Map(); // event -> Set of functions of a list
const waiting = new Map(); // event -> what came since the last frame
let source = null;
let openTopics = "";
let retries = 0;
let timers = { topics: 0, retry: 0, hidden: 0 };
let scheduled = false;
let status = "connecting";
let engine = null;
let stopped = true;

/**
 * Listen to run, log, change, queues or overview: `take` gets all that came since the last frame, oldest first, or
 * to "again" (the page should ask anew) and "status" (connecting, open, lost). Returns how to stop.
 */
export function onLive(event, take) {
  if (!listeners.has(event)) listeners.set(event, new Set());
  listeners.get(event).add(take);
  chooseTopics();
  return () => {
    listeners.get(event).delete(take);
    chooseTopics();
  };
}

/** As onLive, but at most once in every_ms: for what is dear to draw. */
export function onLiveRarely(event, take, every_ms) {
  let gathered = [];
  let timer = 0;
  const hand = () => {
    timer = 0;
    const list = gathered;
    gathered = [];
    take(list);
  };
  const stop = onLive(event, (list) => {
    gathered = [...gathered, ...list].slice(-BUFFER_MAX);
    timer ||= setTimeout(hand, every_ms);
  });
  return () => {
    stop();
    clearTimeout(timer);
  };
}

export function startLive() {
  stopped = false;
  connect();
}

export function stopLive() {
  stopped = true;
  close();
}

export const liveStatus = () => status;

function wantedTopics() {
  const wanted = Object.keys(EVENT_TOPICS).filter((event) => listeners.get(event)?.size);
  return [...new Set(["overview", ...wanted.map((event) => EVENT_TOPICS[event])])].sort().join(",");
}

function chooseTopics() {
  clearTimeout(timers.topics);
  timers.topics = setTimeout(() => {
    if (!stopped && !document.hidden && wantedTopics() !== openTopics) connect();
  }, 60);
}

function connect() {
  close();
  if (stopped) return;
  openTopics = wantedTopics();
  source = new EventSource(`api/events?topics=${encodeURIComponent(openTopics)}`);
  source.onopen = () => {
    retries = 0;
    if (status === "lost") tell("again", []);
    setStatus("open");
  };
  source.onerror = () => {
    close();
    setStatus("lost");
    timers.retry = setTimeout(connect, RETRY_MS[Math.min(retries++, RETRY_MS.length - 1)]);
  };
  source.addEventListener("hello", (event) => sayHello(JSON.parse(event.data)));
  for (const name of Object.keys(EVENT_TOPICS)) {
    source.addEventListener(name, (event) => receive(name, event.data));
  }
}

function close() {
  clearTimeout(timers.retry);
  source?.close();
  source = null;
  openTopics = "";
}

function sayHello(hello) {
  const started = `${hello.version}/${hello.started_ms ?? ""}`;
  if (engine !== null && engine !== started) tell("again", []);
  engine = started;
}

function receive(name, text) {
  if (!waiting.has(name)) waiting.set(name, []);
  const texts = waiting.get(name);
  texts.push(text);
  if (texts.length > BUFFER_MAX) texts.splice(0, texts.length - BUFFER_MAX);
  if (scheduled) return;
  scheduled = true;
  if (document.hidden) setTimeout(handOut, 1_000);
  else requestAnimationFrame(handOut);
}

function handOut() {
  scheduled = false;
  for (const [name, texts] of waiting) {
    waiting.delete(name);
    if (listeners.get(name)?.size)
      tell(
        name,
        texts.map((text) => JSON.parse(text)),
      );
  }
}

function tell(name, list) {
  for (const take of [...(listeners.get(name) ?? [])]) take(list);
}

function setStatus(next) {
  if (status === next) return;
  status = next;
  tell("status", [next]);
}

// A page nobody sees gives its connection back: browsers allow six to one server.
document.addEventListener("visibilitychange", () => {
  clearTimeout(timers.hidden);
  if (document.hidden) {
    timers.hidden = setTimeout(close, HIDDEN_MS);
  } else if (!stopped && source === null) {
    tell("again", []);
    connect();
  }
});
