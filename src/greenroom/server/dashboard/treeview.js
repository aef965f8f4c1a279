// The list on the left, drawn: only the lines in sight are elements, however many there are.

import { h, say, set, withNextFrame } from "./dom.js";
import { count } from "./format.js";

const BEYOND = 6; // lines above and below what is in sight
const STATUS = {
  starting: "starting", idle: "idle", queued: "queued", running: "running",
  waiting: "waiting", interrupting: "interrupting", failed: "failed", closed: "closed",
};

/** What an agent is doing, as a word for the dot before its name. */
export function look(agent) {
  if (!agent) return "none";
  if (agent.status === "idle") return agent.resident ? "idle" : "asleep";
  return STATUS[agent.status] ?? "idle";
}

export class TreeView {
  /** `chosen(node)` when an agent is chosen; `wanted(parent)` when the next page of a branch is in sight. */
  constructor(element, { chosen, wanted }) {
    this.element = element;
    this.chosen = chosen;
    this.wanted = wanted;
    this.listing = null;
    this.selected = null; // the path that is shown on the right
    this.focused = null; // the path that the keys move
    this.lines = [];
    this.pool = [];
    this.space = h("div", { class: "space", role: "presentation" });
    this.nothing = h("p", { class: "nothing", hidden: true });
    element.append(this.space, this.nothing);
    this.draw = withNextFrame(() => this.drawNow());
    element.addEventListener("scroll", this.draw, { passive: true });
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(this.draw).observe(element);
    const coarse = matchMedia("(pointer: coarse)");
    const measure = () => {
      this.row = coarse.matches ? 44 : 32;
      element.style.setProperty("--row", `${this.row}px`);
      this.draw();
    };
    coarse.addEventListener("change", measure);
    measure();
  }

  show(listing) {
    this.listing = listing;
    this.element.scrollTop = 0;
    this.focused = null;
    this.draw();
  }

  select(path) {
    this.selected = path;
    if (path) this.focused = path;
    this.draw();
  }

  /** The nodes in sight, for who brings them up to date. */
  inSight() {
    const [first, last] = this.range();
    return this.lines.slice(first, last).flatMap((line) => line.node ?? []);
  }

  range() {
    const top = Math.floor(this.element.scrollTop / this.row);
    const many = Math.ceil(this.element.clientHeight / this.row);
    return [Math.max(0, top - BEYOND), Math.min(this.lines.length, top + many + BEYOND)];
  }

  drawNow() {
    if (!this.listing) return;
    this.lines = this.listing.entries();
    this.space.style.setProperty("height", `${this.lines.length * this.row}px`);
    const [first, last] = this.range();
    while (this.pool.length < last - first) this.pool.push(this.line());
    let active = null;
    this.pool.forEach((line, n) => {
      const index = first + n;
      const entry = index < last ? this.lines[index] : null;
      if (!entry) {
        line.box.hidden = true;
        return;
      }
      line.box.hidden = false;
      line.box.style.setProperty("transform", `translateY(${index * this.row}px)`);
      line.entry = entry;
      set(line.box, "aria-posinset", entry.place);
      set(line.box, "aria-setsize", entry.size);
      if (entry.node) this.fill(line, entry.node, index);
      else this.fillMore(line, entry.more, index);
      if (entry.node && entry.node.path === this.focused) active = line.box.id;
    });
    set(this.element, "aria-activedescendant", active);
    const empty = this.lines.length === 0;
    this.nothing.hidden = !empty;
    if (empty) say(this.nothing, this.listing.query ? "Nothing is found." : "There are no agents yet.");
    for (const entry of this.lines.slice(first, last)) {
      if (entry.more && !entry.more.loading && !entry.more.error) this.wanted(entry.more);
    }
  }

  line() {
    const twist = h("span", { class: "twist", "aria-hidden": "true" });
    const dot = h("span", { class: "dot", "aria-hidden": "true" });
    const name = h("span", { class: "name" });
    const kind = h("span", { class: "kind" });
    const runs = h("span", { class: "badge runs" });
    const mail = h("span", { class: "badge mail" });
    const status = h("span", { class: "status" });
    const box = h(
      "div", { class: "line", role: "treeitem", id: `line-${this.pool.length}` },
      twist, dot, name, kind, runs, mail, status,
    );
    this.space.append(box);
    return { box, twist, dot, name, kind, runs, mail, status, entry: null };
  }

  fill(line, node, index) {
    const agent = node.agent;
    const seen = look(agent);
    const { box } = line;
    box.classList.remove("more");
    box.style.setProperty("--depth", node.depth - 1);
    set(box, "data-look", seen);
    set(box, "data-path", node.path);
    set(box, "aria-level", node.depth);
    set(box, "aria-selected", String(node.path === this.selected));
    set(box, "aria-expanded", node.below ? String(node.open) : null);
    set(box, "aria-busy", node.loading ? "true" : null);
    set(box, "data-index", index);
    box.classList.toggle("focused", node.path === this.focused);
    say(line.name, node.name);
    say(line.kind, agent ? agent.kind : "");
    say(line.runs, agent?.queued_runs ? count(agent.queued_runs) : "");
    set(line.runs, "title", agent?.queued_runs ? `${count(agent.queued_runs)} waiting runs` : null);
    say(line.mail, agent?.inbox ? `✉ ${count(agent.inbox)}` : "");
    set(line.mail, "title", agent?.inbox ? `${count(agent.inbox)} unread messages` : null);
    say(line.status, seen === "asleep" || seen === "none" ? "" : seen === "idle" ? "in memory" : seen);
    set(box, "title", node.path);
  }

  fillMore(line, parent, index) {
    const { box } = line;
    box.classList.add("more");
    box.classList.remove("focused");
    box.style.setProperty("--depth", parent.depth ?? 0);
    for (const name of ["data-path", "data-look", "aria-expanded", "aria-level", "title"]) set(box, name, null);
    set(box, "aria-selected", "false");
    set(box, "data-index", index);
    for (const part of [line.kind, line.runs, line.mail, line.status]) say(part, "");
    say(line.name, parent.error ? `${parent.error.message} Press to try again.` : "loading…");
  }

  click(event) {
    const box = event.target.closest(".line");
    if (!box) return;
    const line = this.pool.find((one) => one.box === box);
    if (line.entry.more) {
      line.entry.more.error = null;
      this.wanted(line.entry.more);
      return;
    }
    const { node } = line.entry;
    this.focused = node.path;
    if (event.target.classList.contains("twist") && node.below) this.toggle(node);
    else this.choose(node);
    this.draw();
  }

  choose(node) {
    if (node.agent || node.stale) this.chosen(node);
    else this.toggle(node);
  }

  toggle(node) {
    if (node.open) this.listing.close(node);
    else this.listing.open(node);
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !this.lines.length) return;
    const at = this.lines.findIndex((line) => line.node?.path === this.focused);
    const node = this.lines[at]?.node;
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.row) - 1);
    switch (event.key) {
      case "ArrowDown":
        this.move(at + 1);
        break;
      case "ArrowUp":
        this.move(at < 0 ? 0 : at - 1);
        break;
      case "PageDown":
        this.move(at + page);
        break;
      case "PageUp":
        this.move(at - page);
        break;
      case "Home":
        this.move(0);
        break;
      case "End":
        this.move(this.lines.length - 1);
        break;
      case "ArrowRight":
        if (!node) this.move(0);
        else if (node.below && !node.open) this.listing.open(node);
        else if (node.open) this.move(at + 1);
        break;
      case "ArrowLeft":
        if (node?.open) this.listing.close(node);
        else if (node?.parent && node.parent.path !== "/") this.focus(node.parent.path);
        break;
      case "Enter":
      case " ":
        if (node) this.choose(node);
        break;
      default:
        return;
    }
    event.preventDefault();
    event.stopPropagation();
    this.draw();
  }

  move(index) {
    const to = Math.max(0, Math.min(this.lines.length - 1, index));
    const line = this.lines[to].node ? this.lines[to] : this.lines[to - 1];
    if (line?.node) this.focus(line.node.path);
    if (!this.lines[to].node) this.scrollTo(to); // its page is loaded when it is in sight
  }

  /** Move the keys' place to a path, and bring it into sight. */
  focus(path) {
    this.focused = path;
    this.lines = this.listing.entries();
    this.scrollTo(this.lines.findIndex((line) => line.node?.path === path));
    this.draw();
  }

  scrollTo(index) {
    if (index < 0) return;
    const top = index * this.row;
    const view = this.element;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + this.row > view.scrollTop + view.clientHeight) {
      view.scrollTop = top + this.row - view.clientHeight;
    }
  }
}
