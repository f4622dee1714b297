// What heads attend to: a strip of small matrices, and one of them enlarged.

import { useEffect, useRef, useState } from "preact/hooks";
import { colour, useScheme } from "/static/colours.js";
import { alone, html, percent, roved, signed } from "/static/words.js";

const palettes = new Map();

// 256 colours from clear to full, for the present scheme of colours.
function palette() {
  const rgb = colour("--attention");
  if (!palettes.has(rgb)) {
    const [r, g, b] = rgb.match(/\d+/g).map(Number);
    palettes.set(rgb, Uint32Array.from({ length: 256 }, (_, i) => ((Math.round(255 * Math.sqrt(i / 255)) << 24) | (b << 16) | (g << 8) | r) >>> 0));
  }
  return palettes.get(rgb);
}

// How many rows a triangle of so many cells has.
export const sideOf = (cells) => Math.round((Math.sqrt(8 * cells + 1) - 1) / 2);
const rowAt = (row) => (row * (row + 1)) / 2;

// The cells of one head's triangle.
export function headOf(trace, layer, head) {
  const [, heads, cells] = trace.attention.shape;
  const from = (layer * heads + head) * cells;
  return trace.attention.subarray(from, from + cells);
}

export function paint(canvas, cells, row) {
  const side = sideOf(cells.length);
  if (canvas.width !== side) canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  const pixels = new Uint32Array(image.data.buffer);
  const colours = palette();
  for (let i = 0, p = 0; i < side; i++) for (let j = 0; j <= i; j++) pixels[i * side + j] = colours[cells[p++]];
  context.putImageData(image, 0, 0);
  if (row >= 0) {
    context.fillStyle = colour("--row");
    context.fillRect(0, row, side, 1);
  }
}

function Matrix({ cells, row }) {
  const ref = useRef();
  const dark = useScheme();
  useEffect(() => paint(ref.current, cells, row), [cells, row, dark]);
  return html`<canvas ref=${ref} width="1" height="1" aria-hidden="true"></canvas>`;
}

// All heads, a row for each layer; beside it the layer's MLP. A click enlarges a head, a switch takes a part away.
export function Heads({ run, trace, place, chosen, choose, off, toggle, more }) {
  const grid = useRef();
  const at = chosen.layer * run.heads + chosen.head;
  const cell = Math.ceil(trace.ids.length / sideOf(trace.attention.shape[2]));
  const key = (event) => {
    const to = roved(event.key, at, run.layers * run.heads, run.heads);
    if (to < 0 || event.target.type === "checkbox") return;
    event.preventDefault();
    choose({ layer: Math.floor(to / run.heads), head: to % run.heads });
    grid.current.querySelectorAll("button.head")[to]?.focus();
  };
  const without = (name) => (more ? signed(more[name], 3) : "…");
  const Switch = (name, what) => html`<label class="switch" title=${`Switch ${what} off or on`}>
    <input type="checkbox" checked=${!off.has(name)} onChange=${() => toggle(name)} aria-label=${`${what} is on`} /> <span title="how much more surprising the text is without it, in nats per token">${without(name)}</span></label>`;
  const rows = Array.from({ length: run.layers }, (_, layer) => html`<div class="layer">
    <h3>Layer ${layer + 1}</h3>
    <div class="row">${Array.from({ length: run.heads }, (_, head) => {
      const name = `${layer}.attention.${head}`;
      const what = `head ${head + 1} of layer ${layer + 1}`;
      const mine = layer === chosen.layer && head === chosen.head;
      return html`<div class="one ${off.has(name) ? "off" : ""}">
        <button type="button" class="head" tabindex=${mine ? 0 : -1} aria-pressed=${mine} aria-label=${`Enlarge ${what}`} onClick=${() => choose({ layer, head })}>
          <${Matrix} cells=${headOf(trace, layer, head)} row=${Math.floor(place / cell)} /></button>
        ${Switch(name, what)}</div>`;
    })}<div class="one mlp ${off.has(`${layer}.mlp`) ? "off" : ""}"><span class="quiet">MLP</span>${Switch(`${layer}.mlp`, `the MLP of layer ${layer + 1}`)}</div></div></div>`);
  return html`<div class="heads" ref=${grid} role="group" aria-label="Heads by layer" onKeyDown=${key} style=${{ "--heads": run.heads }}>${rows}</div>`;
}

// One head, every cell; the pointer and the arrow keys read it.
export function Enlarged({ trace, cells, row, name, choose }) {
  const [at, go] = useState(null);
  const side = sideOf(cells.length);
  const cell = Math.ceil(trace.ids.length / side);
  const spot = at ?? { i: row, j: row };
  const weight = cells[rowAt(spot.i) + spot.j] / 255;
  const text = (n) => alone(trace.names[trace.ids[Math.min(n * cell, trace.ids.length - 1)]]);
  const move = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const i = Math.min(side - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * side)));
    const j = Math.min(i, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * side)));
    go({ i, j });
  };
  const key = (event) => {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [down, right] = moves[event.key];
    const i = Math.min(side - 1, Math.max(0, spot.i + down));
    go({ i, j: Math.min(i, Math.max(0, spot.j + right)) });
  };
  const strongest = Array.from({ length: spot.i + 1 }, (_, j) => [j, cells[rowAt(spot.i) + j] / 255]).sort((a, b) => b[1] - a[1]).slice(0, 4);
  return html`<div class="enlarged">
    <div class="matrix" tabindex="0" role="group" aria-label=${`${name}, token by token; the arrow keys read it`} onPointerMove=${move} onPointerLeave=${() => go(null)}
      onClick=${() => choose(Math.min(trace.ids.length - 1, spot.i * cell + 1))} onKeyDown=${key}>
      <${Matrix} cells=${cells} row=${row} />
      ${at && html`<span class="spot" style=${{ left: `${(100 * at.j) / side}%`, top: `${(100 * at.i) / side}%`, width: `${100 / side}%`, height: `${100 / side}%` }}></span>`}
    </div>
    <p aria-live="polite"><code>${text(spot.i)}</code> ${at && spot.j !== spot.i ? html`gives <code>${text(spot.j)}</code> ${spot.i - spot.j} back ${percent(weight)} of its attention; ` : ""}most to
      ${strongest.map(([j, p]) => html` <span class="pair"><code>${text(j)}</code> ${j === spot.i ? "itself" : `${(spot.i - j) * cell} back`} ${percent(p)}</span>`)}</p>
  </div>`;
}
