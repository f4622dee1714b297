// The page: which runs write, what they are asked, and branching off at a token.

import { listModels, Refusal, write } from "./api.js";
import { Column, percent, shown } from "./column.js";

const $ = (id) => document.getElementById(id);
const SLIDERS = [
  { id: "temperature", name: "Temperature", max: 2, step: 0.05, value: 0.8 },
  { id: "top_p", name: "Top p", min: 0.01, max: 1, step: 0.01, value: 1 },
  { id: "top_k", name: "Top k (0: all)", max: 100, step: 1, value: 0 },
  { id: "min_p", name: "Min p", max: 0.5, step: 0.01, value: 0 },
];
const columns = new Map(); // By run, for those that are chosen.
let models = [];
let messages = []; // What persons said, to runs that chat; each run's own answers lie in `answers`.
let answers = new Map();
let running = null; // An AbortController while something writes.
let last = null; // What was asked last.

function tell(text, problem = false) {
  $("status").textContent = text;
  $("status").classList.toggle("problem", problem);
}

function settings() {
  const asked = Object.fromEntries(SLIDERS.map(({ id }) => [id, Number($(id).value)]));
  asked.max_tokens = Number($("tokens").value) || 200;
  if ($("seed").value !== "") asked.seed = Number($("seed").value);
  if ($("stops").value) asked.stop = [$("stops").value.replaceAll("\\n", "\n")];
  return asked;
}

function conversation(model) {
  const said = answers.get(model.id) ?? [];
  const system = $("system").value ? [{ role: "system", content: $("system").value }] : [];
  const turns = messages.flatMap((text, n) => [
    { role: "user", content: text },
    ...(said[n] === undefined ? [] : [{ role: "assistant", content: said[n] }]),
  ]);
  return [...system, ...turns];
}

// Let columns write. `from` is a column's ids to go on from, where one was branched off.
async function run(chosen, { said = null, from = null } = {}) {
  await quiet();
  const mine = (running = new AbortController());
  let settled;
  mine.settled = new Promise((resolve) => (settled = resolve));
  busy(true);
  tell("Writing …");
  const results = await Promise.allSettled(chosen.map((column) => one(column, said, from, mine.signal)));
  settled();
  running = null;
  busy(false);
  const failed = results.find((result) => result.status === "rejected" && result.reason.name !== "AbortError");
  tell(failed ? failed.reason.message : mine.signal.aborted ? "Stopped." : "", Boolean(failed));
  if (failed?.reason instanceof Refusal && failed.reason.status === 401) askForKey();
  if (failed && said !== null && results.every((result) => result.status === "rejected")) takeBack(said, chosen);
}

// Stop what writes, and wait until it has put its answer away.
async function quiet() {
  running?.abort();
  await running?.settled;
}

// What was refused was never said.
function takeBack(said, chosen) {
  if (!chosen.some((column) => column.model.chats)) return;
  messages.pop();
  for (const column of chosen) {
    column.takeBack();
    column.takeBack();
    forgetLast(column, messages.length);
  }
  $("prompt").value ||= said;
}

// Leave so many of a run's answers.
function forgetLast({ model }, keep) {
  answers.set(model.id, (answers.get(model.id) ?? []).slice(0, keep));
}

async function one(column, said, from, signal) {
  const { model } = column;
  const asked = settings();
  if (model.chats) Object.assign(asked, { messages: conversation(model), ...(from && { answer_ids: from.map((token) => token.id) }) });
  else asked.prompt = from ? from.map((token) => token.id).slice(-model.context) : last.prompt;
  const kept = model.chats && from ? from : [];
  if (from && model.chats) column.takeBack();
  column.begin(said);
  column.add(kept);
  let finish = "cancelled";
  let length = column.answer.length;
  try {
    for await (const part of write(model, asked, $("key").value, signal)) {
      column.add(part.tokens);
      length += part.text.length;
      finish = part.finish ?? finish;
    }
    if (finish === "stop") column.trim(length);
  } finally {
    column.end(finish);
    if (model.chats) answers.set(model.id, [...(answers.get(model.id) ?? []).slice(0, messages.length - 1), column.answer]);
  }
}

function busy(is) {
  $("stop").hidden = !is;
  $("send").hidden = is;
  $("again").disabled = is || !last;
  $("new").disabled = is || !last;
}

async function send() {
  await quiet();
  const text = $("prompt").value;
  const chosen = [...columns.values()];
  if (!chosen.length) return tell("Choose a run.", true);
  last = { prompt: text };
  if (chosen.some((column) => column.model.chats)) {
    if (!text.trim()) return tell("Say something.", true);
    messages.push(text);
    $("prompt").value = "";
  }
  run(chosen, { said: text });
}

function again() {
  closeCandidates();
  for (const column of columns.values()) {
    if (!column.model.chats) continue;
    column.takeBack();
    forgetLast(column, messages.length - 1);
  }
  run([...columns.values()]);
}

function anew() {
  messages = [];
  answers = new Map();
  last = null;
  for (const column of columns.values()) column.clear();
  busy(false);
  $("prompt").focus();
}

function askForKey() {
  $("key-field").hidden = false;
  $("settings").open = true;
  $("key").focus();
}

// What else could have come at a token; choosing one goes on from there.
function openCandidates(column, index, span) {
  const token = column.tokens[index];
  const box = $("candidates");
  const note = document.createElement("p");
  note.textContent = token.likely.length ? "Instead of it; choosing one goes on from there:" : "The first token has no chances.";
  const buttons = token.likely.map((other) => {
    const button = document.createElement("button");
    button.type = "button";
    button.style.setProperty("--share", other.chance.toFixed(3));
    button.append(Object.assign(document.createElement("code"), { textContent: shown(other.name) }), percent(other.chance));
    if (other.id === token.id) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => branch(column, index, other));
    return button;
  });
  box.replaceChildren(note, ...buttons);
  box.hidden = false;
  const at = span.getBoundingClientRect();
  box.style.left = `${Math.max(8, Math.min(at.left, innerWidth - box.offsetWidth - 8)) + scrollX}px`;
  const below = at.bottom + 6 + box.offsetHeight < innerHeight;
  box.style.top = `${(below ? at.bottom + 6 : Math.max(8, at.top - box.offsetHeight - 6)) + scrollY}px`;
  box.column = column;
  buttons[0]?.focus({ preventScroll: true });
}

function closeCandidates() {
  const box = $("candidates");
  if (box.hidden) return false;
  box.hidden = true;
  box.column?.text.focus({ preventScroll: true });
  return true;
}

async function branch(column, index, other) {
  closeCandidates();
  await quiet();
  forgetLast(column, messages.length - 1);
  const from = [...column.tokens.slice(0, index), { ...column.tokens[index], ...other }];
  run([column], { from });
}

function choose(model, is) {
  if (is) {
    const column = new Column(model, openCandidates);
    columns.set(model.id, column);
  } else {
    columns.get(model.id)?.element.remove();
    columns.delete(model.id);
  }
  $("columns").replaceChildren(...models.filter((one) => columns.has(one.id)).map((one) => columns.get(one.id).element));
  const chats = [...columns.values()].some((column) => column.model.chats);
  $("prompt-label").textContent = chats ? "What you say" : "The text to go on from";
  $("send").textContent = chats ? "Say" : "Write";
  $("system-field").hidden = !chats;
}

async function start() {
  try {
    models = await listModels($("key").value);
  } catch (error) {
    if (error.status === 401) askForKey();
    return tell(error.message, true);
  }
  $("models").append(
    ...models.map((model, n) => {
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: n === 0 });
      box.addEventListener("change", () => choose(model, box.checked));
      label.append(box, ` ${model.id}`);
      return label;
    }),
  );
  choose(models[0], true);
  $("prompt").focus();
}

$("sliders").append(
  ...SLIDERS.map(({ id, name, min = 0, max, step, value }) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { id, type: "range", min, max, step });
    const output = Object.assign(document.createElement("output"), { htmlFor: id });
    input.value = value;
    const show = () => (output.textContent = input.value);
    input.addEventListener("input", show);
    show();
    label.append(name, output, input);
    return label;
  }),
);
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    send();
  }
});
$("stop").addEventListener("click", () => running?.abort());
$("again").addEventListener("click", again);
$("new").addEventListener("click", anew);
$("key").addEventListener("change", () => models.length || start());
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !closeCandidates()) running?.abort();
});
addEventListener("pointerdown", (event) => {
  if (!event.target.closest("#candidates, .token")) closeCandidates();
});
start();
