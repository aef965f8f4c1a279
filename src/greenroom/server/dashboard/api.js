// The server's addresses: requests with the token, and refusals as errors that say what to do.

const KEPT = "greenroom.token";

/** What the server says no with (RFC 9457). */
export class Problem extends Error {
  constructor(status, body, after) {
    super(body.detail || body.title || `the server answered ${status}`);
    this.status = status;
    this.name = String(body.type ?? "").split(":").pop();
    this.after = after; // seconds until asking again may help
  }
}

/** Nobody answers. */
export class Unreachable extends Error {
  constructor() {
    super("The server does not answer.");
    this.status = 0;
  }
}

function storage(use) {
  try {
    return use(localStorage);
  } catch {
    return null; // a browser that keeps nothing: the token lives as long as the page
  }
}

let token = null;

/** Take the token out of the address that `greenroom serve` shows, and out of the page's history; is there one? */
export function takeToken() {
  const found = /[#&]token=([^&]+)/.exec(location.hash);
  if (found) {
    setToken(decodeURIComponent(found[1]));
    history.replaceState(null, "", `${location.pathname}#/`);
  } else token = storage((kept) => kept.getItem(KEPT));
  return Boolean(token);
}

export function setToken(value) {
  token = value;
  storage((kept) => (value ? kept.setItem(KEPT, value) : kept.removeItem(KEPT)));
}

/** The headers of every request. */
export const headers = (more) => ({ ...(token ? { Authorization: `Bearer ${token}` } : {}), ...more });

/** The address of an agent's resource; "self" is the agent, and right whatever it is called. */
export const ofAgent = (path, resource = "self") => `api/agents${path}/${resource}`;
export const ofRun = (id) => `api/runs/${encodeURIComponent(id)}`;

/** `{a: 1, b: [2, 3]}` as a query; what is undefined or null is left out. */
export function withQuery(address, query) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const one of [value].flat()) if (one !== undefined && one !== null) found.append(name, one);
  }
  return found.size ? `${address}?${found}` : address;
}

/** An answer that is not a refusal. */
export async function fetched(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, { cache: "no-store", redirect: "error", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable();
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, body, Number(answer.headers.get("retry-after")) || null);
}

export async function get(address, query, signal) {
  const answer = await fetched(withQuery(address, query), { headers: headers(), signal });
  return answer.json();
}

export async function post(address, body, more) {
  const told = body === undefined ? {} : { body: JSON.stringify(body) };
  const type = body === undefined ? {} : { "Content-Type": "application/json" };
  const answer = await fetched(address, { method: "POST", headers: headers({ ...type, ...more }), ...told });
  return answer.json();
}
