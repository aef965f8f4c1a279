// The right side while no agent is chosen: who holds a slot, who waits for what, and what happened lately.

import * as api from "./api.js";
import { calmly, h, say } from "./dom.js";
import { clock, count, exactly, since } from "./format.js";
import { look } from "./treeview.js";
import { agentLink, because, eventTone, eventWord, holders, reason } from "./words.js";

const SHOWN = 60; // agents
const LATELY = 40; // events

export class Now {
  constructor() {
    this.recent = [];
    this.shown = false;
    this.working = h("ul", { class: "list holding" });
    this.waiting = h("ul", { class: "list" });
    this.lately = h("ol", { class: "feed" });
    this.workingCount = h("span", { class: "quiet" });
    this.waitingCount = h("span", { class: "quiet" });
    this.element = h(
      "div", { class: "page" },
      h("div", { class: "panel-head" }, h("h2", {}, "Now")),
      h("section", {}, h("h3", {}, "Holding a slot ", this.workingCount), this.working),
      h("section", {}, h("h3", {}, "Waiting ", this.waitingCount), this.waiting),
      h("section", {}, h("h3", {}, "Lately"), this.lately),
    );
    this.refresh = calmly(() => this.load(), 600);
    this.draw = calmly(() => this.drawFeed(), 250);
  }

  show(shown) {
    this.shown = shown;
    if (!shown) return;
    this.refresh();
    this.draw();
  }

  /** Begin anew, with these events. */
  begin(events) {
    this.recent = [];
    this.add(events);
  }

  add(events) {
    this.recent.push(...events.slice(-LATELY));
    if (this.recent.length > 2 * LATELY) this.recent = this.recent.slice(-LATELY);
    if (!this.shown) return;
    this.refresh();
    this.draw();
  }

  async load() {
    if (!this.shown || document.hidden || this.loading) return;
    this.loading = true;
    try {
      const found = await api.get("api/now", { limit: SHOWN });
      this.fill(found);
    } catch {
      // the connection's state is told elsewhere
    } finally {
      this.loading = false;
    }
  }

  fill({ at_work: all, more }) {
    const working = all.filter(({ explanation }) => reason(explanation) === null);
    const waiting = all.filter(({ explanation }) => reason(explanation) !== null);
    const place = ({ explanation }) => explanation.place ?? -1;
    waiting.sort((a, b) => place(a) - place(b)); // as they stand in line
    const plus = more ? "+" : "";
    say(this.workingCount, working.length ? count(working.length) : "");
    say(this.waitingCount, waiting.length ? count(waiting.length) + plus : "");
    fillList(this.working, working, "Nobody holds a slot.");
    fillList(this.waiting, waiting, "Nobody waits.");
    if (more) this.waiting.append(h("li", { class: "quiet" }, `More wait than these ${SHOWN}.`));
  }

  drawFeed() {
    if (!this.shown) return;
    const newest = this.recent.slice(-LATELY).reverse();
    const kept = new Map([...this.lately.children].map((line) => [line.dataset.key, line]));
    this.lately.replaceChildren(
      ...newest.map((event) => kept.get(keyOf(event)) ?? eventLine(event)),
    );
    if (!newest.length) this.lately.append(h("li", { class: "quiet" }, "Nothing has happened yet."));
  }
}

const keyOf = (event) => `${event.seq} ${event.type}`;

function eventLine(event) {
  return h(
    "li", { "data-key": keyOf(event), "data-tone": eventTone(event.type) },
    h("time", { class: "quiet", datetime: exactly(event.at) }, clock(event.at)),
    h("span", { class: "word" }, eventWord(event.type)),
    event.path === "/" ? "" : agentLink(event.path),
  );
}

/** Lines by path: those that stay are brought up to date in place, so that nothing flickers. */
function fillList(list, all, nobody) {
  const kept = new Map([...list.children].map((line) => [line.dataset.path, line]));
  list.replaceChildren(...all.map((one) => lineOf(one, kept.get(one.agent.path))));
  if (!all.length) list.append(h("li", { class: "quiet" }, nobody));
}

function lineOf({ agent, explanation }, kept) {
  const told = JSON.stringify([look(agent), explanation]);
  if (kept?.dataset.told === told) return kept;
  const why = reason(explanation);
  const { since: from, held_by: held, waits_for: what } = explanation;
  const time = from === null ? "" : h("span", { class: "quiet number", "data-since": from }, since(from));
  const dot = h("span", { class: "dot", "data-look": look(agent), title: agent.status });
  const marks = { "data-path": agent.path, "data-told": told };
  if (why === null) {
    const kind = h("span", { class: "kind" }, agent.kind);
    return h("li", { ...marks, title: because(explanation) }, dot, agentLink(agent.path), kind, time);
  }
  const more = what === "slot" ? agent.kind : what === "run" ? holders(held) : because(explanation);
  return h(
    "li", marks,
    dot,
    h("div", { class: "who" }, agentLink(agent.path), h("p", { class: "quiet" }, more)),
    h("div", { class: "what" }, h("span", { class: "chip wait" }, why), time),
  );
}
