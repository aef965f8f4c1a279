// The figures at the top: slots, memory, what waits, runs per second, how long they take.

import { $, h, say, set } from "./dom.js";
import { count, many, rate, took } from "./format.js";
import { Plot, SPAN, quantile } from "./plots.js";

const CELLS = 24; // slots that are shown one by one

class Card {
  constructor(title, ...below) {
    this.value = h("span", { class: "value" }, "–");
    this.unit = h("span", { class: "unit quiet" });
    this.note = h("span", { class: "note quiet" });
    this.element = h(
      "article", { class: "card" },
      h("h2", {}, title),
      h("p", { class: "figure" }, this.value, " ", this.unit),
      ...below,
      this.note,
    );
  }
}

/** A bar of which a part is full. */
function meter(label) {
  const full = h("i");
  const element = h("div", { class: "meter", role: "meter", "aria-label": label, "aria-valuemin": 0 }, full);
  return {
    element,
    show(value, most) {
      set(element, "aria-valuenow", value);
      set(element, "aria-valuemax", most);
      full.style.setProperty("width", `${Math.min(100, (100 * value) / Math.max(1, most))}%`);
      element.classList.toggle("full", value >= most);
    },
  };
}

export class Figures {
  constructor(pace) {
    this.pace = pace;
    this.waits = [];
    this.cells = h("div", { class: "cells", role: "img" });
    this.slotMeter = meter("Slots taken");
    this.memoryMeter = meter("Agents in memory");
    this.waitPlot = new Plot("Runs that wait, in the last two minutes");
    this.pacePlot = new Plot("Runs per second, in the last two minutes");
    this.tookPlot = new Plot("From acceptance to the end, in the last two minutes", { second: true });
    this.slots = new Card("Slots", this.cells, this.slotMeter.element);
    this.memory = new Card("In memory", this.memoryMeter.element);
    this.waiting = new Card("Waiting", this.waitPlot.element);
    this.runs = new Card("Runs per second", this.pacePlot.element);
    this.latency = new Card("Accepted to ended", this.tookPlot.element);
    this.latency.note.classList.add("key-other");
    this.latency.unit.classList.add("key-first");
    this.mine = [this.slots, this.memory, this.waiting];
    $("figures").append(...[...this.mine, this.runs, this.latency].map((card) => card.element));
  }

  /** A token for one tree does not open the numbers of all. */
  withoutStats() {
    for (const card of this.mine) card.element.hidden = true;
    $("figures").classList.add("few");
  }

  /** The answer of `/api/stats`. */
  stats(stats) {
    const { slots, slots_taken: taken, residents, resident, queued, running, agents } = stats;
    say(this.slots.value, count(taken));
    say(this.slots.unit, `of ${count(slots)} taken`);
    say(this.slots.note, running > taken ? `${many(running - taken, "turn")} without a slot` : "");
    const few = slots <= CELLS;
    this.cells.hidden = !few;
    this.slotMeter.element.hidden = few;
    this.slotMeter.show(taken, slots);
    if (few) {
      while (this.cells.children.length < slots) this.cells.append(h("i"));
      while (this.cells.children.length > slots) this.cells.lastChild.remove();
      [...this.cells.children].forEach((cell, n) => {
        cell.classList.toggle("on", n < taken);
        set(cell, "title", n < taken ? (stats.holders[n] ?? null) : null);
      });
      set(this.cells, "aria-label", `${count(taken)} of ${count(slots)} slots are taken`);
    }
    say(this.memory.value, count(resident));
    say(this.memory.unit, `of ${count(residents)}`);
    this.memoryMeter.show(resident, residents);
    const waiting = stats.waiting ? `, ${many(stats.waiting, "turn")} waiting beside them` : "";
    say(this.memory.note, `${many(agents, "agent")} known${waiting}`);
    this.waits.push(queued);
    if (this.waits.length > SPAN / 2) this.waits.shift();
    say(this.waiting.value, count(queued));
    say(this.waiting.unit, queued === 1 ? "run" : "runs");
    const missing = Array(SPAN / 2 - this.waits.length).fill(null);
    const highest = this.waitPlot.draw([...missing, ...this.waits], { text: `${count(queued)} now`, most: 4 });
    say(this.waiting.note, `at most ${count(highest > 4 ? highest : Math.max(...this.waits))}`);
  }

  /** Once a second. */
  tick() {
    const seconds = this.pace.last();
    const ended = seconds.map((second) => second && second.well + second.badly);
    const marked = seconds.flatMap((second, n) => (second?.badly ? [n] : []));
    const recent = ended.slice(-10).reduce((sum, one) => sum + one, 0) / 10;
    const badly = seconds.reduce((sum, second) => sum + (second?.badly ?? 0), 0);
    const highest = Math.max(...ended);
    const text = `${rate(recent)} now, at most ${rate(highest)}, ${count(badly)} not completed`;
    this.pacePlot.draw(ended, { marked, text, most: 1 });
    say(this.runs.value, rate(recent));
    say(this.runs.unit, badly ? `${count(badly)} not completed` : "");
    this.runs.unit.classList.toggle("bad", badly > 0);
    say(this.runs.note, `at most ${rate(highest)}`);

    const sorted = seconds.map((second) => (second?.took.length ? [...second.took].sort((a, b) => a - b) : null));
    const medians = sorted.map((times) => times && quantile(times, 0.5));
    const slow = sorted.map((times) => times && quantile(times, 0.99));
    const all = sorted.flatMap((times) => times ?? []).sort((a, b) => a - b);
    if (all.length) {
      const [half, most] = [took(quantile(all, 0.5)), took(quantile(all, 0.99))];
      this.tookPlot.draw(medians, { others: slow, text: `half within ${half}, 99 of 100 within ${most}` });
      say(this.latency.value, half);
      say(this.latency.unit, "median");
      say(this.latency.note, `99 of 100 within ${most}`);
    } else {
      this.tookPlot.draw(medians, { others: slow, text: "no run ended" });
      say(this.latency.value, "–");
      say(this.latency.unit, "");
      say(this.latency.note, "no run ended lately");
    }
  }
}
