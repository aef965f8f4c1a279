// What the buttons do: one request each, and a word about what came of it.

import * as api from "./api.js";
import { askForText, askToSpawn, askWhetherSure, toast } from "./dialogs.js";
import { nameOf } from "./format.js";

const TAKES = "JSON, or a text as it stands. Ctrl+Enter sends.";

export const acts = {
  run: (path) =>
    askForText(
      {
        title: `Give ${nameOf(path)} a run`,
        why: `It is accepted at once and executed in its turn. ${TAKES}`,
        what: "Input",
        button: "Run",
      },
      (input) => api.post(api.ofAgent(path, "runs"), { input }),
    ),

  message: (path) =>
    askForText(
      {
        title: `Send ${nameOf(path)} a message`,
        why: `It is read at the agent's next turn, and starts none. ${TAKES}`,
        what: "Message",
        button: "Send",
        needed: true,
      },
      async (body) => {
        await api.post(api.ofAgent(path, "messages"), { body });
        toast(`${path} has the message in its inbox.`);
      },
    ),

  async interrupt(path, { below }) {
    const go = async (cascade) => {
      const { interrupted } = await api.post(api.ofAgent(path, "interrupt"), { cascade });
      toast(interrupted ? `${path} is interrupted.` : `${path} has no run to interrupt.`);
    };
    if (!below) return passing(() => go(false));
    await askWhetherSure(
      {
        title: `Interrupt ${nameOf(path)}?`,
        why: `What ${path} does now, and all runs that wait for it, end as interrupted. The agent stays.`,
        button: "Interrupt",
        cascade: "and the runs of all agents below it",
      },
      go,
    );
  },

  evict: (path) =>
    passing(async () => {
      const { evicted } = await api.post(api.ofAgent(path, "evict"));
      if (evicted === null) toast(`${path} is on its way out of memory.`);
      else toast(evicted ? `${path} is out of memory.` : `${path} stays: it is at work, pinned, or not in memory.`);
    }),

  close: (path) =>
    askWhetherSure(
      {
        title: `Close ${nameOf(path)} for good?`,
        why:
          `${path} and all agents below it end: their runs are interrupted, their paths are free again. ` +
          "This cannot be undone.",
        button: "Close for good",
      },
      async () => {
        await api.post(api.ofAgent(path, "close"));
        toast(`${path} is closed.`);
      },
    ),
};

/** Ask for an agent and make it; its path, or null. */
export async function spawn(kinds, near) {
  let made = null;
  await askToSpawn(kinds, near, async ({ kind, path, config, input }) => {
    const body = { kind, path };
    if (config.given) body.config = config.value;
    if (input.given) body.input = input.value;
    made = (await api.post("api/agents", body)).path;
  });
  return made;
}

async function passing(work) {
  try {
    await work();
  } catch (error) {
    toast(error.message, { bad: true });
  }
}
