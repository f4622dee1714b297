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
let turns = []; // What a person said to runs that chat: {said, answers: run → text}.
let running = null; // {abort, settled} of what writes.
let last = null; // The prompt of runs that continue text.

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

// What a run has heard and answered, and the turn that it answers now.
function conversation(model, turn) {
  const before = turns.filter((one) => one !== turn && one.answers.has(model.id));
  return [
    ...($("system").value ? [{ role: "system", content: $("system").value }] : []),
    ...before.flatMap((one) => [
      { role: "user", content: one.said },
      { role: "assistant", content: one.answers.get(model.id) },
    ]),
    { role: "user", content: turn.said },
  ];
}

// Let columns write, after what writes now has stopped; whether any of them began. `from` holds a column's tokens to
// go on from, where one was branched off. The page shows at once that it writes, before anything is waited for.
async function run(chosen, from = null, turn = turns.at(-1)) {
  const before = running;
  const control = new AbortController();
  const work = (async () => {
    await before?.settled;
    return Promise.allSettled(chosen.map((column) => answer(column, turn, from, control.signal)));
  })();
  const mine = (running = { abort: () => control.abort(), settled: work });
  before?.abort();
  busy(true);
  tell("Writing …");
  const results = await work;
  const failed = results.find((result) => result.status === "rejected");
  if (running === mine) {
    running = null;
    busy(false);
    tell(failed ? failed.reason.message : control.signal.aborted ? "Stopped." : "", Boolean(failed));
    if (failed?.reason instanceof Refusal && failed.reason.status === 401) askForKey();
  }
  return results.some((result) => result.status === "fulfilled" || result.reason.began);
}

// One column's answer. A column changes when the first of it comes: what is refused takes nothing away.
async function answer(column, turn, from, signal) {
  const { model } = column;
  const asked = settings();
  if (model.chats) Object.assign(asked, { messages: conversation(model, turn), ...(from && { answer_ids: from.map((token) => token.id) }) });
  else asked.prompt = from ? from.map((token) => token.id).slice(-model.context) : last;
  let began = false;
  let length = 0;
  const begin = () => {
    if (began) return;
    began = true;
    column.begin(turn);
    if (model.chats) column.add(from ?? []);
    length = column.answer.length;
  };
  let finish = "cancelled";
  try {
    for await (const part of write(model, asked, $("key").value, signal)) {
      begin();
      column.add(part.tokens);
      length += part.text.length;
      finish = part.finish ?? finish;
    }
    if (finish === "stop") column.trim(length);
  } catch (error) {
    if (error.name !== "AbortError") throw Object.assign(error, { began });
    if (model.chats) begin();
  } finally {
    if (began) {
      column.end(finish);
      if (model.chats) turn.answers.set(model.id, column.answer);
    }
  }
}

function busy(is) {
  $("stop").hidden = !is;
  $("send").hidden = is;
  $("again").disabled = is || last === null;
  $("new").disabled = is || last === null;
}

async function send() {
  const said = $("prompt").value;
  const chosen = [...columns.values()];
  const chatting = chosen.filter((column) => column.model.chats);
  if (!chosen.length) return tell("Choose a run.", true);
  if (chatting.length && !said.trim()) return tell("Say something.", true);
  closeCandidates();
  last = said;
  if (!chatting.length) return run(chosen);
  const turn = { said, answers: new Map() };
  turns.push(turn);
  for (const column of chatting) column.hear(turn);
  $("prompt").value = "";
  if (await run(chosen)) return;
  // What no run has taken was never said, and comes back to be changed.
  turns = turns.filter((one) => one !== turn);
  for (const column of columns.values()) column.unhear(turn);
  $("prompt").value = [said, $("prompt").value].filter(Boolean).join("\n");
}

function again() {
  closeCandidates();
  run([...columns.values()].filter((column) => !column.model.chats || turns.length));
}

function anew() {
  turns = [];
  last = null;
  for (const column of columns.values()) column.clear();
  busy(false);
  tell("");
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

function branch(column, index, other) {
  closeCandidates();
  run([column], [...column.tokens.slice(0, index), { ...column.tokens[index], ...other }], column.turn);
}

const key = (name) => Object.assign(document.createElement("kbd"), { textContent: name });

function choose(model, is) {
  if (is) {
    const column = new Column(model, openCandidates);
    columns.set(model.id, column);
    if (model.chats) column.recall(turns);
  } else {
    columns.get(model.id)?.element.remove();
    columns.delete(model.id);
  }
  $("columns").replaceChildren(...models.filter((one) => columns.has(one.id)).map((one) => columns.get(one.id).element));
  const chats = [...columns.values()].some((column) => column.model.chats);
  $("prompt-label").textContent = chats ? "What you say" : "The text to go on from";
  $("send").textContent = chats ? "Say" : "Write";
  $("system-field").hidden = !chats;
  $("keys").replaceChildren(
    ...(chats ? [key("Enter"), " says, ", key("Shift"), " ", key("Enter"), " breaks the line"] : [key("Ctrl"), " ", key("Enter"), " writes"]),
    ", ",
    key("Esc"),
    " stops",
  );
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
  if (event.key !== "Enter" || event.isComposing) return; // While a word is composed, Enter ends the word.
  const chats = [...columns.values()].some((column) => column.model.chats);
  // A keyboard on glass has no Shift Enter.
  const says = chats && !event.shiftKey && !matchMedia("(pointer: coarse)").matches;
  if (event.ctrlKey || event.metaKey || says) {
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
