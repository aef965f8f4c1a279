// The dashboard: one stream of events, and what each part of the page makes of it.

import { acts, spawn } from "./acts.js";
import { AgentPanel } from "./agent.js";
import * as api from "./api.js";
import { askForToken, isOpen, showHelp, toast } from "./dialogs.js";
import { $, calmly, say, set } from "./dom.js";
import { Figures } from "./figures.js";
import { parentOf, setClock, since } from "./format.js";
import { Left } from "./left.js";
import { Now } from "./now.js";
import { Pace } from "./plots.js";
import { OF_RUNS } from "./runs.js";
import { Stream, past } from "./stream.js";
import { legend } from "./words.js";

const HEARD = ["agent.*", "message.accepted", ...OF_RUNS, "store.*"]; // progress is asked for where it is shown
const BEFORE = 4_000; // events of the past that the plots begin with
const TOO_MANY = 20_000; // events that are not caught up with one by one
const HIDDEN = 60_000; // milliseconds out of sight after which the page stops listening
const AGAIN = 2_000; // milliseconds until the beginning is tried again

const pace = new Pace();
const figures = new Figures(pace);
const nowPanel = new Now();
const left = new Left({ chosen: go, denied });
const stream = new Stream({
  query: { type: HEARD },
  told: hear,
  state: (name, seconds) => (name === "denied" ? denied() : showLink(name, seconds)),
});

let panel = null; // the agent that is chosen
let kinds = [];
let mayCount = true; // the token opens the numbers of all
let hadToken = false;
let begun = 0; // how often it was begun: what an older beginning still waits for is not listened to

// Listening

async function begin() {
  const mine = ++begun;
  stream.stop();
  showLink("connecting");
  try {
    mayCount = true;
    await loadStats({ strict: true });
    const last = await left.begin();
    const before = await past({ type: HEARD, since: Math.max(0, last - BEFORE) });
    if (mine !== begun) return;
    const known = before.filter((event) => event.seq <= last); // the stream tells the others
    pace.begin(known);
    nowPanel.begin(known);
    stream.start(last);
    route({ again: true });
  } catch (error) {
    if (mine !== begun) return;
    if (error.status === 401) return denied();
    const pause = Math.max(AGAIN, (error.after ?? 0) * 1000);
    showLink("waiting", pause / 1000);
    setTimeout(() => mine === begun && begin(), pause);
  }
}

async function denied() {
  stream.stop();
  showLink("denied");
  const asked = await askForToken(hadToken, (token) => {
    api.setToken(token);
    hadToken = true;
  });
  if (asked !== null) begin();
}

/** A portion of events, in their order. */
function hear(events) {
  if (events.some((event) => event.type === "events.missed")) return begin();
  pace.add(events);
  nowPanel.add(events);
  left.add(events);
  for (const { type, data } of events) {
    if (type === "store.failing") trouble(data.problem ?? "the disk fails");
    else if (type === "store.healed") trouble(null);
  }
  statsSoon();
  const mine = panel ? events.filter((event) => event.path === panel.path) : [];
  if (mine.length) panel.add(mine);
}

const LINKS = { connecting: "connecting", live: "live", denied: "needs a token" };

function showLink(state, seconds) {
  const link = $("link");
  const before = link.dataset.state;
  set(link, "data-state", state);
  say(link, LINKS[state] ?? (seconds > 1.5 ? `no connection, again in ${Math.round(seconds)} s` : "no connection"));
  if (state === before) return;
  if (state === "live") {
    statsSoon();
    nowPanel.refresh();
    panel?.refresh();
    left.refresh();
  }
}

function trouble(problem) {
  $("trouble").hidden = !problem;
  say($("trouble"), problem ? `Nothing can be written: ${problem}` : "");
}

// Numbers

async function loadStats({ strict = false } = {}) {
  if (!mayCount) return null;
  try {
    const stats = await api.get("api/stats");
    setClock(stats.server.now);
    kinds = stats.server.kinds;
    figures.stats(stats);
    trouble(stats.store_problem);
    left.count(stats.agents);
    return stats;
  } catch (error) {
    if (error.status === 403) {
      mayCount = false;
      figures.withoutStats();
    } else if (strict) throw error;
    return null;
  }
}

const statsSoon = calmly(() => !document.hidden && loadStats(), 500);

// The right side

function go(path) {
  location.hash = path ?? "/";
}

function route({ again = false } = {}) {
  if (location.hash.startsWith("#token=")) {
    hadToken = api.takeToken();
    return begin();
  }
  const chosen = pathIn(location.hash);
  if (!again && (panel?.path ?? null) === chosen) return;
  panel?.end();
  document.body.dataset.view = chosen ? "agent" : "now";
  document.title = chosen ? `${chosen} · greenroom` : "greenroom";
  nowPanel.show(!chosen);
  panel = chosen ? new AgentPanel(chosen, { act, last: () => Number(stream.last ?? 0) }) : null;
  $("detail").replaceChildren(panel?.element ?? nowPanel.element);
  $("detail").scrollTop = 0;
  left.select(chosen);
}

/** The agent that an address names, or null. */
const pathIn = (hash) => (/^#(\/[a-z0-9][a-z0-9_-]*)+$/.test(hash) ? hash.slice(1) : null);

async function act(name, path) {
  try {
    await acts[name](path, { below: left.hasBelow(path) });
  } catch (error) {
    toast(error.message, { bad: true });
  }
}

async function spawnOne() {
  const near = panel && (parentOf(panel.path) === "/" ? panel.path : parentOf(panel.path));
  const path = await spawn(kinds, near ? `${near}/` : "/");
  if (path) go(path);
}

// Keys, theme, and the page's comings and goings

const THEMES = ["", "light", "dark"];

function switchTheme() {
  const root = document.documentElement;
  const theme = THEMES[(THEMES.indexOf(root.dataset.theme ?? "") + 1) % THEMES.length];
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
  try {
    if (theme) localStorage.setItem("greenroom.theme", theme);
    else localStorage.removeItem("greenroom.theme");
  } catch {
    // it lasts as long as the page
  }
  toast(theme ? `${theme === "light" ? "Light" : "Dark"}.` : "Light or dark as the system has it.");
}

const onPanel = (name) => () => panel && act(name, panel.path);

const KEYS = {
  "/": () => $("search").select(),
  t: () => $("tree").focus(),
  n: spawnOne,
  d: switchTheme,
  "?": () => showHelp(legend()),
  r: onPanel("run"),
  m: onPanel("message"),
  i: onPanel("interrupt"),
  e: onPanel("evict"),
  x: onPanel("close"),
  Escape: () => go(null),
};

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.isComposing) return;
  if (isOpen() || event.target.closest("input, textarea, select") || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});

$("spawn").addEventListener("click", spawnOne);
$("theme").addEventListener("click", switchTheme);
$("help").addEventListener("click", () => showHelp(legend()));
$("forget").addEventListener("click", () => {
  api.setToken(null);
  location.reload();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("tree").focus();
});
window.addEventListener("hashchange", () => route());
window.addEventListener("online", () => stream.hurry());

let away = null; // runs out when the page has been out of sight for long
let gone = false;
document.addEventListener("visibilitychange", async () => {
  clearTimeout(away);
  if (document.hidden) {
    away = setTimeout(() => {
      gone = stream.last !== null;
      stream.stop();
    }, HIDDEN);
  } else if (gone) {
    gone = false;
    const stats = await loadStats();
    if (!stats || stats.server.last_event - Number(stream.last) > TOO_MANY) begin();
    else stream.start(stream.last);
  }
});

setInterval(() => {
  if (document.hidden) return;
  figures.tick();
  for (const element of document.querySelectorAll("[data-since]")) {
    say(element, since(Number(element.dataset.since)));
  }
}, 1_000);
setInterval(() => {
  if (document.hidden || stream.last === null) return;
  loadStats();
  nowPanel.refresh();
}, 4_000);

hadToken = api.takeToken();
$("detail").append(nowPanel.element);
figures.tick();
begin();
