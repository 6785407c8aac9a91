// What pages can change in queues: each act asks first, with its count, and is told afterwards.
import { apiPath, post } from "./api.js";
import { ask } from "./components/dialog.js";
import { exactNumber, plural } from "./format.js";

const named = ({ topic, step }) => (step ? `${topic} of ${step}` : topic);

export function setPaused(row, paused) {
  const { topic, step } = row;
  const act = async () => {
    await post(`api/queues/${paused ? "pause" : "resume"}`, { topic, step: step || undefined });
    return `${named(row)} ${paused ? "paused" : "resumed"}`;
  };
  return ask({
    title: `${paused ? "Pause" : "Resume"} ${named(row)}?`,
    body: paused
      ? "No more messages of it are started, in any instance and across restarts. What runs now is left to end; what comes in waits."
      : "Messages that wait are started again at once.",
    verb: paused ? "Pause" : "Resume",
    act,
  });
}

const TEXTS = {
  __proto__: null,
  redrive: {
    title: "Redrive dead letters?",
    verb: "Redrive",
    done: "redriven",
    danger: false,
    body: (count) => `${many(count)} to the step they died in, with new attempts.`,
  },
  discard: {
    title: "Discard messages?",
    verb: "Discard",
    done: "discarded",
    danger: true,
    body: (count) => `${many(count, "is", "are")} removed for good. This cannot be undone.`,
  },
  purge: {
    title: "Purge the queue?",
    verb: "Purge",
    done: "removed",
    danger: true,
    body: (count) => `${many(count, "is", "are")} removed for good; what runs is left to end. This cannot be undone.`,
  },
};

function many(count, one = "goes back", more = "go back") {
  if (count === null) return `These messages ${more}`;
  return count === 1 ? `1 message ${one}` : `${exactNumber(count)} messages ${more}`;
}

/** redrive, discard or purge; of: {topic, step?, ids?, filter?}. The count comes from a dry run. */
export function bulk(verb, of, { what = null } = {}) {
  const text = TEXTS[verb];
  const send = (dry_run) => post(`api/queues/${verb}`, { ...of, dry_run });
  return ask({
    title: what ? `${text.verb} ${what}?` : text.title,
    body: text.body,
    danger: text.danger,
    verb: (count) => (count === null ? text.verb : `${text.verb} ${exactNumber(count)}`),
    count: async () => (await send(true)).count,
    act: async () => `${plural((await send(false)).count, "message")} ${text.done}`,
  });
}

/** The payload goes out as it was typed. */
export const resendText = (payload, { priority, delay_ms }) => {
  const more = [
    priority === null ? "" : `, "priority": ${JSON.stringify(priority)}`,
    delay_ms ? `, "delay_ms": ${delay_ms}` : "",
  ];
  return `{"payload": ${payload}${more.join("")}}`;
};

export const resendPath = (id) => apiPath(["messages", id, "resend"]);
