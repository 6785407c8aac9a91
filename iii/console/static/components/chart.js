// Charts over time: uPlot in a frame that follows the page's width and colours, with its values as text beside it.
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { clock, shortClock } from "../format.js";

let library = null;
const loadLibrary = () => {
  library ??= import("../vendor/uplot.js").then((module) => module.default);
  return library;
};

/** series: [{label, tone, values: [], filled?}], all as long as times_ms. show(value) writes one. */
export function Chart({ title, times_ms, series, show, height = 150, note }) {
  const frame = useRef(null);
  const chart = useRef(null);
  const [at, setAt] = useState(null);
  const scheme = useScheme();
  const columns = [times_ms.map((ms) => ms / 1000), ...series.map(({ values }) => values)];
  const latest = useRef(columns);
  latest.current = columns;
  const names = series.map(({ label }) => label).join("|");

  useEffect(() => {
    let alive = true;
    let watched = null;
    const element = frame.current;
    loadLibrary().then((Plot) => {
      if (!alive) return;
      chart.current = new Plot(options(element, series, { show, height, told: setAt }), latest.current, element);
      watched = new ResizeObserver(() => chart.current?.setSize({ width: element.clientWidth, height }));
      watched.observe(element);
    });
    return () => {
      alive = false;
      watched?.disconnect();
      chart.current?.destroy();
      chart.current = null;
    };
  }, [names, scheme, height]);

  useEffect(() => chart.current?.setData(columns), [times_ms, series]);

  const shown = at ?? times_ms.length - 1;
  return html`<figure class="chart">
    <figcaption><span class="chart-title">${title}</span>
      <span class="chart-legend">${series.map(({ label, tone, values }) => html`<span key=${label} class="chart-key"><i
          class=${`swatch bg-${tone}`} aria-hidden="true"></i>${label} <b class="num">${show(values[shown])}</b></span>`)}</span>
      <span class="chart-at num faint">${at === null ? (note ?? "now") : clock(times_ms[at]).slice(0, 8)}</span>
    </figcaption>
    <div ref=${frame} class="chart-frame" style=${{ height: `${height}px` }} role="img"
        aria-label=${summary(title, times_ms, series, show)}></div>
  </figure>`;
}

function options(frame, series, { show, height, told }) {
  const color = (name) => resolved(frame, name);
  const grid = { stroke: color("--line-soft"), width: 1 };
  const axis = { stroke: color("--text-3"), grid, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  return {
    width: frame.clientWidth,
    height,
    padding: [8, 28, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false }, sync: { key: "overview" } },
    hooks: { setCursor: [(plot) => told(plot.cursor.idx ?? null)] },
    scales: { y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.15 : 1] } },
    axes: [
      {
        ...axis,
        grid: { show: false },
        size: 26,
        space: 70,
        values: (_plot, ticks) =>
          ticks.map((tick) =>
            ticks.at(-1) - ticks[0] < 300 ? clock(tick * 1000).slice(0, 8) : shortClock(tick * 1000),
          ),
      },
      { ...axis, size: 52, space: 34, values: (_plot, ticks) => ticks.map(show) },
    ],
    series: [
      {},
      ...series.map(({ label, tone, filled = true }) => ({
        label,
        stroke: color(`--${tone}`),
        width: 1.5,
        points: { show: false, size: 4, fill: color(`--${tone}`), filter: alone },
        fill: filled ? color(`--${tone}-fill`) : undefined,
      })),
    ],
  };
}

/** The values that no line leads to. */
function alone(plot, of) {
  const values = plot.data[of];
  const known = (index) => values[index] !== null && values[index] !== undefined;
  return [...values.keys()].filter((index) => known(index) && !known(index - 1) && !known(index + 1));
}

/** light-dark() has a value only on an element. */
function resolved(element, name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  element.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

function useScheme() {
  const [scheme, setScheme] = useState(0);
  useEffect(() => {
    const changed = () => setScheme((last) => last + 1);
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", changed);
    addEventListener("schemechange", changed);
    return () => {
      system.removeEventListener("change", changed);
      removeEventListener("schemechange", changed);
    };
  }, []);
  return scheme;
}

function summary(title, times_ms, series, show) {
  if (!times_ms.length) return `${title}: no values yet`;
  const told = series.map(({ label, values }) => {
    const known = values.filter((value) => value !== null && value !== undefined);
    return known.length ? `${label}: now ${show(known.at(-1))}, highest ${show(Math.max(...known))}` : `${label}: none`;
  });
  return `${title} from ${shortClock(times_ms[0])} to ${shortClock(times_ms.at(-1))}. ${told.join("; ")}`;
}

/** A line without axes, for a tile. */
export function Spark({ values, tone = "accent" }) {
  const path = useMemo(() => sparkPath(values), [values]);
  return html`<svg class=${`spark stroke-${tone}`} viewBox="0 0 100 28" preserveAspectRatio="none" aria-hidden="true" focusable="false">
    <path class="spark-fill" d=${`${path} L100 28 L0 28 Z`} /><path class="spark-line" d=${path} /></svg>`;
}

function sparkPath(values) {
  const known = values.map((value) => value ?? 0);
  if (known.length < 2) return "M0 27 L100 27";
  const high = Math.max(...known, 1e-9);
  const x = (index) => ((index / (known.length - 1)) * 100).toFixed(2);
  const y = (value) => (27 - (value / high) * 25).toFixed(2);
  return known.map((value, index) => `${index ? "L" : "M"}${x(index)} ${y(value)}`).join(" ");
}
