// A JSON value as a tree that opens level by level. What the server had to describe is shown as such.

import { h } from "./dom.js";
import { count } from "./format.js";

const MANY = 100; // entries that are shown at once
const LONG = 400; // characters of a text that are shown at once

/**
 * `value`, which stands at the pointer `stem`, for people. `described`: JSON pointers to descriptions.
 * `opened` remembers what was opened and closed by hand, for the next picture of the same value.
 */
export function json(value, { described = [], stem = "", open = 1, opened = new Map() } = {}) {
  const places = new Set(described);
  places.opened = opened;
  return h("div", { class: "json" }, show(value, stem, places, open));
}

/** A small value on one line; a larger one as a tree that is closed. */
export function brief(value) {
  const plain = (one) => one === null || typeof one !== "object";
  if (plain(value)) return json(value);
  const entries = Object.entries(value);
  const small = !Array.isArray(value) && entries.length <= 4 && entries.every(([, one]) => plain(one));
  if (!small) return json(value, { open: 0 });
  return h(
    "span", { class: "json brief" },
    entries.map(([key, one]) => h("span", {}, h("span", { class: "j-key" }, key), " ", show(one, "", new Set(), 0))),
  );
}

function show(value, at, places, open) {
  if (places.has(at)) return description(value, at, places, open);
  if (value === null) return h("span", { class: "j-null" }, "null");
  switch (typeof value) {
    case "string":
      return text(value);
    case "number":
      return h("span", { class: "j-number" }, String(value));
    case "boolean":
      return h("span", { class: "j-bool" }, String(value));
  }
  if (Array.isArray(value)) {
    const entries = value.map((one, n) => [n, one]);
    return branch(entries, "[", "]", at, places, open, (n) => h("span", { class: "j-index" }, String(n)));
  }
  return branch(Object.entries(value), "{", "}", at, places, open, (key) => h("span", { class: "j-key" }, key));
}

function text(value) {
  const shown = h("span", { class: "j-text" }, value.length > LONG ? value.slice(0, LONG) : value);
  if (value.length <= LONG) return shown;
  const more = h("button", { type: "button", class: "more" }, `… ${count(value.length - LONG)} characters more`);
  more.addEventListener("click", () => {
    shown.textContent = value;
    more.remove();
  });
  return h("span", {}, shown, more);
}

function branch(entries, left, right, at, places, open, label) {
  if (!entries.length) return h("span", { class: "j-null" }, left + right);
  const body = h("div", { class: "j-body" });
  const add = (from) => {
    for (const [key, value] of entries.slice(from, from + MANY)) {
      const below = `${at}/${String(key).replaceAll("~", "~0").replaceAll("/", "~1")}`;
      body.append(h("div", { class: "j-entry" }, label(key), show(value, below, places, open - 1)));
    }
    const left = entries.length - from - MANY;
    if (left <= 0) return;
    const more = h("button", { type: "button", class: "more" }, `${count(left)} more`);
    more.addEventListener("click", () => {
      more.remove();
      add(from + MANY);
    });
    body.append(more);
  };
  const what = `${left} ${count(entries.length)} ${right}`;
  const wide = places.opened.get(at) ?? open > 0;
  const details = h("details", { open: wide }, h("summary", {}, what), body);
  let filled = false;
  const fill = () => {
    if (filled) return;
    filled = true;
    add(0);
  };
  if (wide) fill();
  details.addEventListener("toggle", () => {
    fill();
    places.opened.set(at, details.open);
  });
  return details;
}

function description(value, at, places, open) {
  const shown = h("span", { class: "j-other", title: String(value.type) }, String(value.text));
  if (!value.fields) return shown;
  return h("span", {}, shown, show(value.fields, `${at}/fields`, places, open));
}
