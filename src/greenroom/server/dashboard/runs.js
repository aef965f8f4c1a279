// An agent's runs: what its events tell of them, a bar for each, and one in full when it is opened.

import * as api from "./api.js";
import { calmly, h, say, set } from "./dom.js";
import { clock, count, exactly, now, short, since, took } from "./format.js";
import { brief, json } from "./json.js";
import { past } from "./stream.js";
import { ENDS, eventTone, eventWord } from "./words.js";

const SHOWN = 20;
const ENOUGH = 8; // runs that are worth stopping the search in the past for
const WINDOWS = [2_000, 20_000, 200_000, Infinity]; // how many events back to look
export const OF_RUNS = ["run.accepted", "run.started", "run.completed", "run.failed", "run.interrupted"];
const SOON = 1_500; // milliseconds between two looks for a run's progress

/** The runs of one agent, by what its events tell; those of the past may come after those of now. */
class RunLog {
  constructor() {
    this.runs = new Map();
  }

  add(event) {
    const { type, run_id: id, at, seq, data } = event;
    if (!id || !type.startsWith("run.")) return false;
    let run = this.runs.get(id);
    if (!run) {
      run = { id, seq, accepted: null, started: null, ended: null, status: "accepted", attempt: 0, error: null };
      this.runs.set(id, run);
    }
    if (type === "run.accepted") {
      run.accepted = at;
      run.seq = seq;
    } else if (type === "run.started") {
      run.started = Math.max(at, run.started ?? 0);
      run.attempt = Math.max(run.attempt, data.attempt ?? 1);
      if (run.ended === null) run.status = "running";
    } else if (ENDS[type]) {
      run.ended = at;
      run.status = ENDS[type];
      run.error = data.error ?? null;
    }
    return true;
  }

  /** One that ended so long ago that its events are gone. */
  addOutcome(outcome) {
    if (!outcome || this.runs.has(outcome.run_id)) return;
    const { run_id: id, status, started_at: started, ended_at: ended, attempt, error } = outcome;
    this.runs.set(id, { id, seq: 0, accepted: null, started, ended, status, attempt, error });
  }

  newest() {
    return [...this.runs.values()].sort((a, b) => b.seq - a.seq);
  }
}

export class Runs {
  constructor(path) {
    this.path = path;
    this.log = new RunLog();
    this.lines = new Map();
    this.opened = null;
    this.list = h("ul", { class: "runs" });
    this.note = h("p", { class: "quiet" });
    this.element = h("section", {}, h("h3", {}, "Runs"), this.list, this.note);
    this.draw = calmly(() => this.drawNow(), 200);
    this.control = new AbortController();
    say(this.note, "looking…");
  }

  end() {
    this.control.abort();
    clearTimeout(this.poll);
    this.over = true;
  }

  /** Look for the runs of the past, further and further back until there are enough. */
  async load(last) {
    for (const many of WINDOWS) {
      const from = Math.max(0, last - many);
      const query = { under: this.path, below: false, type: OF_RUNS, since: from };
      const found = await past(query, this.control.signal);
      for (const event of found) this.log.add(event);
      if (this.log.runs.size >= ENOUGH || from === 0) break;
    }
    this.loaded = true;
    this.draw();
  }

  /** Events of this agent, as they happen. */
  add(events) {
    let news = false;
    for (const event of events) {
      news = this.log.add(event) || news;
      if (event.run_id && event.run_id === this.opened) this.refresh?.();
    }
    if (news) this.draw();
  }

  outcome(outcome) {
    this.log.addOutcome(outcome);
    this.draw();
  }

  drawNow() {
    if (this.over) return;
    const all = this.log.newest();
    const runs = all.slice(0, SHOWN);
    const opened = this.opened && all.find((run) => run.id === this.opened);
    if (opened && !runs.includes(opened)) runs.push(opened);
    const length = (run) => (run.ended ?? now()) - (run.accepted ?? run.started ?? now());
    const longest = Math.max(1e-3, ...runs.map(length));
    const kept = new Map();
    for (const run of runs) {
      const line = this.lines.get(run.id) ?? this.line(run);
      kept.set(run.id, line);
      fill(line, run, longest);
    }
    this.lines = kept;
    const wanted = [...kept.values()].map((line) => line.element);
    wanted.forEach((element, n) => {
      if (this.list.children[n] !== element) this.list.insertBefore(element, this.list.children[n] ?? null);
    });
    while (this.list.children.length > wanted.length) this.list.lastChild.remove();
    const more = all.length > SHOWN ? `The newest ${SHOWN} of ${count(all.length)} that are known here.` : "";
    say(this.note, !this.loaded ? "looking…" : all.length ? more : "It has had no run that is still known.");
    if (runs.some((run) => run.ended === null) && !this.poll) {
      this.poll = setTimeout(() => {
        this.poll = null;
        this.draw();
      }, 1_000);
    }
  }

  line(run) {
    const dot = h("span", { class: "dot", "aria-hidden": "true" });
    const name = h("code", {}, short(run.id));
    const status = h("span", { class: "run-status" });
    const wait = h("i", { class: "wait" });
    const work = h("i", { class: "work" });
    const bar = h("span", { class: "bar", "aria-hidden": "true" }, wait, work);
    const time = h("span", { class: "number" });
    const ago = h("span", { class: "quiet number ago" });
    const head = h(
      "button", { type: "button", class: "run-head", "aria-expanded": "false", title: run.id },
      dot, name, status, bar, time, ago,
    );
    const body = h("div", { class: "run-body", hidden: true });
    head.addEventListener("click", () => this.toggle(run.id));
    return { element: h("li", { "data-run": run.id }, head, body), head, body, dot, status, wait, work, time, ago };
  }

  async toggle(id) {
    const before = this.lines.get(this.opened);
    clearTimeout(this.follow);
    if (before) {
      set(before.head, "aria-expanded", "false");
      before.body.hidden = true;
    }
    if (this.opened === id) {
      this.opened = null;
      return;
    }
    this.opened = id;
    const line = this.lines.get(id);
    set(line.head, "aria-expanded", "true");
    line.body.hidden = false;
    if (!line.body.children.length) line.body.append(h("p", { class: "quiet" }, "looking…"));
    const opened = new Map();
    this.refresh = calmly(() => this.show(id, line.body, opened), 300);
    this.refresh();
  }

  async show(id, body, opened) {
    if (this.opened !== id || this.over) return;
    clearTimeout(this.follow);
    try {
      const known = this.log.runs.get(id);
      const query = { under: this.path, below: false, run: id, since: Math.max(0, known.seq - 1) };
      const [run, events] = await Promise.all([
        api.get(api.ofRun(id), {}, this.control.signal),
        past(query, this.control.signal),
      ]);
      const told = JSON.stringify([run, events.length]);
      if (body.dataset.told !== told) {
        body.dataset.told = told;
        body.replaceChildren(...inFull(run, events, opened));
      }
      if (!run.ended_at) this.follow = setTimeout(() => this.refresh(), SOON);
    } catch (error) {
      if (error.name !== "AbortError") body.replaceChildren(h("p", { class: "wrong" }, error.message));
    }
  }
}

function fill(line, run, longest) {
  const begun = run.accepted ?? run.started;
  const end = run.ended ?? now();
  const share = (seconds) => `${Math.max(0, Math.min(100, (100 * seconds) / longest)).toFixed(2)}%`;
  set(line.dot, "data-look", run.status === "accepted" ? "queued" : run.status);
  say(line.status, run.status === "accepted" ? "waits" : run.status);
  set(line.element, "data-status", run.status);
  line.wait.style.setProperty("width", begun === null ? "0" : share((run.started ?? end) - begun));
  line.work.style.setProperty("width", run.started === null ? "0" : share(end - run.started));
  say(line.time, begun === null ? "" : took(end - begun));
  const moment = run.ended ?? begun;
  set(line.ago, "data-since", moment);
  say(line.ago, moment === null ? "" : since(moment));
}

/** A run with its timeline, what it was given and what came of it. */
function inFull(run, events, opened) {
  const part = (title, ...what) => h("div", { class: "part" }, h("h4", {}, title), ...what);
  const of = (value, stem) => json(value, { described: run.described, stem, opened });
  const parts = [part("Timeline", timeline(run, events))];
  if (run.error) parts.push(part("Error", h("pre", { class: "error" }, run.error)));
  if (run.status === "completed") parts.push(part("Result", of(run.result, "/result")));
  parts.push(part("Input", of(run.input, "/input")));
  if (run.awaits.length) parts.push(part("Starts after", h("code", {}, run.awaits.join(" "))));
  const attempt = run.attempt > 1 ? `, attempt ${run.attempt}` : "";
  parts.push(h("p", { class: "quiet" }, "Run ", h("code", {}, run.run_id), attempt));
  return parts;
}

function timeline(run, events) {
  const told = events.filter((event) => event.run_id === run.run_id);
  if (!told.some((event) => event.type === "run.accepted")) {
    told.unshift({ type: "run.accepted", at: run.accepted_at, data: {} });
  }
  let before = null;
  return h(
    "ol", { class: "timeline" },
    told.slice(-200).map((event) => {
      const step = before === null ? clock(event.at) : `+ ${took(event.at - before)}`;
      before = event.at;
      const progress = event.type === "run.progress";
      const { name, data } = progress ? event.data : {};
      return h(
        "li", { "data-tone": eventTone(event.type) },
        h("time", { class: "number quiet", datetime: exactly(event.at), title: clock(event.at) }, step),
        h("span", { class: "word" }, progress ? String(name ?? "progress") : eventWord(event.type)),
        progress && data !== undefined && data !== null ? brief(data) : "",
        event.data?.recovered ? h("span", { class: "chip" }, "after a crash") : "",
        event.data?.attempt > 1 ? h("span", { class: "chip" }, `attempt ${event.data.attempt}`) : "",
      );
    }),
  );
}
