// The page: two answers side by side, a decision by key or button, and what the decisions tell so far.

import { request } from "./api.js";

const $ = (id) => document.getElementById(id);
const KEYS = { ArrowLeft: "left", 1: "left", ArrowRight: "right", 2: "right", 0: "tie", "=": "tie", s: "skip" };
const STAGES = { reward: "Train a reward model", dpo: "Tune the run by DPO" };
const ROLES = { system: "System", user: "User", assistant: "Assistant" };
const POLL = 1000; // Milliseconds between looks at a training that is under way.
let state = null;
let since = 0; // When the comparison was first shown.
let busy = false;

const element = (name, text = "", given = {}) => Object.assign(document.createElement(name), { textContent: text, ...given });
const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
const percent = (share) => `${Math.round(100 * share)}%`;

function tell(text, problem = false) {
  $("status").textContent = text;
  $("status").classList.toggle("problem", problem);
}

// Ask the server for something, and show the state that it answers with. One question is asked at a time.
async function turn(path, body) {
  if (busy) return;
  busy = true;
  document.body.classList.add("busy");
  const writing = setTimeout(() => tell("Writing …"), 150);
  try {
    const options = body ? { method: "POST", body: JSON.stringify(body) } : {};
    show(await (await request(path, "", options)).json());
    clearTimeout(writing);
    tell(state.problem, Boolean(state.problem));
  } catch (error) {
    clearTimeout(writing);
    tell(error.message, true);
    if (error.status === 409) await look();
  } finally {
    clearTimeout(writing);
    busy = false;
    document.body.classList.remove("busy");
    enable();
  }
  if (state?.writing) turn("/api/state");
}

// Look at the state once more, whatever else goes on.
async function look() {
  try {
    show(await (await request("/api/state", "")).json());
  } catch (error) {
    tell(error.message, true);
  }
}

function decide(choice) {
  if (busy || !state?.comparison) return;
  const seconds = (performance.now() - since) / 1000;
  turn("/api/decision", { number: state.comparison.number, choice, seconds });
}

function undo() {
  if (!busy && state?.next) turn("/api/undo", { number: state.next });
}

function enable() {
  for (const button of document.querySelectorAll(".choice, #skip")) button.disabled = !state?.comparison;
  $("undo").disabled = !state?.next;
}

function show(now) {
  const before = state?.comparison?.number;
  state = now;
  const { comparison, against, run } = state;
  $("question-asked").textContent = against ? `${run} and ${against}, blind: which answer is better?` : `${run}: which answer is better?`;
  $("comparison").hidden = !comparison;
  if (comparison && comparison.number !== before) showComparison(comparison);
  const asks = state.typed && !comparison && !state.done && !state.writing;
  if (asks && $("ask").hidden) setTimeout(() => $("question").focus());
  $("ask").hidden = !asks;
  showEnd();
  showCounts();
  showScore();
  showTraining();
  enable();
}

function showComparison({ prompt, left, right }) {
  const several = prompt.length > 1;
  $("prompt").replaceChildren(
    ...prompt.flatMap(({ role, content }) => [...(several ? [element("p", ROLES[role] ?? role, { className: "role" })] : []), element("p", content)]),
  );
  $("answers").replaceChildren(
    ...[left, right].map(({ text, ended }, n) => {
      const article = $("answer").content.cloneNode(true).firstElementChild;
      article.querySelector("h2").textContent = `Answer ${n + 1}`;
      const box = article.querySelector(".text");
      box.setAttribute("aria-label", `Answer ${n + 1}`);
      box.append(text.trim() ? text : element("span", "Nothing was written.", { className: "empty" }));
      article.querySelector(".facts").textContent = ended ? "" : "Cut off here: it has the most tokens that were allowed.";
      return article;
    }),
  );
  since = performance.now();
}

function showEnd() {
  $("end").hidden = !state.done;
  const command = `--pairs ${2 * state.wanted}`;
  $("end").querySelector("p").textContent =
    `All ${plural(state.counts.pairs, "pair")} are compared, and each decision is in ${state.file}. ` +
    `To go on, give the same command again with ${command}.`;
}

function showCounts() {
  const { pairs, preferred, ties, skips, left, seconds, agreement } = state.counts;
  $("progress").setAttribute("aria-valuemax", state.wanted);
  $("progress").setAttribute("aria-valuenow", Math.min(pairs, state.wanted));
  $("progress").firstElementChild.style.width = percent(Math.min(1, pairs / state.wanted));
  $("place").textContent = `${pairs} of ${state.wanted}`;
  const agreed = agreement.total
    ? `${agreement.same} of ${plural(agreement.total, "pair")} that came twice (${percent(agreement.same / agreement.total)})`
    : "no pair came twice yet";
  const rows = [
    ["Pairs", `${pairs} of ${state.wanted}`],
    ["One is better", preferred],
    ["Ties", ties],
    ["Skipped", skips],
    ["You agree with yourself", agreed],
    ["Answer 1 is chosen", left === null ? "–" : percent(left)],
    ["Time to decide", seconds === null ? "–" : `${seconds.toFixed(1)} s (median)`],
    ["Written to", state.file],
  ];
  $("counts").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  if (state.done) $("count-panel").open = true;
}

// Who wins is for the end: what a person knows of it before would colour the decisions.
function showScore() {
  $("score-panel").hidden = !state.score;
  if (!state.score) return;
  const { wins, ties, losses, rate, interval } = state.score;
  $("score-panel").querySelector("summary").textContent = state.done ? "The result" : "The result so far (it may sway you)";
  const [low, high] = interval;
  $("score").textContent =
    rate === null
      ? "Nothing is judged yet."
      : `${state.run} wins ${wins}, ties ${ties} and loses ${losses} against ${state.against}: a win rate of ` +
        `${percent(rate)}, with a 95% interval from ${percent(low)} to ${percent(high)}. ` +
        (low > 0.5 ? `${state.run} is better.` : high < 0.5 ? `${state.against} is better.` : `${state.done ? "Neither" : "So far neither"} is shown to be better.`);
  const range = $("interval").querySelector(".range");
  range.style.left = `${100 * low}%`;
  range.style.width = `${100 * (high - low)}%`;
  $("interval").querySelector(".rate").style.left = `${100 * (rate ?? 0.5)}%`;
  $("interval").hidden = rate === null;
  if (state.done) $("score-panel").open = true;
}

function outcome({ runs, code, line, accuracy }) {
  if (runs) return line ? `Training: ${line}` : "The training begins.";
  if (code !== 0) return `The training has ended early: ${line}`;
  return accuracy === null ? "Trained." : `Trained: it is right about ${percent(accuracy)} of the pairs that were held out.`;
}

function showTraining() {
  const training = state.training;
  $("train-panel").hidden = !training;
  if (!training) return;
  const stages = Object.entries(training.commands).map(([stage, command]) => {
    const row = element("div", "", { className: "stage" });
    const button = element("button", STAGES[stage], { type: "button", disabled: training.runs });
    button.addEventListener("click", () => turn("/api/training", { stage }));
    row.append(button, element("code", command));
    return row;
  });
  const enough = training.pairs >= training.least;
  const have = `${plural(training.pairs, "pair")} with a preference`;
  const note = enough ? `${have} can be learned from.` : `${have}; ${training.least} are the least to train on.`;
  const said = [element("p", note, { className: "note" }), ...stages];
  if (training.stage) {
    said.push(element("p", outcome(training), { className: "line", id: "training-line" }));
  }
  if (training.then) {
    const then = element("p", "What comes next: ", { className: "note", id: "then" });
    then.append(element("code", training.then));
    said.push(then);
  }
  // A button that has the focus keeps it.
  const focused = [...$("train").querySelectorAll("button")].indexOf(document.activeElement);
  $("train").replaceChildren(...said);
  if (focused >= 0) $("train").querySelectorAll("button")[focused].focus();
  if (state.done) $("train-panel").open = true;
  clearTimeout(showTraining.timer);
  if (training.runs) showTraining.timer = setTimeout(look, POLL);
}

for (const button of document.querySelectorAll(".choice")) button.addEventListener("click", () => decide(button.dataset.choice));
$("skip").addEventListener("click", () => decide("skip"));
$("undo").addEventListener("click", undo);
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  turn("/api/prompt", { text: $("question").value });
});
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing || event.shiftKey) return; // While a word is composed, Enter ends the word.
  event.preventDefault();
  $("ask").requestSubmit();
});
addEventListener("keydown", (event) => {
  // A key that is held down decides on one comparison, not on all that follow.
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("textarea, input")) return;
  const choice = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  if (!choice && event.key.toLowerCase() !== "u") return;
  event.preventDefault();
  if (choice) decide(choice);
  else undo();
});
turn("/api/state");
