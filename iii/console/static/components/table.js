// Tables: rows open on Enter or click, j/k and arrows move, cards on narrow screens. And lists of any length.
import { html, useCallback, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { go } from "../router.js";
import { isTyping } from "../keys.js";

/**
 * columns: [{key, label, cell(row), align: "end"?, wide: true (takes what is left) or "narrow"?, hide: "narrow"?,
 * head: names the row}]
 * open(row): the address a row leads to, or null. select: {chosen: Set of keys, toggle(row), all?()}.
 */
export function Table({ label, columns, rows, keyOf, open, select, rowClass, empty }) {
  if (!rows.length && empty) return empty;
  const pressed = (event) => moveInRows(event, { select, rows, keyOf });
  return html`<div class="table-box">
    <table class="table" aria-label=${label} data-rows onKeyDown=${pressed}>
      <thead><tr>
        ${select && html`<th scope="col" class="col-select"><${SelectAll} select=${select} rows=${rows} keyOf=${keyOf} /></th>`}
        ${columns.map((column) => html`<th scope="col" key=${column.key} class=${columnClass(column)}>${column.label}</th>`)}
      </tr></thead>
      <tbody>${rows.map((row, index) => html`<${Row} key=${keyOf(row)} row=${row} id=${keyOf(row)} first=${index === 0}
          columns=${columns} open=${open} select=${select} extra=${rowClass?.(row)} />`)}</tbody>
    </table>
  </div>`;
}

function Row({ row, id, first, columns, open, select, extra }) {
  const address = open?.(row) ?? null;
  const chosen = select?.chosen.has(id);
  const clicked = (event) => {
    if (!address || event.target.closest("a, button, input, select, label") || String(getSelection())) return;
    if (event.ctrlKey || event.metaKey) globalThis.open(address, "_blank");
    else go(address);
  };
  return html`<tr data-row data-key=${id} data-href=${address} tabindex=${first ? 0 : -1}
      class=${`${address ? "opens" : ""} ${chosen ? "chosen" : ""} ${extra ?? ""}`} onClick=${clicked}>
    ${select && html`<td class="col-select"><input type="checkbox" checked=${chosen} aria-label=${`Select ${id}`}
        onChange=${() => select.toggle(row)} /></td>`}
    ${columns.map((column) => html`<td key=${column.key} class=${columnClass(column)} data-label=${column.label}>${column.cell(row)}</td>`)}
  </tr>`;
}

function SelectAll({ select, rows, keyOf }) {
  const box = useRef(null);
  const chosen = rows.filter((row) => select.chosen.has(keyOf(row))).length;
  useEffect(() => {
    if (box.current) box.current.indeterminate = chosen > 0 && chosen < rows.length;
  });
  return html`<input ref=${box} type="checkbox" aria-label="Select all rows shown" checked=${chosen > 0 && chosen === rows.length}
      onChange=${() => select.all(rows)} />`;
}

const columnClass = ({ align, wide, hide, head }) =>
  `${align === "end" ? "end" : ""} ${head ? "head" : ""} ${wide === true ? "wide" : wide ? `wide-${wide}` : ""} ${hide ? `hide-${hide}` : ""}`;

function moveInRows(event, { select, rows, keyOf }) {
  if (isTyping(event.target) && event.target.type !== "checkbox") return;
  const row = event.target.closest("[data-row]");
  if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
  const step = { __proto__: null, j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
  if (step) {
    const all = [...event.currentTarget.querySelectorAll("[data-row]")];
    const next = all[all.indexOf(row) + step];
    if (next) {
      row.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }
    event.preventDefault();
  } else if (event.key === "Enter" && event.target === row && row.dataset.href) {
    event.preventDefault();
    go(row.dataset.href);
  } else if (event.key === "x" && select) {
    const found = rows.find((candidate) => String(keyOf(candidate)) === row.dataset.key);
    if (found) select.toggle(found);
  }
}

/** A set of chosen keys, as Table's select wants it; emptied when `of` changes. */
export function useSelection(keyOf, of) {
  const [chosen, setChosen] = useState(new Set());
  useEffect(() => setChosen(new Set()), [of]);
  const toggle = (row) => {
    const next = new Set(chosen);
    if (!next.delete(keyOf(row))) next.add(keyOf(row));
    setChosen(next);
  };
  const all = (rows) => {
    const whole = rows.every((row) => chosen.has(keyOf(row)));
    setChosen(whole ? new Set() : new Set(rows.map(keyOf)));
  };
  return { chosen, toggle, all, clear: () => setChosen(new Set()) };
}

/**
 * A list of any length: only the rows in sight exist. row(item, index) draws one of exactly row_px; onEnd is called
 * when the last rows come into sight; follow keeps to the end while the reader is there.
 */
export function LongList({ label, items, row_px, keyOf, row, onEnd, follow = false, current }) {
  const box = useRef(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const atEnd = useRef(true);
  const measure = useCallback(() => {
    if (!box.current) return;
    const { scrollTop, clientHeight, scrollHeight } = box.current;
    atEnd.current = scrollHeight - scrollTop - clientHeight < row_px * 2;
    setView((last) =>
      last.top === scrollTop && last.height === clientHeight ? last : { top: scrollTop, height: clientHeight },
    );
  }, [row_px]);
  useEffect(() => {
    const watched = new ResizeObserver(() => {
      if (box.current && follow && atEnd.current) box.current.scrollTop = box.current.scrollHeight;
      measure();
    });
    watched.observe(box.current);
    return () => watched.disconnect();
  }, [measure, follow]);
  useLayoutEffect(() => {
    if (follow && atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [items, follow]);
  const first = Math.max(0, Math.floor(view.top / row_px) - 8);
  const last = Math.min(items.length, Math.ceil((view.top + view.height) / row_px) + 8);
  useEffect(() => {
    if (onEnd && items.length && last >= items.length - 5) onEnd();
  }, [last, items.length, onEnd]);
  const pressed = (event) => moveInList(event, box.current, row_px);
  return html`<div class="long-list" ref=${box} onScroll=${measure} data-rows role="list" aria-label=${label} onKeyDown=${pressed}
      tabindex=${items.length ? -1 : 0}>
    <div class="long-list-space" style=${{ height: `${items.length * row_px}px` }}>
      ${items.slice(first, last).map((item, offset) => {
        const index = first + offset;
        return html`<div role="listitem" class="long-list-row" key=${keyOf(item)}
            style=${{ transform: `translateY(${index * row_px}px)`, height: `${row_px}px` }}
          data-row data-index=${index} tabindex=${(current ?? 0) === index ? 0 : -1}>${row(item, index)}</div>`;
      })}
    </div>
  </div>`;
}

function moveInList(event, box, row_px) {
  const row = event.target.closest("[data-row]");
  const step = { __proto__: null, j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
  if (!row || isTyping(event.target)) return;
  if (event.key === "Enter" && event.target === row) {
    event.preventDefault();
    row.querySelector("a, button")?.click();
  }
  if (!step) return;
  event.preventDefault();
  const next = box.querySelector(`[data-index="${Number(row.dataset.index) + step}"]`);
  if (!next) return;
  const top = Number(next.dataset.index) * row_px;
  if (top < box.scrollTop) box.scrollTop = top;
  if (top + row_px > box.scrollTop + box.clientHeight) box.scrollTop = top + row_px - box.clientHeight;
  next.focus({ preventScroll: true });
}

export function More({ of, what = "rows" }) {
  if (of.end) return null;
  return html`<div class="more"><button type="button" class="button" disabled=${of.busy}
      onClick=${of.more}>${of.busy ? "Loading …" : `More ${what}`}</button></div>`;
}
