// Numbers and times as people read them. Seconds everywhere, since the epoch where a moment is meant.

let offset = 0;

/** The server says what time it is there. */
export function setClock(serverNow) {
  offset = serverNow - Date.now() / 1000;
}

/** Now, by the server's clock. */
export const now = () => Date.now() / 1000 + offset;

const GROUPS = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** 12,345 */
export const count = (number) => GROUPS.format(number);

/** 0, 0.4, 12, 1,234 */
export function rate(number) {
  if (number === 0) return "0";
  return number < 9.95 ? number.toFixed(1) : count(Math.round(number));
}

/** How long something took: 0.4 ms, 12 ms, 1.24 s, 3 min 20 s, 5 h 3 min, 2 d 4 h */
export function took(seconds) {
  const s = Math.max(0, seconds);
  if (s < 0.00995) return `${(s * 1000).toFixed(1)} ms`;
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 9.995) return `${s.toFixed(2)} s`;
  if (s < 59.95) return `${s.toFixed(1)} s`;
  return long(s);
}

/** How long something has gone on, in whole units: 4 s, 3 min 20 s, 5 h, 2 d */
export function since(moment) {
  const s = Math.max(0, now() - moment);
  return s < 60 ? `${Math.floor(s)} s` : long(s);
}

function long(s) {
  if (s < 3600) return two(s, 60, "min", 1, "s");
  if (s < 86400) return two(s, 3600, "h", 60, "min");
  return two(s, 86400, "d", 3600, "h");
}

function two(s, large, largeName, small, smallName) {
  const first = Math.floor(s / large);
  const second = Math.floor((s % large) / small);
  return second ? `${first} ${largeName} ${second} ${smallName}` : `${first} ${largeName}`;
}

/** 14:03:22, with the date if it is another day's */
export function clock(moment) {
  const date = new Date(moment * 1000);
  const time = date.toLocaleTimeString("en-GB");
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })} ${time}`;
}

export const exactly = (moment) => new Date(moment * 1000).toISOString();

/** "1 run", "3 runs" */
export const many = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

const ORDINALS = { one: "st", two: "nd", few: "rd", other: "th" };
const RULES = new Intl.PluralRules("en", { type: "ordinal" });
export const nth = (number) => `${count(number)}${ORDINALS[RULES.select(number)]}`;

export const nameOf = (path) => path.slice(path.lastIndexOf("/") + 1);
export const parentOf = (path) => path.slice(0, path.lastIndexOf("/")) || "/";

/** The first characters of a run's id: enough to tell one from another. */
export const short = (id) => (id.length > 12 ? `${id.slice(0, 10)}…` : id);
