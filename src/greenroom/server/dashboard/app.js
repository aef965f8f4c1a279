// The dashboard: one stream of events, and what each part of the page makes of it.

import { acts, spawn } from "./acts.js";
import { AgentPanel } from "./agent.js";
import * as api from "./api.js";
import { askForToken, isOpen, showHelp, toast } from "./dialogs.js";
import { $, calmly, h, say, set } from "./dom.js";
import { Figures } from "./figures.js";
import { count, parentOf, setClock, since } from "./format.js";
import { Now } from "./now.js";
import { Pace } from "./plots.js";
import { OF_RUNS } from "./runs.js";
import { Stream, past } from "./stream.js";
import { Found, Tree } from "./tree.js";
import { TreeView } from "./treeview.js";
import { legend } from "./words.js";

const HEARD = ["agent.*", "message.accepted", ...OF_RUNS, "store.*"]; // progress is asked for where it is shown
const BEFORE = 4_000; // events of the past that the plots begin with
const TOO_MANY = 20_000; // events that are not caught up with one by one
const HIDDEN = 60_000; // milliseconds out of sight after which the page stops listening
const ENOUGH = 200; // agents that a search finds before it waits to be asked for more
const MOST_ADDRESS = 6_000; // characters of paths in one request

const FILTERS = [
  ["All", {}],
  ["At work", { status: "running" }],
  ["Waiting", { status: "queued" }],
  ["In memory", { resident: true }],
  ["Failed", { status: "failed" }],
  ["Closed", { status: "closed" }],
];

const pace = new Pace();
const figures = new Figures(pace);
const nowPanel = new Now();
const view = new TreeView($("tree"), { chosen: (node) => go(node.path), wanted: (parent) => load(parent) });
const stream = new Stream({ query: { type: HEARD }, told: hear, state: showLink });

let tree = null; // the whole one
let listing = null; // what is shown: that, or what was found
let panel = null; // the agent that is chosen
let filter = {};
let kinds = [];
let known = null; // agents, as the server counts them
let mayCount = true;
let begun = 0; // connections that were begun: an older one that answers late is not listened to

// Listening

async function begin() {
  const mine = ++begun;
  stream.stop();
  showLink("connecting");
  try {
    await loadStats({ strict: true });
    const fresh = new Tree((under, after, limit) => api.get("api/tree", { under, after, limit }), drawn);
    const page = await fresh.loadMore(fresh.root);
    if (mine !== begun) return;
    const opened = [...(tree?.nodes.values() ?? [])].filter((node) => node.open && node.path !== "/").map((node) => node.path);
    if (tree) tree.over = true;
    tree = fresh;
    for (const path of opened.slice(0, 50)) {
      const node = tree.nodes.get(path);
      if (node?.below) tree.open(node);
    }
    choose();
    const query = { type: HEARD, since: Math.max(0, page.last_event - BEFORE) };
    const before = (await past(query)).filter((event) => event.seq <= page.last_event);
    if (mine !== begun) return;
    pace.accepted.clear();
    pace.seconds.clear();
    pace.add(before);
    nowPanel.recent = [];
    nowPanel.add(before);
    stream.start(page.last_event);
    route({ again: true });
  } catch (error) {
    if (mine !== begun) return;
    if (error.status === 401) return denied();
    showLink("waiting", 2);
    setTimeout(() => mine === begun && begin(), Math.max(2_000, (error.after ?? 0) * 1000));
  }
}

let hadToken = false;
async function denied() {
  stream.stop();
  showLink("denied");
  await askForToken(hadToken, async (token) => {
    api.setToken(token);
    hadToken = true;
  });
  begin();
}

/** A portion of events, in their order. */
function hear(events) {
  if (events.some((event) => event.type === "stream.missed")) return begin();
  pace.add(events);
  nowPanel.add(events);
  let spawned = [];
  let busy = false;
  for (const event of events) {
    const { type, path, at, data } = event;
    if (type === "agent.spawned") spawned.push({ path, kind: data.kind, at });
    else if (type === "agent.closed" || type === "agent.deleted") {
      tellSpawned(spawned);
      spawned = [];
      for (const one of new Set([tree, listing])) one.closed([path]);
    } else if (type === "store.failing") trouble(data.problem ?? "the disk fails");
    else if (type === "store.healed") trouble(null);
    for (const one of new Set([tree, listing])) {
      const node = one.nodes.get(path);
      if (node) node.stale = true;
    }
    busy ||= type !== "message.accepted";
  }
  tellSpawned(spawned);
  if (busy) statsSoon();
  if (busy && listing !== tree && (filter.status || filter.resident)) listAgain();
  refreshRows();
  if (panel) {
    const mine = events.filter((event) => event.path === panel.path);
    if (mine.length) panel.add(mine);
  }
}

function tellSpawned(news) {
  if (!news.length) return;
  for (const one of new Set([tree, listing])) one.spawned(news);
  if (panel && news.some(({ path }) => path === panel.path)) reveal(panel.path);
}

const LINKS = { connecting: "connecting", live: "live", denied: "needs a token" };
function showLink(state, seconds) {
  const link = $("link");
  const before = link.dataset.state;
  set(link, "data-state", state);
  say(link, LINKS[state] ?? (seconds > 1.5 ? `no connection, again in ${Math.round(seconds)} s` : "no connection"));
  if (state === "denied" && before !== "denied" && tree) denied();
  if (state === "live" && before !== "live") {
    statsSoon();
    nowPanel.refresh();
    panel?.refresh();
    refreshRows();
  }
}

function trouble(problem) {
  $("trouble").hidden = !problem;
  say($("trouble"), problem ? `Nothing can be written: ${problem}` : "");
}

// Numbers

async function loadStats({ strict = false } = {}) {
  if (!mayCount && !strict) return;
  try {
    const stats = await api.get("api/stats");
    setClock(stats.server.now);
    kinds = stats.server.kinds;
    known = stats.agents;
    figures.stats(stats);
    trouble(stats.store_problem);
    tellCount();
    return stats;
  } catch (error) {
    if (error.status === 403) {
      mayCount = false;
      figures.withoutStats();
    } else if (strict) throw error;
  }
}

const statsSoon = calmly(() => !document.hidden && loadStats(), 500);

function tellCount() {
  if (!listing) return;
  if (listing === tree) return say($("counted"), known === null ? "" : count(known));
  const plus = listing.root.next === null ? "" : "+";
  say($("counted"), `${count(listing.list.length)}${plus} found`);
}

// The list on the left

function drawn() {
  view.draw();
  tellCount();
  refreshRows();
}

/** Show the tree, or what the search and the filter find. */
function choose() {
  const contains = $("search").value.trim();
  if (listing && listing !== tree) listing.end();
  const whole = !contains && !filter.status && !filter.resident;
  listing = whole ? tree : new Found(find, { contains, ...filter }, drawn);
  view.show(listing);
  if (!whole) load(listing.root);
  view.select(panel?.path ?? null);
  tellCount();
}

function find({ contains, ...query }, after, limit, signal) {
  return api.get("api/agents", { contains: contains || null, ...query, after, limit }, signal);
}

async function load(parent) {
  try {
    const at = listing;
    await at.loadMore(parent);
    // a search looks at so many agents at a time: it goes on until there is something to show
    while (at.query?.contains && !at.over && at.root.next !== null && at.list.length < ENOUGH) await at.loadMore();
  } catch (error) {
    if (error.status === 401) denied();
  }
}

const listAgain = calmly(() => listing !== tree && listing.again().catch(() => {}), 1_000);

/** Bring what is in sight up to date. */
const refreshRows = calmly(async () => {
  if (!listing || document.hidden) return;
  const asked = [];
  let length = 0;
  for (const node of view.inSight()) {
    if (!node.stale || !(node.agent || node.children === null)) continue;
    length += node.path.length + 18;
    if (length > MOST_ADDRESS || asked.length === 200) break;
    asked.push(node.path);
  }
  if (!asked.length) return;
  const [at, whole] = [listing, tree];
  try {
    for (const path of asked) at.nodes.get(path).stale = false;
    const { agents } = await api.get("api/rows", { path: asked });
    at.update(agents, asked);
    if (whole !== at) whole.update(agents, asked.filter((path) => whole.nodes.has(path)));
  } catch {
    for (const path of asked) {
      const node = at.nodes.get(path);
      if (node) node.stale = true;
    }
  }
}, 350);

$("filters").append(
  ...FILTERS.map(([text, query], n) => {
    const button = h("button", { type: "button", class: "chip", "aria-pressed": String(n === 0) }, text);
    button.addEventListener("click", () => {
      filter = query;
      for (const other of $("filters").children) set(other, "aria-pressed", String(other === button));
      choose();
    });
    return button;
  }),
);

let typing = null;
$("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(choose, 180);
});
$("search").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "Enter") {
    event.preventDefault();
    $("tree").focus();
    if (!view.focused && view.lines[0]?.node) view.focus(view.lines[0].node.path);
  } else if (event.key === "Escape") {
    event.stopPropagation();
    if ($("search").value) {
      $("search").value = "";
      choose();
    } else $("tree").focus();
  }
});

// The right side

const go = (path) => (location.hash = path ? `#${path}` : "#/");

function route({ again = false } = {}) {
  if (/^#token=/.test(location.hash)) {
    api.takeToken();
    hadToken = true;
    return begin();
  }
  const path = decodeURI(location.hash.slice(1));
  const chosen = /^\/[a-z0-9]/.test(path) ? path : null;
  if (!again && (panel?.path ?? null) === chosen && $("detail").children.length) return;
  if (panel?.path !== chosen || again) panel?.end();
  document.body.dataset.view = chosen ? "agent" : "now";
  document.title = chosen ? `${chosen} · greenroom` : "greenroom";
  nowPanel.show(!chosen);
  panel = chosen ? new AgentPanel(chosen, { act, last: () => Number(stream.last ?? 0) }) : null;
  $("detail").replaceChildren(panel?.element ?? nowPanel.element);
  $("detail").scrollTop = 0;
  view.select(chosen);
  if (chosen) reveal(chosen);
}

async function reveal(path) {
  const at = listing;
  if (!at) return;
  try {
    const node = await at.reveal(path);
    if (node && at === listing && panel?.path === path) view.focus(node.path);
  } catch {
    // the agent's own panel says what is wrong
  }
}

async function act(name, path) {
  try {
    await acts[name](path, { below: Boolean(tree?.nodes.get(path)?.below) });
  } catch (error) {
    toast(error.message, { bad: true });
  }
}

async function spawnOne() {
  const near = panel ? `${parentOf(panel.path) === "/" ? panel.path : parentOf(panel.path)}/` : "/";
  const path = await spawn(kinds, near);
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

const KEYS = {
  "/": () => $("search").select(),
  t: () => $("tree").focus(),
  n: spawnOne,
  d: switchTheme,
  "?": () => showHelp(legend()),
  r: () => panel && act("run", panel.path),
  m: () => panel && act("message", panel.path),
  i: () => panel && act("interrupt", panel.path),
  e: () => panel && act("evict", panel.path),
  x: () => panel && act("close", panel.path),
  Escape: () => go(null),
};

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.isComposing || isOpen()) return;
  if (event.target.closest("input, textarea, select")) return;
  if (!Object.hasOwn(KEYS, event.key)) return;
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
window.addEventListener("hashchange", () => route());
window.addEventListener("online", () => stream.hurry());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("tree").focus();
});

let away = null;
document.addEventListener("visibilitychange", async () => {
  clearTimeout(away);
  if (document.hidden) {
    away = setTimeout(() => {
      away = null;
      stream.stop();
    }, HIDDEN);
  } else if (away === null && stream.last !== null) {
    const stats = await loadStats();
    if (!stats || stats.server.last_event - Number(stream.last) > TOO_MANY) begin();
    else stream.start(stream.last);
  } else away = null;
});

setInterval(() => {
  if (document.hidden) return;
  figures.tick();
  for (const element of document.querySelectorAll("[data-since]")) {
    say(element, since(Number(element.dataset.since)));
  }
}, 1_000);
setInterval(() => {
  if (document.hidden || !tree) return;
  loadStats();
  nowPanel.refresh();
}, 4_000);

api.takeToken();
nowPanel.show(true);
$("detail").append(nowPanel.element);
figures.tick();
begin();
