// What the model expected at a place: the likeliest tokens, and the same read from the stream after each layer.

import { alone, html, percent } from "/static/words.js";

const SHOWN = 5;

export function Likeliest({ trace, run, at }) {
  const [, T, N] = trace.likely.shape;
  const from = (run.layers * T + at - 1) * N;
  const target = trace.ids[at];
  const loss = trace.loss[run.layers * (T - 1) + at - 1];
  const rows = Array.from({ length: N }, (_, n) => ({ id: trace.likely[from + n], p: trace.p[from + n] }));
  const shown = rows.some(({ id }) => id === target) ? rows : [...rows.slice(0, N - 1), { id: target, p: Math.exp(-loss), rare: true }];
  return html`<ol class="likeliest" aria-label="What the model expected">${shown.map(({ id, p, rare }) => html`<li class=${id === target ? "came" : ""}>
    <code>${alone(trace.names[id])}</code><span class="bar" style=${{ "--share": p.toFixed(4) }}></span><span>${rare ? `${(100 * p).toPrecision(1)}%` : percent(p)}</span></li>`)}</ol>`;
}

export function Lens({ trace, run, at }) {
  const [, T, N] = trace.likely.shape;
  const target = trace.ids[at];
  const rows = Array.from({ length: run.layers + 1 }, (_, layer) => {
    const from = (layer * T + at - 1) * N;
    const p = Math.exp(-trace.loss[layer * (T - 1) + at - 1]);
    return html`<tr><th scope="row">${layer ? `after layer ${layer}` : "embedding"}</th>
      ${Array.from({ length: SHOWN }, (_, n) => {
        const id = trace.likely[from + n];
        return html`<td class=${id === target ? "came" : ""} style=${{ "--share": trace.p[from + n].toFixed(3) }}><code>${alone(trace.names[id])}</code> ${percent(trace.p[from + n])}</td>`;
      })}<td class="what">${percent(p)}</td></tr>`;
  });
  return html`<div class="wide" tabindex="0" role="region" aria-label="The logit lens, layer by layer"><table class="lens"><thead><tr><th scope="col">read</th><th scope="col" colspan=${SHOWN}>likeliest</th><th scope="col">what came</th></tr></thead><tbody>${rows}</tbody></table></div>`;
}
