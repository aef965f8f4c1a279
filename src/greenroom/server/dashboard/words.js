// What statuses, reasons and events are called on the page.

import { h } from "./dom.js";
import { count, many, nth, short } from "./format.js";

export const LOOKS = {
  running: "at work",
  queued: "a run waits",
  waiting: "its turn waits, without a slot",
  starting: "its session opens",
  interrupting: "is being interrupted",
  idle: "in memory, with nothing to do",
  asleep: "on disk, with nothing to do",
  failed: "its session could not be opened",
  closed: "closed for good",
};

export const legend = () =>
  Object.entries(LOOKS).flatMap(([look, text]) => [
    h("dt", {}, h("span", { class: "dot", "data-look": look })),
    h("dd", {}, text),
  ]);

/** What an agent waits for, in a few words; null if it executes. */
export function reason({ waits_for: what, place, held_by: held, status }) {
  const line = place === null ? "" : `, ${nth(place + 1)} in line`;
  switch (what) {
    case "slot":
      return `for a slot${line}`;
    case "room":
      return `for room in memory${line}`;
    case "session":
      return "for its session to open";
    case "run":
      return held.length === 1 ? "for a run to end" : `for runs of ${many(held.length, "agent")} to end`;
    case "process":
      return `for a process${line}`;
    case "commit":
      return "for the disk";
    case "kind":
      return "for its code: the kind is not served here";
  }
  if (status === "waiting") return "paused";
  return status === "running" || status === "interrupting" ? null : "to begin";
}

/** An explanation's text without the path and the status that stand beside it anyway. */
export function because({ path, status, text }) {
  const head = `${path} is ${status}: `;
  return text.startsWith(head) ? text.slice(head.length) : text;
}

export const ENDS = { "run.completed": "completed", "run.failed": "failed", "run.interrupted": "interrupted" };

const EVENTS = {
  "agent.spawned": "spawned",
  "agent.started": "session opened",
  "agent.reloaded": "back in memory",
  "agent.evicted": "out of memory",
  "agent.start_failed": "could not start",
  "agent.closed": "closed",
  "agent.deleted": "deleted",
  "message.accepted": "message came",
  "run.accepted": "run accepted",
  "run.started": "run began",
  "run.completed": "run completed",
  "run.failed": "run failed",
  "run.interrupted": "run interrupted",
  "run.progress": "progress",
  "store.failing": "the disk fails",
  "store.healed": "the disk works again",
};

export const eventWord = (type) => EVENTS[type] ?? type;

/** A colour for an event: "good", "bad", "warn", "work" or "". */
export function eventTone(type) {
  if (type === "run.completed" || type === "store.healed") return "good";
  if (type === "run.failed" || type === "agent.start_failed" || type === "store.failing") return "bad";
  if (type === "run.interrupted" || type === "agent.closed" || type === "agent.deleted") return "warn";
  return type === "run.started" || type === "run.progress" ? "work" : "";
}

/** A link to an agent. */
export const agentLink = (path) => h("a", { class: "path", href: `#${path}`, title: path }, path);

/** "held by /a, /b and 3 more"; runs are named alone. */
export function holders(held) {
  if (!held.length) return [];
  const agents = held[0].startsWith("/");
  const name = (one) => (agents ? agentLink(one) : h("code", { title: one }, short(one)));
  const named = held.slice(0, 3).flatMap((one, n) => [n ? ", " : "", name(one)]);
  const more = held.length > 3 ? ` and ${count(held.length - 3)} more` : "";
  return [agents ? "held by " : "", ...named, more];
}
