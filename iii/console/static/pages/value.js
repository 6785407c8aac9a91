// One state value: looked at, edited over the version that was read, deleted; and its history.
import { html, useEffect, useRef, useState } from "../html.js";
import { apiPath, parseJson, putText, remove, useApi } from "../api.js";
import { onLive } from "../live.js";
import { go, href } from "../router.js";
import { exactTime } from "../format.js";
import { Ago, Answer, Choice, Cli, CopyButton, Empty, IdLink } from "../components/badge.js";
import { ask } from "../components/dialog.js";
import { Icon } from "../components/icon.js";
import { Diff, JsonField, JsonView, jsonFault, pretty } from "../components/json.js";
import { toast } from "../components/toast.js";
import { Dialog } from "../components/dialog.js";

export function Value({ namespace, name, read_only }) {
  const path = apiPath(["state", namespace, name]);
  const answer = useApi(path);
  const [tab, setTab] = useState("value");
  const [editing, setEditing] = useState(null); // {text, version} while somebody edits
  const [flash, setFlash] = useState(0);
  const edits = useRef(null);
  edits.current = editing;
  useEffect(
    () =>
      onLive("change", (changes) => {
        if (!changes.some((change) => change.namespace === namespace && change.key === name)) return;
        setFlash((last) => last + 1);
        answer.reload();
      }),
    [namespace, name, answer.reload],
  );
  const gone = answer.error?.status === 404;
  const entry = gone ? null : answer.data;
  const save = async (text, if_version) => {
    await putText(path, `{"value": ${text}, "if_version": ${if_version}}`);
    toast(`${namespace}/${name} written`);
    setEditing(null);
    answer.reload();
  };
  return html`<section class="pane pane-value" aria-label=${`Value of ${name}`}>
    <header class="pane-head"><a class="button quiet only-narrow"
        href=${href(["state", namespace])} aria-label="Keys"><${Icon} name="back" /></a>
      <h2 class="clip mono" title=${name}>${name}</h2><${CopyButton} text=${name} label="Copy the key" /><span class="push"></span>
      ${
        entry &&
        !editing &&
        html`<button type="button" class="button" disabled=${read_only} onClick=${() => {
          setTab("value");
          setEditing({ text: pretty(entry.value), version: entry.version });
        }}><${Icon} name="edit" size=${14} />Edit</button>
        <button type="button" class="button danger-quiet" disabled=${read_only}
            onClick=${() => askDelete({ namespace, name, entry })}><${Icon} name="trash" size=${14} />Delete</button>`
      }</header>
    <div class="value-bar">
      <${Choice} label="What is shown" options=${[
        ["value", "Value"],
        ["history", "History"],
      ]} value=${tab} onChange=${setTab} />
      ${entry && html`<span class=${`version num ${flash ? "flash" : ""}`} key=${flash}
          title=${exactTime(entry.updated_ms)}>version ${entry.version} · <${Ago} at_ms=${entry.updated_ms} /></span>`}
    </div>
    ${
      tab === "history"
        ? html`<${History} namespace=${namespace} name=${name} version=${entry?.version ?? 0} />`
        : gone
          ? html`<${Empty} title="There is no value here" icon="state">It was deleted, or never written. Its history may tell.<//>`
          : html`<${Answer} of=${answer}>${(current) =>
              editing
                ? html`<${Editor} namespace=${namespace} name=${name} editing=${editing} current=${current}
                    onText=${(text) => setEditing({ ...editing, text })} onSave=${save} onClose=${() => setEditing(null)} />`
                : html`<${JsonView} value=${current.value} label="value" />`}<//>`
    }
  </section>`;
}

function askDelete({ namespace, name, entry }) {
  return ask({
    title: `Delete ${namespace}/${name}?`,
    body: `The value at version ${entry.version} is removed; steps that watch it see the change.`,
    verb: "Delete",
    danger: true,
    act: async () => {
      await remove(apiPath(["state", namespace, name], { if_version: entry.version }));
      go(href(["state", namespace]));
      return `${namespace}/${name} deleted`;
    },
  });
}

function Editor({ namespace, name, editing, current, onText, onSave, onClose }) {
  const [conflict, setConflict] = useState(null);
  const [fault, setFault] = useState(null);
  const [busy, setBusy] = useState(false);
  const { text, version } = editing;
  const newer = current.version !== version;
  const save = async (if_version) => {
    setBusy(true);
    setFault(null);
    try {
      await onSave(text, if_version);
    } catch (error) {
      setBusy(false);
      if (error.status === 409) setConflict(error.body?.current ?? { value: null, version: 0 });
      else setFault(error.message);
    }
  };
  const pressed = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && jsonFault(text) === null) save(version);
  };
  const take = () => {
    setConflict(null);
    onClose();
  };
  return html`<div class="editor" onKeyDown=${pressed}>
    ${newer && !conflict && html`<p class="callout tone-waiting" role="status"><${Icon} name="warning" />It changed to version ${current.version} while you were writing over version ${version}. On saving you will see both.</p>`}
    <${JsonField} label=${`Value, over version ${version}`} text=${text} onText=${onText} rows=${16} first=${true} />
    ${fault && html`<p class="callout tone-failed" role="alert">${fault}</p>`}
    <div class="editor-foot"><${Cli} words=${["iii", "state", "set", namespace, name, compactText(text), "--if-version", version]} />
      <button type="button" class="button" onClick=${onClose}>Cancel</button>
      <button type="button" class="button primary" disabled=${busy || jsonFault(text) !== null}
          onClick=${() => save(version)}>Save</button></div>
    ${
      conflict &&
      html`<${Conflict} conflict=${conflict} text=${text} onOverwrite=${() => {
        setConflict(null);
        save(conflict.version);
      }} onTake=${take} onClose=${() => setConflict(null)} />`
    }
  </div>`;
}

const compactText = (text) => text.replace(/\n\s*/g, " ");

function Conflict({ conflict, text, onOverwrite, onTake, onClose }) {
  const deleted = conflict.version === 0;
  const footer = html`<button type="button" class="button" data-first onClick=${onClose}>Go on editing</button>
    <button type="button" class="button" onClick=${onTake}>Take theirs</button><button type="button" class="button danger"
        onClick=${onOverwrite}>Write mine over it</button>`;
  return html`<${Dialog} title="Somebody else was quicker" wide=${true} onClose=${onClose} footer=${footer}>
    <p>${deleted ? "The value was deleted meanwhile." : html`The value is at version <b class="num">${conflict.version}</b> now.`} Nothing of yours was written yet.</p>
    <div class="beside">
      <section><h3>Theirs</h3><div class="json-box">${deleted ? html`<p class="faint">deleted</p>` : html`<${JsonView}
          value=${conflict.value} label="their value" />`}</div></section>
      <section><h3>Yours</h3><pre class="code json-box">${text}</pre></section>
    </div>
    ${!deleted && html`<h3>From theirs to yours</h3><${Diff} old=${conflict.value}
        current=${parseJson(text)} oldLabel="theirs" newLabel="yours" />`}<//>`;
}

const TYPES = { __proto__: null, created: "created", updated: "updated", deleted: "deleted" };

function History({ namespace, name, version }) {
  const answer = useApi(apiPath(["state", namespace, name, "history"]));
  const [open, setOpen] = useState(null);
  useEffect(() => answer.reload(), [version]);
  return html`<${Answer} of=${answer}>${({ changes }) =>
    changes.length === 0
      ? html`<${Empty} title="No history is kept" icon="state">The change log is trimmed once every trigger has seen it.<//>`
      : html`<p class="history-cli"><${Cli} words=${["iii", "state", "history", namespace, name]} /></p>
        <ol class="history">${changes.map((change, index) => {
          const shown = open === null ? index === 0 : open === change.version;
          return html`<li key=${change.version}>
          <button type="button" class="history-head" aria-expanded=${shown ? "true" : "false"}
              onClick=${() => setOpen(shown ? -1 : change.version)}>
            <${Icon} name=${shown ? "down" : "right"} size=${12} /><b
                class=${`change-${change.type}`}>${TYPES[change.type] ?? change.type}</b><span class="num faint">version ${change.version}</span><span class="push"><${Ago} at_ms=${change.at_ms} /></span></button>
          ${shown && html`<div class="history-body">${change.trace_id && html`<p class="faint">by trace <${IdLink} kind="traces"
              id=${change.trace_id} /></p>`}<${Diff} old=${change.type === "created" ? undefined : change.old}
              current=${change.type === "deleted" ? undefined : change.new} /></div>`}</li>`;
        })}</ol>`}<//>`;
}
