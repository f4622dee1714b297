// The page: one run, one moment of it, one text, one place in the text, one head.

import { render } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { arrays, json } from "/static/api.js";
import { Enlarged, headOf, Heads, sideOf } from "/static/heads.js";
import { Lens, Likeliest } from "/static/lens.js";
import { Live, useLive } from "/static/live.js";
import { said, surprise, Tokens } from "/static/text.js";
import { Timeline } from "/static/timeline.js";
import { alone, grouped, html, nats, short } from "/static/words.js";

// Where a look takes so many milliseconds, nothing is fetched ahead: what is asked for would have to wait for it.
const SLOW = 250;
const UNITS = { characters: "character", bytes: "byte" };

// The answer to a question, asked again when its key has changed for some milliseconds; until then the one before stays.
function useAnswer(key, ask, cache, wait = 0) {
  const [state, set] = useState({ answer: null, problem: "" });
  useEffect(() => {
    if (key === null) return undefined;
    const control = new AbortController();
    const known = cache?.get(key);
    if (known) {
      set({ answer: known, problem: "" });
      return undefined;
    }
    const timer = setTimeout(async () => {
      try {
        const answer = await ask(control.signal);
        cache?.set(key, answer);
        set({ answer, problem: "" });
      } catch (error) {
        if (error.name !== "AbortError") set((before) => ({ ...before, problem: error.message }));
      }
    }, wait);
    return () => {
      clearTimeout(timer);
      control.abort();
    };
  }, [key]);
  return state;
}

// Asks for what the slider may come to next, one moment after the other, while nothing else is asked.
function usePrefetch(keys, ask, cache) {
  useEffect(() => {
    const control = new AbortController();
    (async () => {
      await new Promise((done) => setTimeout(done, 400));
      for (const [key, body] of keys()) {
        if (control.signal.aborted) return;
        if (!cache.has(key)) cache.set(key, await ask(body, control.signal).catch(() => null));
        if (cache.get(key) === null) return void cache.delete(key);
      }
    })();
    return () => control.abort();
  }, [keys().map(([key]) => key).join()]);
}

class Cache extends Map {
  set(key, value) {
    if (this.size > 400) this.delete(this.keys().next().value);
    return super.set(key, value);
  }
}

function App({ first }) {
  const [run, change] = useState(first);
  const caches = useRef({ look: new Cache(), write: new Cache(), off: new Cache() }).current;
  const [moment, go] = useState(run.moments.length - 1);
  useLive(run, change);
  // Whoever looks at the newest moment goes on looking at the newest.
  const newest = useRef(run.moments.length - 1);
  useEffect(() => {
    const last = run.moments.length - 1;
    go((at) => (at >= newest.current ? last : Math.min(at, last)));
    newest.current = last;
  }, [run.moments.join()]);
  const [text, setText] = useState(run.example);
  const [off, setOff] = useState(new Set());
  const [chosen, choose] = useState(null);
  const [head, chooseHead] = useState({ layer: 0, head: 0 });
  const [shade, setShade] = useState("surprise");
  const step = run.moments[moment] ?? run.moments.at(-1);
  const names = [...off].sort();
  const look = async (asked, signal) => {
    const began = performance.now();
    return { ...(await arrays("/api/look", asked, signal)), step: asked.step, took: performance.now() - began };
  };
  const body = (at, more = {}) => ({ step: run.moments[at], text, off: names, ...more });
  const key = (at, more = "") => JSON.stringify([run.moments[at], text, names, more]);
  const looked = useAnswer(key(moment), (signal) => look(body(moment), signal), caches.look);
  const trace = looked.answer;
  const isFast = trace !== null && trace.took < SLOW;
  usePrefetch(() => (isFast ? run.moments.map((_, at) => [key(at), body(at)]) : []), look, caches.look);
  const each = useAnswer(key(moment), (signal) => arrays("/api/each-off", body(moment), signal), caches.off, 250);
  const more = useMemo(() => each.answer && means(each.answer), [each.answer]);
  const toggle = (name) => setOff((before) => new Set(before.has(name) ? [...before].filter((one) => one !== name) : [...before, name]));
  const place = trace ? Math.min(chosen ?? mostSurprising(trace, run), trace.ids.length - 1) : null;
  return html`<header><div class="brand"><span>quoth studio</span><span>${run.tokenizer}</span></div><h1>${run.name}</h1><p class="quiet">${lede(run)}</p></header>
    <${Timeline} run=${run} at=${moment} go=${go} />
    <${Live} run=${run} />
    ${looked.problem && html`<p class="problem" role="alert">${looked.problem}</p>`}
    ${trace && html`<div class="columns" data-step=${trace.step}>
      <div class="column">
        <${Look} ...${{ run, trace, place, choose, head, shade, setShade, text, setText, step, body: (more) => body(moment, more), keyOf: (more) => key(moment, more) }} />
      </div>
      <div class="column">
        <${Written} ...${{ run, moment, step, names, cache: caches.write, isFast }} />
        <section aria-label="Attention"><h2>What the heads attend to</h2>
          <p class="quiet">Each row of a picture is a token, each column one that it looks back at; the coloured row is the one that predicts <code>${alone(trace.names[trace.ids[place]])}</code>. A number says how much more the text surprises without that head, in nats per token; its switch takes the head away.</p>
          <${Heads} ...${{ run, trace, place: place - 1, chosen: head, choose: (one) => { chooseHead(one); setShade("attention"); }, off, toggle, more }} />
          ${off.size > 0 && html`<p class="row-of"><button type="button" class="plain" onClick=${() => setOff(new Set())}>Switch all on again</button> <span class="quiet">${off.size} off: the text costs ${nats(mean(trace, run))} per token so.</span></p>`}
        </section>
        <${One} ...${{ run, trace, place, head, choose, body: (more) => body(moment, more), keyOf: (more) => key(moment, more) }} />
      </div>
    </div>`}`;
}

function lede(run) {
  const unit = UNITS[run.tokenizer] ?? "token";
  const judged = run.curves.validation_loss.map(([, loss]) => loss);
  const loss = judged.length ? ` and predicts each next ${unit} with ${Math.min(...judged).toFixed(3)} nats of surprise` : "";
  return `A GPT of ${short(run.parameters)} parameters: ${run.layers} layers of width ${run.width}, ${run.heads} heads, a context of ${grouped(run.context)} ${unit}s. It read ${run.data}${loss}.`;
}

// By the name of each part, how much more the text surprises without it.
function means(answer) {
  const [count, width] = answer.more.shape;
  const found = {};
  for (let n = 0; n < count; n++) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += answer.more[n * width + i];
    found[answer.names[n]] = sum / width;
  }
  return found;
}

function mean(trace, run) {
  const width = trace.ids.length - 1;
  const own = trace.loss.subarray(run.layers * width);
  return own.reduce((sum, loss) => sum + loss, 0) / width;
}

// Where the text surprises most, not counting its beginning, where there is little to go by.
function mostSurprising(trace, run) {
  const loss = surprise(trace, run.layers);
  let found = trace.ids.length - 1;
  for (let i = Math.ceil(trace.ids.length / 4); i < trace.ids.length; i++) if (loss(i) > loss(found)) found = i;
  return found;
}

function Look({ run, trace, place, choose, head, shade, setShade, text, setText, step, body, keyOf }) {
  const [typed, type] = useState(text);
  const timer = useRef();
  const edit = (event) => {
    type(event.target.value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setText(event.target.value), 350);
  };
  const hanging = useAnswer(
    shade === "saliency" ? keyOf(["saliency", place]) : null,
    (signal) => arrays("/api/saliency", body({ place: place - 1 }), signal),
  );
  const loss = surprise(trace, run.layers);
  const told = (i) => said(loss(i));
  const shades = useMemo(() => {
    const count = trace.ids.length;
    if (shade === "surprise") return Array.from({ length: count }, (_, i) => (i ? loss(i) / 6 : 0));
    if (shade === "attention") {
      const cells = headOf(trace, head.layer, head.head);
      const cell = Math.ceil(count / sideOf(cells.length));
      const row = Math.floor((place - 1) / cell);
      return Array.from({ length: count }, (_, j) => (j < place ? Math.sqrt(cells[(row * (row + 1)) / 2 + Math.floor(j / cell)] / 255) : 0));
    }
    const found = hanging.answer?.saliency ?? [];
    const most = Math.max(1e-9, ...found);
    return Array.from({ length: count }, (_, j) => (j < found.length && j < place ? Math.sqrt(found[j] / most) : 0));
  }, [trace, shade, head, place, hanging.answer]);
  const target = alone(trace.names[trace.ids[place]]);
  return html`<section aria-label="The text"><h2>What each ${UNITS[run.tokenizer] ?? "token"} cost</h2>
    <${Tokens} trace=${trace} chosen=${place} choose=${choose} shades=${shades} tint=${shade} told=${told} />
    <fieldset><legend>Shaded by</legend>${[
      ["surprise", "surprise"],
      ["attention", `what layer ${head.layer + 1}, head ${head.head + 1} attends to for ${target}`],
      ["saliency", `what ${target} hangs on`],
    ].map(([value, label]) => html`<label><input type="radio" name="shade" value=${value} checked=${shade === value} onChange=${() => setShade(value)} /> ${label}</label>`)}</fieldset>
    <p class="quiet">At step ${grouped(step)} the text costs ${nats(mean(trace, run))} per token.${trace.before ? ` The first ${trace.before} tokens are further back than the model can read at once.` : ""}</p>
    <details><summary>Look at another text</summary><textarea aria-label="Text to look at" value=${typed} onInput=${edit} spellcheck="false"></textarea></details>
  </section>
  <section aria-label="The prediction"><h2>What it expected before <code>${target}</code></h2>
    <${Likeliest} trace=${trace} run=${run} at=${place} />
    <h3>As read from the stream after each layer (the logit lens)</h3>
    <${Lens} trace=${trace} run=${run} at=${place} />
  </section>
  <${Passages} ...${{ run, trace, place, text, target }} />`;
}

function Passages({ trace, place, text, target }) {
  const found = useAnswer(JSON.stringify([text, place]), (signal) => json("/api/passages", { step: 0, text, place: place - 1 }, signal));
  const answer = found.answer;
  if (found.problem) return html`<section aria-label="Training text"><h2>In the training text</h2><p class="quiet">${found.problem}</p></section>`;
  if (!answer) return null;
  const length = answer.counts.length;
  const times = (count) => (count === 1 ? "once" : `${grouped(count)} times`);
  return html`<section aria-label="Training text"><h2>Where the training text goes the same way</h2>
    <p class="quiet">${length ? `Of what stands before ${target}, the last ${length === 1 ? "token stands" : `${length} tokens stand`} in the training text ${times(answer.counts[length - 1])}${length > 4 ? `, the last ${Math.ceil(length / 2)} ${times(answer.counts[Math.ceil(length / 2) - 1])}` : ""}.` : "Not even the token before it stands in the training text."}</p>
    ${answer.places.map((one) => html`<p class="near">${one.before}<mark>${one.same}</mark>${one.after}</p>`)}</section>`;
}

function One({ run, trace, place, head, choose, body, keyOf }) {
  const name = `${head.layer}.attention.${head.head}`;
  const small = headOf(trace, head.layer, head.head);
  const isWhole = sideOf(small.length) === trace.ids.length;
  const whole = useAnswer(isWhole ? null : keyOf(["head", name]), (signal) => arrays("/api/head", body({ head: name }), signal));
  const cells = isWhole ? small : (whole.answer?.attention ?? small);
  const cell = Math.ceil(trace.ids.length / sideOf(cells.length));
  return html`<section aria-label="One head"><h2>Layer ${head.layer + 1}, head ${head.head + 1}</h2>
    <${Enlarged} trace=${trace} cells=${cells} row=${Math.floor((place - 1) / cell)} name=${`Layer ${head.layer + 1}, head ${head.head + 1}`} choose=${choose} /></section>`;
}

function Written({ run, moment, step, names, cache, isFast }) {
  const [asked, ask] = useState({ prompt: "", temperature: 0.8, seed: 1, tokens: 240 });
  const key = (at) => JSON.stringify([run.moments[at], names, asked]);
  const body = (at) => ({ step: run.moments[at], text: asked.prompt, off: names, tokens: asked.tokens, temperature: asked.temperature, seed: asked.seed });
  const wrote = useAnswer(key(moment), (signal) => json("/api/write", body(moment), signal), cache);
  usePrefetch(
    () => (isFast ? run.moments.map((_, at) => [key(at), body(at)]) : []),
    (one, signal) => json("/api/write", one, signal),
    cache,
  );
  const set = (name, number) => (event) => ask({ ...asked, [name]: number ? Number(event.target.value) : event.target.value });
  return html`<section aria-label="Writing"><h2>What it writes at step ${grouped(step)}</h2>
    ${wrote.problem ? html`<p class="problem" role="alert">${wrote.problem}</p>` : html`<p class="written"><span class="prompt">${asked.prompt}</span>${wrote.answer?.text ?? "…"}</p>`}
    <div class="fields">
      <label>After <input type="text" value=${asked.prompt} placeholder="nothing" onInput=${set("prompt", false)} /></label>
      <label>Temperature <input type="range" min="0" max="1.5" step="0.1" value=${asked.temperature} onInput=${set("temperature", true)} /> ${asked.temperature.toFixed(1)}</label>
      <label>Seed <input type="number" min="0" step="1" value=${asked.seed} onInput=${set("seed", true)} /></label>
    </div>
    <p class="quiet">The same seed at every moment, so that only the weights differ.</p></section>`;
}

async function open() {
  if (location.search) history.replaceState(null, "", "/");
  const root = document.getElementById("app");
  try {
    const run = await json("/api/run");
    document.title = `${run.name} · quoth studio`;
    root.replaceChildren();
    render(html`<${App} first=${run} />`, root);
  } catch (error) {
    root.replaceChildren(Object.assign(document.createElement("p"), { className: "problem", role: "alert", textContent: error.message }));
  }
}

open();
