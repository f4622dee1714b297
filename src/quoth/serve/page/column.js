// One run's column: its text as tokens, coloured by doubt, each with what else could have come.

import { bytesOf } from "./api.js";

const VISIBLE = { "\n": "⏎", "\t": "⇥", " ": "␣" };

export const shown = (name) => (name.startsWith("bytes:") ? name : name.replace(/[\n\t]|^ +$/g, (c) => [...c].map((x) => VISIBLE[x]).join("")));
export const percent = (chance) => (chance >= 0.0995 ? `${(100 * chance).toFixed(0)}%` : `${(100 * chance).toFixed(1)}%`);

export class Column {
  constructor(model, choose) {
    this.model = model;
    this.choose = choose; // Called with (column, index, element) when a token is asked about.
    this.element = document.getElementById("column").content.cloneNode(true).firstElementChild;
    this.element.querySelector("h2").textContent = model.id;
    this.text = this.element.querySelector(".text");
    this.text.setAttribute("aria-label", `${model.id}: text`);
    this.facts = this.element.querySelector(".facts");
    this.text.addEventListener("click", (event) => this.#ask(event.target.closest(".token")));
    this.text.addEventListener("keydown", (event) => this.#move(event));
    this.clear();
  }

  clear() {
    this.shown = new Map(); // What is shown of each turn: {user, assistant}.
    this.#reset();
    this.text.replaceChildren(Object.assign(document.createElement("span"), { className: "empty", textContent: "Nothing written yet." }));
    this.target = this.text;
    this.facts.textContent = "";
  }

  // Show what a run has answered before, when it is chosen once more.
  recall(turns) {
    for (const turn of turns) {
      if (!turn.answers.has(this.model.id)) continue;
      this.hear(turn);
      this.shown.get(turn).assistant = this.#paragraph("assistant", turn.answers.get(this.model.id));
    }
  }

  // Show a person's turn.
  hear(turn) {
    if (this.shown.has(turn)) return;
    if (!this.shown.size) this.text.replaceChildren();
    this.shown.set(turn, { user: this.#paragraph("user", turn.said), assistant: null });
    this.text.scrollTop = this.text.scrollHeight;
  }

  // Take a person's turn off again.
  unhear(turn) {
    this.shown.get(turn)?.user.remove();
    this.shown.delete(turn);
    if (this.model.chats && !this.shown.size) this.clear();
  }

  // Begin an answer, in place of the one that a run that chats gave to this turn before.
  begin(turn) {
    this.#reset();
    this.turn = turn;
    if (!this.model.chats) {
      this.text.replaceChildren();
      this.target = this.text;
    } else {
      this.hear(turn);
      const parts = this.shown.get(turn);
      parts.assistant?.remove();
      this.target = parts.assistant = this.#paragraph("assistant", "");
    }
    this.began = performance.now();
    this.facts.textContent = "";
  }

  #reset() {
    this.tokens = [];
    this.spans = [];
    this.here = -1;
    this.decoder = new TextDecoder();
  }

  add(tokens) {
    const follows = this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight < 40;
    for (const token of tokens) {
      const span = document.createElement("span");
      span.className = `token${token.prompt ? " prompt" : ""}${token.special ? " special" : ""}`;
      span.dataset.index = this.tokens.length;
      span.textContent = token.special ? token.name : this.decoder.decode(bytesOf(token.name), { stream: true });
      if (token.chance !== null) {
        span.style.setProperty("--doubt", (1 - token.chance).toFixed(3));
        span.title = `${shown(token.name)} ${percent(token.chance)}`;
      }
      this.tokens.push(token);
      this.spans.push(span);
      this.target.append(span);
    }
    if (follows) this.text.scrollTop = this.text.scrollHeight;
    const written = this.tokens.filter((token) => !token.prompt).length;
    const rate = written / Math.max((performance.now() - this.began) / 1000, 1e-3);
    this.facts.textContent = `${written} tokens, ${rate.toFixed(0)} a second`;
  }

  // What was held back as the text that the answer stops at is no part of it.
  trim(length) {
    let over = this.answer.length - length;
    for (let n = this.spans.length - 1; n >= 0 && over > 0 && !this.tokens[n].prompt; n--) {
      if (this.tokens[n].special) continue;
      const text = this.spans[n].textContent;
      this.spans[n].textContent = text.slice(0, Math.max(0, text.length - over));
      over -= text.length;
    }
  }

  end(finish) {
    if (this.spans.length) this.spans.at(-1).textContent += this.decoder.decode(); // Half a character, at the end.
    const why = { stop: "ended by itself", length: "ended at the limit", cancelled: "stopped" }[finish];
    const chances = this.tokens.filter((token) => !token.prompt && token.chance !== null).map((token) => token.chance);
    const mean = chances.reduce((sum, chance) => sum - Math.log(chance), 0) / Math.max(chances.length, 1);
    this.facts.textContent += `${why ? `, ${why}` : ""}${chances.length ? `; ${mean.toFixed(2)} nats a token` : ""}`;
  }

  // The answer so far, as text: special tokens are shown, but are no part of it.
  get answer() {
    return this.spans.filter((_, n) => !this.tokens[n].special).map((span) => span.textContent).join("");
  }

  #paragraph(role, text) {
    const turn = document.createElement("p");
    turn.className = `turn ${role}`;
    turn.textContent = text;
    this.text.append(turn);
    return turn;
  }

  #ask(span) {
    if (!span || !this.spans.includes(span)) return;
    this.#stand(Number(span.dataset.index));
    this.choose(this, this.here, span);
  }

  #stand(index) {
    this.spans[this.here]?.classList.remove("here");
    this.here = Math.max(0, Math.min(index, this.spans.length - 1));
    const span = this.spans[this.here];
    span.classList.add("here");
    span.scrollIntoView({ block: "nearest" });
    const { name, chance } = this.tokens[this.here];
    this.text.setAttribute("aria-label", `${this.model.id}: token ${shown(name)}${chance === null ? "" : `, ${percent(chance)}`}`);
  }

  #move(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (by !== undefined && this.spans.length) {
      event.preventDefault();
      this.#stand(this.here < 0 && by === -1 ? this.spans.length - 1 : this.here + by);
    } else if ((event.key === "Enter" || event.key === " ") && this.here >= 0) {
      event.preventDefault();
      this.#ask(this.spans[this.here]);
    }
  }
}
