// Numbers, times and texts as people read them. Pure.
const NUMBER = new Intl.NumberFormat("en");
const DATE_TIME = new Intl.DateTimeFormat("en-CA", {
  year: "numeric",
  month: "2-digit",
  day: "2-digit",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
  hourCycle: "h23",
});
const CLOCK = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
  hourCycle: "h23",
});
const SHORT_CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const DAY_FIELDS = {
  weekday: "short",
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
  hourCycle: "h23",
};

export const NONE = "–";

const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);

export const exactNumber = (value) => (known(value) ? NUMBER.format(value) : NONE);

export function compactNumber(value) {
  if (!known(value)) return NONE;
  const size = Math.abs(value);
  if (size < 10_000) return NUMBER.format(Math.round(value));
  for (const [unit, name] of [
    [1e9, "B"],
    [1e6, "M"],
    [1e3, "k"],
  ]) {
    if (size >= unit * 0.9995) return `${trimmed(value / unit)}${name}`;
  }
  return NUMBER.format(Math.round(value));
}

export function rate(value) {
  if (!known(value)) return NONE;
  if (value === 0) return "0";
  if (Math.abs(value) < 0.01) return "<0.01";
  return Math.abs(value) < 10 ? trimmed(value, 2) : compactNumber(value);
}

export function bytes(value) {
  if (!known(value)) return NONE;
  for (const [unit, name] of [
    [2 ** 40, "TiB"],
    [2 ** 30, "GiB"],
    [2 ** 20, "MiB"],
    [2 ** 10, "KiB"],
  ]) {
    if (value >= unit) return `${trimmed(value / unit)} ${name}`;
  }
  return `${value} B`;
}

export function duration(ms) {
  if (!known(ms)) return NONE;
  if (ms < 0) return `-${duration(-ms)}`;
  if (ms === 0) return "0 ms";
  if (ms < 1) return `${Math.max(1, Math.round(ms * 1000))} µs`;
  if (ms < 999.5) return `${trimmed(ms, ms < 10 ? 1 : 0)} ms`;
  if (ms < 59_950) return `${trimmed(ms / 1000, ms < 10_000 ? 2 : 1)} s`;
  return longDuration(Math.round(ms / 1000));
}

function longDuration(seconds) {
  const parts = [
    [86_400, "d"],
    [3_600, "h"],
    [60, "m"],
    [1, "s"],
  ];
  const first = parts.findIndex(([unit]) => seconds >= unit);
  const [unit, name] = parts[first];
  const whole = Math.floor(seconds / unit);
  const [nextUnit, nextName] = parts[first + 1] ?? [0, ""];
  const rest = nextUnit ? Math.floor((seconds - whole * unit) / nextUnit) : 0;
  return rest ? `${whole}${name} ${rest}${nextName}` : `${whole}${name}`;
}

export function relative(at_ms, now_ms) {
  const passed = now_ms - at_ms;
  if (Math.abs(passed) < 1_500) return "now";
  const size = longDuration(Math.round(Math.abs(passed) / 1000)).split(" ")[0];
  return passed > 0 ? `${size} ago` : `in ${size}`;
}

export const exactTime = (ms) => (known(ms) ? DATE_TIME.format(ms).replace(",", "") : NONE);
export const clock = (ms) => (known(ms) ? CLOCK.format(ms) : NONE);
export const shortClock = (ms) => (known(ms) ? SHORT_CLOCK.format(ms) : NONE);

/** A time of a schedule, on the wall of its zone, which is named: "Tue 1 Dec, 02:00 Europe/Berlin". */
export function zonedClock(ms, zone) {
  if (!known(ms)) return NONE;
  const seconds = ms % 60_000 === 0 ? {} : { second: "2-digit" };
  try {
    return `${new Intl.DateTimeFormat("en-GB", { ...DAY_FIELDS, ...seconds, timeZone: zone }).format(ms)} ${zone}`;
  } catch {
    // the browser does not know the zone
    return `${new Intl.DateTimeFormat("en-GB", { ...DAY_FIELDS, ...seconds, timeZone: "UTC" }).format(ms)} UTC`;
  }
}

export const percent = (part) => (known(part) ? `${trimmed(part * 100)}%` : NONE);

export function plural(count, one, many = `${one}s`) {
  return `${exactNumber(count)} ${count === 1 ? one : many}`;
}

export const countOf = (value) => (Array.isArray(value) ? value.length : (value ?? 0));

export const firstLine = (text) => String(text ?? "").split("\n", 1)[0];

/** A remark as a sentence: a capital first, a full stop last. */
export const sentence = (text) => {
  const told = String(text ?? "").trim();
  return told && `${told[0].toUpperCase()}${told.slice(1)}${/[.!?…]$/.test(told) ? "" : "."}`;
};

/** A trace's id: its ends; a message's: its number whole, which tells it from the others. */
export const shortId = (id) => {
  const text = String(id ?? "");
  const message = /^([0-9a-f]{4})[0-9a-f]{8}(-\d+)$/.exec(text);
  if (message) return `${message[1]}…${message[2]}`;
  return text.length > 14 ? `${text.slice(0, 8)}…${text.slice(-4)}` : text;
};

/** A word as a shell takes it. */
export const shellWord = (word) => {
  const text = String(word);
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
};

function trimmed(value, digits = Math.abs(value) < 10 ? 1 : 0) {
  return NUMBER.format(Number(value.toFixed(digits)));
}
