// The run as it trains: what the server tells of its log and its folder, and one line of where it stands.

import { useEffect } from "preact/hooks";
import { json } from "/static/api.js";
import { grouped, html, percent, short } from "/static/words.js";

// A curve with one more point; a step that is taken again replaces what was there.
function extended(curve, step, value) {
  const last = curve.length ? curve[curve.length - 1][0] : -1;
  return [...(step > last ? curve : curve.filter(([other]) => other < step)), [step, value]];
}

export function withLines(run, lines) {
  const curves = { ...run.curves };
  let { notes, now } = run;
  for (const line of lines) {
    for (const name of Object.keys(curves)) {
      if (Number.isFinite(line[name])) curves[name] = extended(curves[name], line.step, line[name]);
    }
    if (line.note && !notes.some(([step, note]) => step === line.step && note === line.note)) notes = [...notes, [line.step, line.note]];
    if (Number.isFinite(line.loss)) now = line;
  }
  return { ...run, curves, notes, now };
}

export function useLive(run, change) {
  useEffect(() => {
    const source = new EventSource(`/api/live?place=${encodeURIComponent(run.place)}`);
    source.addEventListener("lines", (event) => change((before) => withLines(before, JSON.parse(event.data))));
    source.addEventListener("folder", (event) => change((before) => ({ ...before, ...JSON.parse(event.data) })));
    // The log was written anew: what it said before counts no more, what the folder holds still does.
    source.addEventListener("again", async () => {
      const { curves, notes } = await json("/api/run");
      change((before) => ({ ...before, curves, notes, now: null }));
    });
    return () => source.close();
  }, []);
}

const LATELY = 3;

export function Live({ run }) {
  const now = run.now;
  return html`<section class="live" aria-label="Training">
    ${now && run.trains && html`<p><strong>Training</strong>: step ${grouped(now.step)}, loss ${now.loss.toFixed(3)}, ${short(now.tokens_per_second)} tokens a second, learning rate at ${percent(now.learning_rate_share)} of its peak, gradient norm ${now.gradient_norm.toFixed(2)}.</p>`}
    ${run.notes.slice(-LATELY).map(([step, note]) => html`<p class="note"><span class="quiet">step ${grouped(step ?? 0)}</span> ${note}</p>`)}
    ${now && run.trains && run.sample && html`<details><summary>What it wrote at its last evaluation</summary><p class="written">${run.sample.text}</p></details>`}
  </section>`;
}
