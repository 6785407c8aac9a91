// Short notes after an act, read out by screen readers. Errors stay until they are closed.
import { html, useEffect, useState } from "../html.js";
import { Icon } from "./icon.js";

const SHOWN_MS = 5_000;
const SHOWN_MAX = 4;
let toasts = [];
let number = 0;
let show = () => {};

export function toast(text, tone = "done") {
  const id = ++number;
  toasts = [...toasts, { id, text: String(text), tone }].slice(-SHOWN_MAX);
  show(toasts);
  if (tone !== "failed") setTimeout(() => dismiss(id), SHOWN_MS);
}

function dismiss(id) {
  toasts = toasts.filter((shown) => shown.id !== id);
  show(toasts);
}

export function Toasts() {
  const [shown, setShown] = useState(toasts);
  useEffect(() => {
    show = setShown;
    return () => {
      show = () => {};
    };
  }, []);
  return html`<div class="toasts" role="status" aria-live="polite" aria-atomic="false">
    ${shown.map(
      ({ id, text, tone }) => html`<div class=${`toast tone-${tone}`} key=${id}>
      <${Icon} name=${tone === "failed" ? "error" : "check"} />
      <span class="toast-text">${text}</span>
      <button type="button" class="button quiet tiny" aria-label="Close this note"
          onClick=${() => dismiss(id)}><${Icon} name="close" size=${12} /></button>
    </div>`,
    )}
  </div>`;
}
