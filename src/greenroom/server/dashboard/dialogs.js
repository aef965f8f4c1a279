// Dialogs: each asks, does what it was asked for, and stays open with the reason if that was refused.

import { $, h, say } from "./dom.js";

/** What somebody typed: JSON if it is JSON, else a text as it stands. Empty is nothing at all. */
export function typed(text) {
  const trimmed = text.trim();
  if (!trimmed) return { said: "", given: false };
  try {
    const value = JSON.parse(trimmed);
    return { said: `is sent as JSON (${kindOf(value)})`, given: true, value };
  } catch {
    const meant = /^[[{"]/.test(trimmed);
    return { said: meant ? "is no JSON, and is sent as text" : "is sent as text", given: true, value: text, meant };
  }
}

function kindOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "list";
  return typeof value === "string" ? "text" : typeof value;
}

for (const field of document.querySelectorAll("dialog textarea")) {
  field.addEventListener("input", () => {
    const found = typed(field.value);
    const said = field.parentElement.querySelector(".reads");
    say(said, found.said);
    said.classList.toggle("doubt", Boolean(found.meant));
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      field.form.requestSubmit(field.form.querySelector('button[value="ok"]'));
    }
  });
}

/** Show a dialog until it is given up or `done(form)` succeeds; whether it did. */
function show(dialog, done) {
  const form = dialog.querySelector("form");
  const wrong = dialog.querySelector(".wrong");
  const before = document.activeElement;
  if (wrong) wrong.hidden = true;
  for (const field of form.querySelectorAll("textarea")) field.dispatchEvent(new Event("input"));
  return new Promise((resolve) => {
    let succeeded = false;
    const submit = async (event) => {
      event.preventDefault();
      if (event.submitter && event.submitter.value !== "ok") return dialog.close();
      const buttons = form.querySelectorAll("menu button");
      for (const button of buttons) button.disabled = true;
      try {
        await done(form);
        succeeded = true;
        dialog.close();
      } catch (error) {
        if (wrong) {
          say(wrong, error.message);
          wrong.hidden = false;
        }
      } finally {
        for (const button of buttons) button.disabled = false;
      }
    };
    form.addEventListener("submit", submit);
    dialog.addEventListener(
      "close",
      () => {
        form.removeEventListener("submit", submit);
        if (before instanceof HTMLElement && before.isConnected) before.focus();
        resolve(succeeded);
      },
      { once: true },
    );
    dialog.showModal();
  });
}

export const isOpen = () => document.querySelector("dialog[open]") !== null;

/** Ask for the token; null if that is being asked already. */
export async function askForToken(wrong, take) {
  const dialog = $("ask-token");
  if (dialog.open) return null;
  const field = $("token");
  field.value = "";
  const asked = show(dialog, () => take(field.value.trim()));
  $("token-wrong").hidden = !wrong;
  return asked;
}

export function askToSpawn(kinds, path, spawn) {
  const dialog = $("ask-spawn");
  const form = dialog.querySelector("form");
  $("kinds").replaceChildren(...kinds.map((kind) => h("option", { value: kind })));
  if (!form.kind.value && kinds.length === 1) form.kind.value = kinds[0];
  form.path.value = path;
  form.input.value = form.config.value = "";
  return show(dialog, () =>
    spawn({
      kind: form.kind.value.trim(),
      path: form.path.value.trim(),
      config: typed(form.config.value),
      input: typed(form.input.value),
    }),
  );
}

/** Ask for a value: `take(value)` gets it. */
export function askForText({ title, why, what, button, needed }, take) {
  const dialog = $("ask-text");
  const form = dialog.querySelector("form");
  say($("text-title"), title);
  say(dialog.querySelector(".why"), why);
  say(dialog.querySelector(".what"), what);
  say(form.querySelector('button[value="ok"]'), button);
  form.input.value = "";
  form.input.required = needed;
  return show(dialog, () => {
    const found = typed(form.input.value);
    return take(found.given ? found.value : null);
  });
}

/** Ask whether it is meant: `go(cascade)` does it. */
export function askWhetherSure({ title, why, button, cascade }, go) {
  const dialog = $("ask-sure");
  const form = dialog.querySelector("form");
  say($("sure-title"), title);
  say(dialog.querySelector(".why"), why);
  say(form.querySelector('button[value="ok"]'), button);
  const check = form.querySelector(".check");
  check.hidden = !cascade;
  say(check.querySelector("span"), cascade ?? "");
  form.cascade.checked = false;
  return show(dialog, () => go(form.cascade.checked));
}

export function showHelp(legend) {
  $("legend").replaceChildren(...legend);
  return show($("show-help"), () => {});
}

/** Say something in passing. */
export function toast(text, { bad = false } = {}) {
  const note = h("p", { class: bad ? "toast bad" : "toast" }, text);
  $("toasts").append(note);
  while ($("toasts").children.length > 4) $("toasts").firstChild.remove();
  setTimeout(() => note.remove(), bad ? 9_000 : 4_500);
}
