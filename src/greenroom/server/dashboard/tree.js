// The agents as the list on the left shows them: as a tree that is loaded branch by branch, or as what a
// search or a filter found. Plain values: nothing here knows the page.

import { nameOf } from "./format.js";

const PAGE = 200; // agents that are asked for at a time

const byName = (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);

function node(path, depth, parent) {
  return {
    path,
    name: path === "/" ? "/" : nameOf(path),
    depth,
    parent,
    agent: null, // its row, if an agent stands here
    below: false, // others stand below it
    open: false,
    children: null, // a list by name, once asked for
    next: null, // where the listing of the children goes on; null: nowhere
    loading: false,
    error: null,
    stale: false, // something of it happened that the row does not tell yet
  };
}

/** What both have in common: `entries()` are the lines to show, `changed()` is called when they differ. */
class Listing {
  constructor(changed) {
    this.changed = changed;
    this.nodes = new Map();
    this.flat = null;
    this.over = false; // another listing has taken its place
  }

  entries() {
    this.flat ??= this.flatten();
    return this.flat;
  }

  touch() {
    this.flat = null;
    if (!this.over) this.changed();
  }

  /** News of agents that are shown: their rows. One that is closed is gone. */
  update(rows, asked) {
    const found = new Map(rows.map((row) => [row.path, row]));
    for (const path of asked) {
      const known = this.nodes.get(path);
      if (!known) continue;
      known.stale = false;
      const row = found.get(path);
      if (row && this.keeps(row)) known.agent = row;
      else if (known.agent) this.remove(path);
    }
    if (!this.over) this.changed();
  }

  keeps(row) {
    return row.status !== "closed";
  }
}

/** The tree. `load(under, after, limit)` answers with a page of `/api/tree`. */
export class Tree extends Listing {
  constructor(load, changed) {
    super(changed);
    this.load = load;
    this.root = node("/", 0, null);
    this.root.open = this.root.below = true;
    this.nodes.set("/", this.root);
  }

  flatten() {
    const lines = [];
    const walk = (parent) => {
      const size = parent.next === null ? (parent.children?.length ?? 0) : -1;
      let place = 0;
      for (const child of parent.children ?? []) {
        lines.push({ node: child, place: ++place, size });
        if (child.open) walk(child);
      }
      if (parent.next !== null || parent.loading || parent.error) lines.push({ more: parent });
    };
    walk(this.root);
    return lines;
  }

  /** Load the next page of a node's children; what is on it already is brought up to date. */
  async loadMore(parent) {
    if (parent.loading) return;
    parent.loading = true;
    parent.error = null;
    this.touch();
    try {
      const page = await this.load(parent.path, parent.next, PAGE);
      if (this.nodes.get(parent.path) !== parent) return;
      parent.children ??= [];
      const fresh = [];
      for (const told of page.children) {
        let child = this.nodes.get(told.path);
        if (!child) {
          child = node(told.path, parent.depth + 1, parent);
          this.nodes.set(told.path, child);
          fresh.push(child);
        }
        child.agent = told.agent ?? child.agent;
        child.below ||= told.below;
      }
      this.insert(parent, fresh);
      parent.next = page.next;
      if (!parent.children.length && page.next === null && parent !== this.root) parent.below = false;
      return page;
    } catch (error) {
      parent.error = error;
      throw error;
    } finally {
      parent.loading = false;
      this.touch();
    }
  }

  insert(parent, fresh) {
    if (!fresh.length) return;
    fresh.sort(byName);
    const old = parent.children;
    if (!old.length || old.at(-1).name < fresh[0].name) old.push(...fresh);
    else parent.children = old.concat(fresh).sort(byName); // of runs that are sorted: nearly one pass
  }

  open(one) {
    if (one.open || !one.below) return;
    one.open = true;
    if (one.children === null) this.loadMore(one).catch(() => {});
    this.touch();
  }

  close(one) {
    if (!one.open || one === this.root) return;
    one.open = false;
    this.touch();
  }

  /** Open the branches down to a path as far as they are loaded; the deepest node there is. */
  async reveal(path) {
    const names = path.slice(1).split("/");
    let at = this.root;
    for (let n = 1; n <= names.length; n++) {
      const next = "/" + names.slice(0, n).join("/");
      if (at !== this.root || at.children === null) {
        at.open = true;
        at.below = true;
        if (at.children === null) await this.loadMore(at);
      }
      const found = this.nodes.get(next);
      if (!found) {
        if (at.next === null) break;
        const one = node(next, at.depth + 1, at); // it stands on a page that was not loaded yet
        one.below = n < names.length;
        one.stale = n === names.length;
        this.nodes.set(next, one);
        this.insert(at, [one]);
        at = one;
      } else at = found;
    }
    this.touch();
    return at;
  }

  /** Agents that were made just now: `[path, kind, at]` of each. */
  spawned(news) {
    const fresh = new Map();
    for (const { path, kind, at } of news) {
      const names = path.slice(1).split("/");
      let parent = this.root;
      for (let n = 1; n <= names.length; n++) {
        if (parent.children === null) break;
        const next = "/" + names.slice(0, n).join("/");
        let child = this.nodes.get(next);
        if (!child) {
          if (parent.next !== null && next > parent.next) break; // it comes with a later page
          child = node(next, parent.depth + 1, parent);
          this.nodes.set(next, child);
          if (!fresh.has(parent)) fresh.set(parent, []);
          fresh.get(parent).push(child);
        }
        if (n === names.length) child.agent ??= newRow(path, kind, at);
        else child.below = true;
        parent = child;
      }
    }
    for (const [parent, children] of fresh) this.insert(parent, children);
    this.touch();
  }

  /** Agents that were closed just now, and all below them. */
  closed(paths) {
    for (const path of paths) this.remove(path, { whole: true });
    this.touch();
  }

  remove(path, { whole = false } = {}) {
    const one = this.nodes.get(path);
    if (!one || one === this.root) return;
    one.agent = null;
    if (one.below && !whole) return;
    this.forget(one);
    const parent = one.parent;
    parent.children = parent.children.filter((child) => child !== one);
    if (parent !== this.root && !parent.children.length && parent.next === null) {
      parent.below = parent.open = false;
      parent.children = null;
      if (!parent.agent) this.remove(parent.path);
    }
    this.flat = null;
  }

  forget(one) {
    this.nodes.delete(one.path);
    for (const child of one.children ?? []) this.forget(child);
  }
}

function newRow(path, kind, at) {
  return {
    path, kind, version: 1, status: "starting", resident: true, queued_runs: 0, inbox: 0,
    created_at: at, updated_at: at, error: null, last_run: null,
  };
}

/** What a query of `/api/agents` finds, as far as it is loaded. `load(query, after, limit, signal)`. */
export class Found extends Listing {
  constructor(load, query, changed) {
    super(changed);
    this.load = load;
    this.query = query;
    this.list = [];
    this.root = { more: true, path: "/", next: "", loading: false, error: null };
    this.searched = 0;
    this.control = new AbortController();
  }

  flatten() {
    const size = this.root.next === null ? this.list.length : -1;
    const lines = this.list.map((one, n) => ({ node: one, place: n + 1, size }));
    if (this.root.next !== null || this.root.loading || this.root.error) lines.push({ more: this.root });
    return lines;
  }

  keeps(row) {
    const { status, resident } = this.query;
    if (status) return row.status === status;
    return super.keeps(row) && (!resident || row.resident);
  }

  end() {
    this.over = true;
    this.control.abort();
  }

  async loadMore() {
    if (this.root.loading) return;
    this.root.loading = true;
    this.root.error = null;
    this.touch();
    try {
      const page = await this.load(this.query, this.root.next || null, PAGE, this.control.signal);
      for (const row of page.agents) this.add(row);
      this.root.next = page.next;
      return page;
    } catch (error) {
      if (error.name !== "AbortError") {
        this.root.error = error;
        throw error;
      }
    } finally {
      this.root.loading = false;
      this.touch();
    }
  }

  /** Look again from the beginning; what is shown stays until there is something else to show. */
  async again() {
    if (this.root.loading || this.list.length > PAGE) return;
    const page = await this.load(this.query, null, PAGE, this.control.signal);
    if (this.root.loading || this.over) return;
    this.list = [];
    this.nodes.clear();
    for (const row of page.agents) this.add(row);
    this.root.next = page.next;
    this.touch();
  }

  add(row) {
    const known = this.nodes.get(row.path);
    if (known) {
      known.agent = row;
      return;
    }
    const one = node(row.path, 1, null);
    one.name = row.path;
    one.agent = row;
    this.nodes.set(row.path, one);
    this.list.push(one);
  }

  open() {}
  close() {}
  async reveal(path) {
    return this.nodes.get(path) ?? null;
  }

  spawned(news) {
    const { contains, status, resident } = this.query;
    if (status || resident) return;
    let more = false;
    for (const { path, kind, at } of news) {
      if (!(path.includes(contains) || kind.includes(contains)) || this.nodes.has(path)) continue;
      if (this.root.next && path > this.root.next) continue;
      this.add(newRow(path, kind, at));
      more = true;
    }
    if (more) {
      this.list.sort(byName);
      this.touch();
    }
  }

  closed(paths) {
    if (this.query.status === "closed") return;
    for (const path of paths) this.remove(path);
    this.touch();
  }

  remove(path) {
    const one = this.nodes.get(path);
    if (!one) return;
    this.nodes.delete(path);
    this.list = this.list.filter((other) => other !== one);
    this.flat = null;
  }
}

