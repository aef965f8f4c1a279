// The right side while an agent is chosen: what it does and why, its runs, its state, what happened to it.

import * as api from "./api.js";
import { calmly, h, say, set } from "./dom.js";
import { clock, count, exactly, since } from "./format.js";
import { json } from "./json.js";
import { Runs } from "./runs.js";
import { past } from "./stream.js";
import { look } from "./treeview.js";
import { agentLink, because, ENDS, eventTone, eventWord, holders, reason } from "./words.js";

const OTHERS = ["agent.*", "message.accepted"];
const EVENTS_SHOWN = 30;
const EVENTS_BACK = 20_000;

export class AgentPanel {
  /** `act(name, path)` does what a button says. */
  constructor(path, { act, last }) {
    this.path = path;
    this.act = act;
    this.last = last;
    this.opened = new Map();
    this.openedConfig = new Map();
    this.events = [];
    this.control = new AbortController();
    this.runs = new Runs(path);
    this.refresh = calmly(() => this.load(), 350);
    this.drawEvents = calmly(() => this.drawEventsNow(), 250);
    this.build();
    this.load();
    this.runs.load(last()).catch((error) => this.failed(error));
    this.loadEvents();
  }

  end() {
    this.over = true;
    this.control.abort();
    this.runs.end();
  }

  build() {
    const names = this.path.slice(1).split("/");
    const crumbs = names.map((name, n) => {
      const path = "/" + names.slice(0, n + 1).join("/");
      const last = n === names.length - 1;
      return [h("span", { class: "slash" }, "/"), last ? h("b", {}, name) : h("a", { href: `#${path}` }, name)];
    });
    const action = (name, text, key, more = "") =>
      h(
        "button",
        {
          type: "button", class: `button ${more}`, title: `${text} (${key})`,
          onclick: () => this.act(name, this.path),
        },
        text, h("kbd", { "aria-hidden": "true" }, key),
      );
    this.dot = h("span", { class: "dot" });
    this.status = h("span", { class: "chip status" });
    this.kind = h("span", { class: "quiet" });
    this.why = h("p", { class: "why", role: "status" });
    this.error = h("pre", { class: "error", hidden: true });
    this.facts = h("dl", { class: "facts" });
    this.actions = h(
      "div", { class: "actions", role: "toolbar", "aria-label": "What to do with the agent" },
      action("run", "Run", "r", "strong"), action("message", "Message", "m"), action("interrupt", "Interrupt", "i"),
      action("evict", "Evict", "e"), action("close", "Close", "x", "danger"),
    );
    this.state = h("div", { class: "state" }, h("p", { class: "quiet" }, "looking…"));
    this.config = h("section", { hidden: true });
    this.happened = h("ol", { class: "feed" });
    this.missing = h("p", { class: "wrong", role: "alert", hidden: true });
    this.body = h(
      "div", {},
      this.actions, this.why, this.error, this.facts,
      this.runs.element,
      h("section", {}, h("h3", {}, "State ", h("span", { class: "quiet" }, "as of its last commit")), this.state),
      this.config,
      h("section", {}, h("h3", {}, "What happened to it"), this.happened),
    );
    this.element = h(
      "div", { class: "page", data: { agent: this.path } },
      h(
        "div", { class: "panel-head" },
        h("a", { class: "button icon back", href: "#/", "aria-label": "Back to what goes on now" }, "←"),
        h("h2", { class: "crumbs" }, crumbs), h("span", { class: "state-now" }, this.dot, this.status, this.kind),
      ),
      this.missing, this.body,
    );
  }

  /** Events of this agent, as they happen. */
  add(events) {
    this.runs.add(events);
    this.events.push(...events.filter(({ type }) => type.startsWith("agent.") || type === "message.accepted"));
    this.events = this.events.slice(-EVENTS_SHOWN);
    if (events.some(({ type }) => ENDS[type])) this.committed = true;
    this.refresh();
    this.drawEvents();
  }

  failed(error) {
    if (error.name === "AbortError" || this.over) return;
    say(this.missing, error.message);
    this.missing.hidden = false;
    if (error.status === 404) this.body.hidden = true;
  }

  async load() {
    if (this.loading) {
      this.again = true;
      return;
    }
    this.loading = true;
    try {
      const signal = this.control.signal;
      const withState = this.committed !== false;
      this.committed = false;
      const [agent, why] = await Promise.all([
        api.get(api.ofAgent(this.path), {}, signal),
        api.get(api.ofAgent(this.path, "explain"), {}, signal),
      ]);
      if (this.over) return;
      this.missing.hidden = true;
      this.body.hidden = false;
      this.show(agent, why);
      if (withState) await this.loadState(signal);
    } catch (error) {
      this.failed(error);
    } finally {
      this.loading = false;
      if (this.again && !this.over) this.refresh();
      this.again = false;
    }
  }

  show(agent, why) {
    this.agent = agent;
    const seen = look(agent);
    set(this.dot, "data-look", seen);
    say(this.status, agent.status);
    set(this.status, "data-look", seen);
    say(this.kind, agent.version > 1 ? `${agent.kind} version ${agent.version}` : agent.kind);
    const waits = reason(why);
    const from = why.since;
    const time = from === null ? [] : [", for ", h("span", { class: "number", "data-since": from }, since(from))];
    this.why.replaceChildren(
      ...(agent.status === "closed" || (waits === "to begin" && !agent.queued_runs)
        ? [capital(because(why)), "."]
        : [waits === null ? "It is at work: " : `It waits ${waits}: `, because(why).replace(/\.$/, ""), ...time, ".",
           ...(waits === null ? [] : holdersOf(why))]),
    );
    this.error.hidden = !agent.error;
    say(this.error, agent.error ?? "");
    const where = agent.resident ? `in memory, for the ${times(agent.incarnation)} time` : "on disk";
    const facts = [
      ["Where", where],
      ["Waiting runs", count(agent.queued_runs)],
      ["Unread messages", count(agent.inbox)],
      ["Made", clock(agent.created_at), agent.created_at],
      ["Changed", clock(agent.updated_at), agent.updated_at],
    ];
    this.facts.replaceChildren(
      ...facts.map(([name, text, at]) =>
        h("div", {}, h("dt", {}, name), " ", h("dd", { title: at ? exactly(at) : null }, text)),
      ),
    );
    for (const button of this.actions.children) button.disabled = agent.status === "closed";
    this.runs.outcome(agent.last_outcome);
    const config = JSON.stringify([agent.config, agent.described]);
    if (config !== this.configTold) {
      this.configTold = config;
      this.config.hidden = agent.config === null;
      this.config.replaceChildren(
        h("h3", {}, "Config"),
        json(agent.config, { described: agent.described, stem: "/config", opened: this.openedConfig }),
      );
    }
  }

  async loadState(signal) {
    let shown;
    try {
      const { state, described } = await api.get(api.ofAgent(this.path, "state"), {}, signal);
      const told = JSON.stringify([state, described]);
      if (told === this.stateTold) return;
      this.stateTold = told;
      shown = json(state, { described, stem: "/state", opened: this.opened, open: 2 });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      this.stateTold = null;
      shown = h("p", { class: "wrong" }, error.message);
    }
    this.state.replaceChildren(shown);
  }

  async loadEvents() {
    try {
      const query = { under: this.path, below: false, type: OTHERS, since: Math.max(0, this.last() - EVENTS_BACK) };
      const found = await past(query, this.control.signal);
      const newest = new Map([...found, ...this.events].map((event) => [event.seq, event]));
      this.events = [...newest.values()].slice(-EVENTS_SHOWN);
      this.drawEvents();
    } catch (error) {
      this.failed(error);
    }
  }

  drawEventsNow() {
    if (this.over) return;
    this.happened.replaceChildren(
      ...[...this.events].reverse().map((event) =>
        h(
          "li", { "data-tone": eventTone(event.type) },
          h("time", { class: "quiet", datetime: exactly(event.at) }, clock(event.at)),
          h("span", { class: "word" }, eventWord(event.type)),
          event.data?.sender ? h("span", {}, "from ", agentLink(event.data.sender)) : "",
          event.data?.error ? h("span", { class: "quiet" }, event.data.error) : "",
        ),
      ),
    );
    if (!this.events.length) this.happened.append(h("li", { class: "quiet" }, "Nothing that is still known."));
  }
}

const capital = (text) => (text.charAt(0).toUpperCase() + text.slice(1)).replace(/\.$/, "");

const ORDINAL = ["", "first", "second", "third", "fourth", "fifth"];
const times = (number) => ORDINAL[number] ?? `${count(number)}th`;

function holdersOf(why) {
  const found = holders(why.held_by);
  if (!found.length) return [];
  return why.waits_for === "run" ? [" (", ...found, ")"] : [" What it needs is ", ...found, "."];
}

