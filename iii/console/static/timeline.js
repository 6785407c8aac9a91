// What a trace's spans mean on a line of time: their tree, what happened in them, and a scale. Pure.

const GAP_SHARE = 0.11;
const GAPS_SHARE_MAX = 0.4; // of all breaks together
const GAP_FACTOR = 3;

export const endOf = (span, now_ms) =>
  span.started_ms +
  (span.duration_ms ?? Math.max(0, span.live && span.outcome === "running" ? now_ms - span.started_ms : 0));
export const beginOf = (span) => span.started_ms - (span.wait_ms ?? 0);

/** A message that no step takes waits for nobody: it stands where it was enqueued, and the trace does not wait for it. */
export const withoutParked = (spans) =>
  spans.map((span) =>
    span.outcome === "waiting" && !span.step
      ? {
          ...span,
          kind: "message",
          outcome: "unserved",
          live: false,
          started_ms: beginOf(span),
          wait_ms: 0,
          duration_ms: 0,
        }
      : span,
  );

/** Spans as rows, parents before children, the earlier first: [{span, depth, last}]. */
export function asTree(spans) {
  const ids = new Set(spans.map(({ id }) => id));
  const below = new Map();
  for (const span of [...spans].sort((a, b) => a.started_ms - b.started_ms || (a.attempt ?? 0) - (b.attempt ?? 0))) {
    const parent = span.parent && ids.has(span.parent) && span.parent !== span.id ? span.parent : "";
    below.set(parent, [...(below.get(parent) ?? []), span]);
  }
  const rows = [];
  const seen = new Set();
  const descend = (parent, depth) => {
    for (const span of below.get(parent) ?? []) {
      if (seen.has(span.id)) continue;
      seen.add(span.id);
      rows.push({ span, depth });
      descend(span.id, depth + 1);
    }
  };
  descend("", 0);
  for (const span of spans) if (!seen.has(span.id)) rows.push({ span, depth: 0 });
  return rows;
}

/** What happened inside a span, in order: log lines, then what its commit wrote and sent. */
export function eventsOf(span, now_ms) {
  const end = endOf(span, now_ms);
  const logs = (span.logs ?? []).map((log) => ({ kind: "log", at_ms: log.at_ms, tone: log.level, log }));
  const changes = (span.changes ?? []).map((change) => ({ kind: "change", at_ms: change.at_ms ?? end, change }));
  const sent = (span.enqueued ?? []).map((message) => ({ kind: "enqueue", at_ms: message.at_ms ?? end, message }));
  return [...logs.sort((a, b) => a.at_ms - b.at_ms), ...changes, ...sent];
}

/**
 * Time to a share of the width, 0 to 1. Where nothing runs for long, time is squeezed into a break:
 * {at(ms), breaks: [{from, to, ms}], begin, end, ticks: [{at, ms}]}.
 */
export function scaleOf(spans, now_ms, squeeze) {
  const begin = Math.min(...spans.map(beginOf));
  const end = Math.max(begin + 1, ...spans.map((span) => endOf(span, now_ms)));
  const pieces = squeeze ? squeezed(begin, end, busy(spans, now_ms)) : [{ from: begin, to: end, gap: false }];
  const gaps = pieces.filter(({ gap }) => gap).length;
  const busyTime = pieces.reduce((sum, piece) => sum + (piece.gap ? 0 : piece.to - piece.from), 0) || 1;
  const gapShare = gaps ? Math.min(GAP_SHARE, GAPS_SHARE_MAX / gaps) : 0;
  const left = 1 - gaps * gapShare;
  let start = 0;
  for (const piece of pieces) {
    piece.start = start;
    piece.share = piece.gap ? gapShare : ((piece.to - piece.from) / busyTime) * left;
    start += piece.share;
  }
  const at = (ms) => {
    if (ms <= begin) return 0;
    if (ms >= end) return 1;
    const piece = pieces.find(({ to }) => ms <= to);
    return piece.start + ((ms - piece.from) / Math.max(1e-9, piece.to - piece.from)) * piece.share;
  };
  const breaks = pieces
    .filter(({ gap }) => gap)
    .map((piece) => ({ from: piece.start, to: piece.start + piece.share, ms: piece.to - piece.from }));
  return { at, begin, end, breaks, ticks: ticksOf(pieces, begin) };
}

function busy(spans, now_ms) {
  const runs = spans.map((span) => [span.started_ms, endOf(span, now_ms)]).sort((a, b) => a[0] - b[0]);
  const joined = [];
  for (const [from, to] of runs) {
    const last = joined.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined;
}

function squeezed(begin, end, runs) {
  const running = runs.reduce((sum, [from, to]) => sum + (to - from), 0);
  const pieces = [];
  let at = begin;
  const add = (from, to, gap) => {
    if (to <= from) return;
    const last = pieces.at(-1);
    if (last && !last.gap && !gap) last.to = to;
    else pieces.push({ from, to, gap });
  };
  for (const [from, to] of [...runs, [end, end]]) {
    const idle = from - at;
    const margin = Math.max(running * 0.04, 0.5);
    if (idle > Math.max(running, 5) * GAP_FACTOR) {
      add(at, at + margin, false);
      add(at + margin, from - margin, true);
      add(from - margin, from, false);
    } else add(at, from, false);
    add(from, to, false);
    at = Math.max(at, to);
  }
  return pieces;
}

function ticksOf(pieces, begin) {
  const ticks = [];
  for (const piece of pieces) {
    if (piece.gap) continue;
    const size = niceStep((piece.to - piece.from) / Math.max(1, Math.round(piece.share * 6)));
    const offset = piece.from - begin;
    for (let ms = Math.ceil(offset / size) * size; ms <= piece.to - begin; ms += size) {
      const at = piece.start + ((ms - offset) / Math.max(1e-9, piece.to - piece.from)) * piece.share;
      const byBreak = pieces.some(({ gap, start, share }) => gap && Math.abs(start + share / 2 - at) < 0.12);
      if (!byBreak && (!ticks.length || at - ticks.at(-1).at > 0.09)) ticks.push({ at, ms });
    }
  }
  return ticks;
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1e-3)));
  return [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
}

/** The trace as a short story: what came in, what was sent, done, written. [{tone, icon, verb, what, at_ms, href?, span}] */
export function storyOf(rows, now_ms) {
  const told = [];
  for (const { span } of rows) {
    const end = endOf(span, now_ms);
    const failed = span.outcome === "failed" || span.outcome === "dead";
    if (span.kind === "change" || span.kind === "message") {
      if (span.live)
        told.push({
          span,
          icon: "message",
          tone: "waiting",
          verb: "Waits",
          what: span.topic ?? span.label,
          at_ms: span.started_ms,
        });
      continue;
    }
    const begun = { __proto__: null, http: ["Received", span.label], cron: ["Fired", span.label] }[span.kind];
    if (span.kind === "queue" && !span.parent && (span.attempt ?? 1) === 1) {
      told.push({
        span,
        icon: "queues",
        tone: "accent",
        verb: "Enqueued",
        what: span.topic ?? span.label,
        at_ms: beginOf(span),
      });
    }
    if (begun)
      told.push({ span, icon: span.kind, tone: "accent", verb: begun[0], what: begun[1], at_ms: span.started_ms });
    if (!begun || failed) told.push({ span, ...ending(span, failed), what: span.step ?? span.label, at_ms: end });
    for (const change of span.changes ?? []) {
      told.push({
        span,
        icon: "state",
        tone: "accent",
        verb: `State ${change.op === "delete" ? "deleted" : change.op === "set" ? "set" : "updated"}`,
        what: change.namespace,
        said: change.key,
        at_ms: change.at_ms ?? end,
      });
    }
    for (const message of span.enqueued ?? []) {
      told.push({
        span,
        icon: "queues",
        tone: "accent",
        verb: "Enqueued",
        what: message.topic,
        at_ms: message.at_ms ?? end,
      });
    }
  }
  return told.sort((a, b) => a.at_ms - b.at_ms);
}

const ENDINGS = {
  __proto__: null,
  dead: "Gave up",
  failed: "Failed",
  running: "Running",
  waiting: "Waits",
  snoozed: "Snoozed",
  cancelled: "Cancelled",
};

function ending(span, failed) {
  const lines = span.logs ?? [];
  const said = lines.length ? (typeof lines.at(-1) === "object" ? lines.at(-1).message : null) : null;
  const verb = ENDINGS[span.outcome] ?? { __proto__: null, queue: "Processed", state: "Reacted" }[span.kind] ?? "Done";
  const tone = failed
    ? "failed"
    : ({ __proto__: null, running: "running", waiting: "waiting", snoozed: "waiting" }[span.outcome] ?? "done");
  return {
    icon: failed ? "error" : span.outcome === "done" ? "check" : "trace",
    tone,
    verb,
    said: failed ? span.error : said,
  };
}
