// What happened second by second, and small plots of it in SVG.

import { set, svg } from "./dom.js";
import { now } from "./format.js";

export const SPAN = 120; // seconds that a plot shows
const WIDTH = 240;
const HEIGHT = 44;
const REMEMBERED = 20_000; // runs that have begun and not ended, of which their beginning is known

const NOTHING = Object.freeze({ well: 0, badly: 0, took: [] });

/** Runs by the second in which they ended: how many, how many not well, and how long they took. */
export class Pace {
  constructor() {
    this.since = Math.floor(now()); // from here on, or from the first event, all is known
    this.seconds = new Map();
    this.accepted = new Map();
  }

  /** Begin anew, with these. */
  begin(events) {
    this.seconds.clear();
    this.accepted.clear();
    this.add(events);
  }

  /** Take note of events, in their order. */
  add(events) {
    for (const event of events) {
      const { type, run_id: id, at } = event;
      if (type === "run.accepted") {
        this.accepted.set(id, at);
        if (this.accepted.size > REMEMBERED) this.accepted.delete(this.accepted.keys().next().value);
      } else if (type === "run.completed" || type === "run.failed" || type === "run.interrupted") {
        const second = this.second(Math.floor(at));
        if (type === "run.completed") second.well += 1;
        else second.badly += 1;
        const begun = this.accepted.get(id);
        this.accepted.delete(id);
        if (begun !== undefined && second.took.length < 1000) second.took.push(Math.max(0, at - begun));
      }
    }
  }

  second(at) {
    let found = this.seconds.get(at);
    if (!found) {
      found = { well: 0, badly: 0, took: [] };
      this.seconds.set(at, found);
      for (const old of this.seconds.keys()) if (old < at - 2 * SPAN) this.seconds.delete(old);
    }
    return found;
  }

  /** The last seconds up to the one that is over, oldest first; null before anything is known. */
  last(span = SPAN) {
    const end = Math.floor(now());
    const known = Math.min(...this.seconds.keys(), this.since);
    return Array.from({ length: span }, (_, n) => {
      const second = end - span + n;
      return this.seconds.get(second) ?? (second < known ? null : NOTHING);
    });
  }
}

/** Of an ascending list: the value below which the share `q` lies. */
export const quantile = (ascending, q) => ascending[Math.round((ascending.length - 1) * q)];

/** A plot of one or two lines over the same seconds, with an area below the first. */
export class Plot {
  constructor(label, { second = false } = {}) {
    this.label = label;
    this.area = svg("path", { class: "area" });
    this.line = svg("path", { class: "curve" });
    this.other = second ? svg("path", { class: "curve other" }) : null;
    this.marks = svg("path", { class: "marks" });
    this.base = svg("path", { class: "base", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` });
    this.element = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", class: "plot" },
      this.base, this.area, this.other, this.line, this.marks,
    );
  }

  /** `values` and `others`: a number for each second or null; `marked`: seconds to be marked below. */
  draw(values, { others = [], marked = [], text, most }) {
    const all = [...values, ...others].filter((value) => value !== null);
    const highest = Math.max(most ?? 0, ...all, 1e-9);
    const x = (n) => ((n + 0.5) * WIDTH) / values.length;
    const y = (value) => HEIGHT - 1 - (value / highest) * (HEIGHT - 5);
    set(this.line, "d", path(values, x, y));
    set(this.area, "d", below(values, x, y));
    if (this.other) set(this.other, "d", path(others, x, y));
    set(this.marks, "d", marked.map((n) => `M${x(n).toFixed(1)} ${HEIGHT}v-5`).join("") || null);
    set(this.element, "aria-label", `${this.label}: ${text}`);
    return all.length ? highest : 0;
  }
}

function path(values, x, y) {
  let found = "";
  let drawn = false;
  values.forEach((value, n) => {
    if (value === null) {
      drawn = false;
      return;
    }
    const alone = !drawn && (values[n + 1] ?? null) === null;
    found += `${drawn ? "L" : "M"}${x(n).toFixed(1)} ${y(value).toFixed(1)}${alone ? "h0.01" : ""}`;
    drawn = true;
  });
  return found || null;
}

function below(values, x, y) {
  let found = "";
  let first = null;
  const end = (n) => (found += `L${x(n).toFixed(1)} ${HEIGHT}L${x(first).toFixed(1)} ${HEIGHT}Z`);
  values.forEach((value, n) => {
    if (value === null) {
      if (first !== null) end(n - 1);
      first = null;
      return;
    }
    found += `${first === null ? "M" : "L"}${x(n).toFixed(1)} ${y(value).toFixed(1)}`;
    first ??= n;
  });
  if (first !== null) end(values.length - 1);
  return found || null;
}

