// Dialogs on the browser's own <dialog>: it keeps the focus inside, closes on Esc and gives the focus back.
import { html, useEffect, useId, useLayoutEffect, useRef, useState } from "../html.js";
import { Icon } from "./icon.js";
import { toast } from "./toast.js";

export function Dialog({ title, wide, onClose, children, footer }) {
  const element = useRef(null);
  const id = useId();
  useLayoutEffect(() => {
    // at once, so that the next key goes to it
    const before = document.activeElement;
    const dialog = element.current;
    dialog.showModal();
    dialog.querySelector("[data-first]")?.focus();
    return () => {
      dialog.close(); // while it is open nothing else takes the focus
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  const outside = (event) => event.target === element.current && onClose();
  const cancelled = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${element} class=${wide ? "dialog wide" : "dialog"} aria-labelledby=${id} onCancel=${cancelled}
      onMouseDown=${outside}>
    <div class="dialog-box">
      <header class="dialog-head"><h2 id=${id}>${title}</h2>
        <button type="button" class="button quiet" aria-label="Close" onClick=${onClose}><${Icon} name="close" /></button></header>
      <div class="dialog-body">${children}</div>
      ${footer && html`<footer class="dialog-foot">${footer}</footer>`}
    </div>
  </dialog>`;
}

let openAsked = () => {};

/**
 * Ask before an act. `count`: how many it concerns, asked for first (a dry run) and shown; `act` does it and returns
 * the note to show. Resolves to whether it was done.
 */
export function ask({ title, body, verb, danger = false, count = null, act }) {
  return new Promise((resolve) => openAsked({ title, body, verb, danger, count, act, resolve }));
}

export function AskedDialog() {
  const [asked, setAsked] = useState(null);
  useEffect(() => {
    openAsked = setAsked;
  }, []);
  if (asked === null) return null;
  const close = (done) => {
    setAsked(null);
    asked.resolve(done);
  };
  return html`<${Question} key=${asked.title} asked=${asked} close=${close} />`;
}

function Question({ asked, close }) {
  const { title, body, verb, danger, count, act } = asked;
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    if (count) count().then(setFound, setError);
  }, []);
  const counted = !count || found !== null;
  const nothing = count && found === 0;
  const perform = async () => {
    setBusy(true);
    setError(null);
    try {
      toast(await act());
      close(true);
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  const footer = html`
    <button type="button" class="button" data-first onClick=${() => close(false)}>Cancel</button>
    <button type="button" class=${`button ${danger ? "danger" : "primary"}`} disabled=${busy || !counted || nothing} onClick=${perform}>
      ${busy ? "Working …" : typeof verb === "function" ? verb(found) : verb}
    </button>`;
  return html`<${Dialog} title=${title} onClose=${() => close(false)} footer=${footer}>
    <p>${typeof body === "function" ? body(found) : body}</p>
    ${count && !counted && !error && html`<p class="faint" role="status">Counting …</p>`}
    ${nothing && html`<p class="callout tone-waiting">Nothing matches: there is nothing to do.</p>`}
    ${error && html`<p class="callout tone-failed" role="alert">${error.message}</p>`}
  <//>`;
}
