// The left side: the tree of agents, or what a search and a filter found, kept up to date.

import * as api from "./api.js";
import { $, calmly, h, say, set } from "./dom.js";
import { count } from "./format.js";
import { Found, Tree } from "./tree.js";
import { TreeView } from "./treeview.js";

const ENOUGH = 200; // agents that a search finds before it waits to be asked for more
const MOST_ROWS = 200; // agents that are brought up to date in one request
const MOST_ADDRESS = 6_000; // characters of paths in it
const REOPENED = 50; // branches that are opened again after the tree was loaded anew

const FILTERS = [
  ["All", {}],
  ["At work", { status: "running" }],
  ["Waiting", { status: "queued" }],
  ["In memory", { resident: true }],
  ["Failed", { status: "failed" }],
  ["Closed", { status: "closed" }],
];

export class Left {
  /** `chosen(path)` when an agent is chosen; `denied()` when the token is not good enough any more. */
  constructor({ chosen, denied }) {
    this.denied = denied;
    this.tree = null; // the whole one
    this.listing = null; // what is shown: that, or what was found
    this.filter = FILTERS[0][1];
    this.known = null; // agents, as the server counts them
    this.selected = null;
    this.view = new TreeView($("tree"), {
      chosen: (node) => chosen(node.path),
      wanted: (parent) => this.load(parent),
    });
    this.again = calmly(() => this.listing !== this.tree && this.listing.again().catch(() => {}), 1_000);
    this.refresh = calmly(() => this.refreshNow(), 350);
    this.drawn = () => {
      this.view.draw();
      this.count();
      this.refresh();
    };
    this.build();
  }

  build() {
    const buttons = FILTERS.map(([text], n) =>
      h("button", { type: "button", class: "chip", "aria-pressed": n === 0 ? "true" : "false" }, text),
    );
    const pick = (query) => {
      this.filter = query;
      buttons.forEach((button, n) => set(button, "aria-pressed", String(FILTERS[n][1] === query)));
      this.choose();
    };
    buttons.forEach((button, n) => button.addEventListener("click", () => pick(FILTERS[n][1])));
    $("filters").append(...buttons);
    const search = $("search");
    let typing = null;
    search.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.choose(), 180);
    });
    search.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "Enter") {
        event.preventDefault();
        $("tree").focus();
        if (!this.view.focused && this.view.lines[0]?.node) this.view.focus(this.view.lines[0].node.path);
      } else if (event.key === "Escape") {
        event.stopPropagation();
        if (!search.value) return $("tree").focus();
        search.value = "";
        this.choose();
      }
    });
  }

  /** Load the tree anew, with the branches open that were; the number of the event it is as of. */
  async begin() {
    const fresh = new Tree((under, after, limit) => api.get("api/tree", { under, after, limit }), this.drawn);
    const page = await fresh.loadMore(fresh.root);
    const opened = [...(this.tree?.nodes.values() ?? [])].filter((node) => node.open && node !== this.tree.root);
    if (this.tree) this.tree.over = true;
    this.tree = fresh;
    for (const { path } of opened.slice(0, REOPENED)) {
      const node = fresh.nodes.get(path);
      if (node) fresh.open(node);
    }
    this.choose();
    return page.last_event;
  }

  /** Show the tree, or what the search and the filter find. */
  choose() {
    if (!this.tree) return;
    const contains = $("search").value.trim();
    if (this.listing && this.listing !== this.tree) this.listing.end();
    const whole = !contains && !this.filter.status && !this.filter.resident;
    this.listing = whole ? this.tree : new Found(find, { contains, ...this.filter }, this.drawn);
    this.view.show(this.listing);
    if (!whole) this.load(this.listing.root);
    this.view.select(this.selected);
    this.count();
  }

  async load(parent) {
    const at = this.listing;
    try {
      await at.loadMore(parent);
      // a search looks at so many agents at a time: it goes on until there is something to show
      while (at.query?.contains && !at.over && at.root.next !== null && at.list.length < ENOUGH) await at.loadMore();
    } catch (error) {
      if (error.status === 401) this.denied();
    }
  }

  /** The agent that is shown on the right, or null. */
  select(path) {
    this.selected = path;
    this.view.select(path);
    if (path) this.reveal(path);
  }

  async reveal(path) {
    const at = this.listing;
    if (!at) return;
    try {
      const node = await at.reveal(path);
      if (node && at === this.listing && this.selected === path) this.view.focus(node.path);
    } catch {
      // the agent's own page says what is wrong
    }
  }

  /** Whether other agents stand below a path, as far as is known. */
  hasBelow(path) {
    return Boolean(this.tree?.nodes.get(path)?.below);
  }

  /** Events, in their order. */
  add(events) {
    const both = new Set([this.tree, this.listing]);
    let spawned = [];
    const tell = () => {
      if (!spawned.length) return;
      for (const one of both) one.spawned(spawned);
      if (spawned.some(({ path }) => path === this.selected)) this.reveal(this.selected);
      spawned = [];
    };
    for (const { type, path, at, data } of events) {
      if (type === "agent.spawned") spawned.push({ path, kind: data.kind, at });
      else if (type === "agent.closed" || type === "agent.deleted") {
        tell();
        for (const one of both) one.closed([path]);
      }
      for (const one of both) {
        const node = one.nodes.get(path);
        if (node) node.stale = true;
      }
    }
    tell();
    if (this.filter.status || this.filter.resident) this.again();
    this.refresh();
  }

  /** Bring what is in sight up to date. */
  async refreshNow() {
    if (!this.listing || document.hidden) return;
    const [at, tree] = [this.listing, this.tree];
    const asked = [];
    let length = 0;
    for (const node of this.view.inSight()) {
      if (!node.stale || !(node.agent || node.children === null)) continue;
      length += node.path.length + 18;
      if (length > MOST_ADDRESS || asked.length === MOST_ROWS) break;
      asked.push(node.path);
      node.stale = false;
    }
    if (!asked.length) return;
    try {
      const { agents } = await api.get("api/rows", { path: asked });
      for (const one of new Set([at, tree])) one.update(agents, asked);
    } catch {
      for (const path of asked) {
        const node = at.nodes.get(path);
        if (node) node.stale = true;
      }
    }
  }

  count(known = this.known) {
    this.known = known;
    if (!this.listing) return;
    if (this.listing === this.tree) return say($("counted"), known === null ? "" : count(known));
    const plus = this.listing.root.next === null ? "" : "+";
    say($("counted"), `${count(this.listing.list.length)}${plus} found`);
  }
}

function find({ contains, ...query }, after, limit, signal) {
  return api.get("api/agents", { contains: contains || null, ...query, after, limit }, signal);
}
