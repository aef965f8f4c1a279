// Server-sent events by fetch, which unlike EventSource can send the token: read, kept alive, taken up again.

import { fetched, headers, withQuery } from "./api.js";

const SILENCE = 45_000; // milliseconds without a byte, a heartbeat included, after which a connection is dead
const SHORTEST = 300;
const LONGEST = 8_000; // milliseconds between two attempts

/** The events in a stream of bytes, as they come in. `told` gets those of each portion, and their last id. */
export async function read(body, told, alive = () => {}) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let id = null;
  let data = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    const events = [];
    for (const line of lines) {
      if (line === "") {
        if (data) events.push(JSON.parse(data));
        data = "";
      } else if (line.startsWith("data: ")) data += line.slice(6);
      else if (line.startsWith("id: ")) id = line.slice(4);
    }
    if (events.length) told(events, id);
  }
}

/** Events that have happened: those that a query of `/api/events` finds, oldest first. */
export async function past(query, signal) {
  const address = withQuery("api/events", { ...query, follow: false });
  const answer = await fetched(address, { headers: headers(), signal });
  const found = [];
  await read(answer.body, (events) => found.push(...events));
  return found.filter((event) => event.type !== "events.missed");
}

/**
 * All events of some types from a number on, over any number of connections.
 *
 * `told(events)` gets them in order, each once. `state(name, detail)` hears how the connection is doing:
 * "connecting", "live", "waiting" (with the seconds until the next attempt), "denied".
 */
export class Stream {
  constructor({ query, told, state }) {
    this.query = query;
    this.last = null;
    this.told = told;
    this.state = state;
    this.current = null;
    this.wait = SHORTEST;
    this.timer = null;
  }

  /** Begin after the event with number `seq`. */
  start(seq) {
    this.stop();
    this.last = String(seq);
    this.connect();
  }

  stop() {
    this.current?.abort();
    this.current = null;
    clearTimeout(this.timer);
  }

  /** Do not wait for the next attempt. */
  hurry() {
    if (this.timer === null || this.current) return;
    clearTimeout(this.timer);
    this.connect();
  }

  async connect() {
    const control = new AbortController();
    this.current = control;
    this.timer = null;
    this.state("connecting");
    let silence = null;
    const alive = () => {
      clearTimeout(silence);
      silence = setTimeout(() => control.abort(), SILENCE);
    };
    let problem = null;
    try {
      const answer = await fetched(withQuery("api/events", this.query), {
        headers: headers({ Accept: "text/event-stream", "Last-Event-ID": this.last }),
        signal: control.signal,
      });
      this.state("live");
      this.wait = SHORTEST;
      alive();
      await read(
        answer.body,
        (events, id) => {
          if (this.current !== control) return;
          if (id !== null) this.last = id;
          this.told(events);
        },
        alive,
      );
    } catch (error) {
      problem = error;
    }
    clearTimeout(silence);
    if (this.current !== control) return; // it was stopped, or begun anew
    this.current = null;
    if (problem?.status === 401) return this.state("denied");
    const pause = Math.max(this.wait * (0.7 + Math.random() * 0.6), (problem?.after ?? 0) * 1000);
    this.wait = Math.min(LONGEST, this.wait * 1.7);
    this.state("waiting", pause / 1000);
    this.timer = setTimeout(() => this.connect(), pause);
  }
}
