// A text of tokens, each shaded by a number, one of them chosen; the arrow keys move the choice.

import { alone, html, nats, roved, spoken } from "/static/words.js";

export function Tokens({ trace, chosen, choose, shades, tint, told }) {
  const key = (event) => {
    const to = roved(event.key, chosen, trace.ids.length);
    if (to < 0) return;
    event.preventDefault();
    choose(Math.max(1, to));
    event.currentTarget.children[Math.max(1, to)].focus();
  };
  const tokens = Array.from(trace.ids, (id, i) => {
    const text = trace.names[id];
    const shade = Math.min(1, Math.max(0, shades[i] ?? 0));
    const label = i ? `${spoken(text)}, ${told(i)}` : spoken(text);
    return html`<span role="button" class="token ${tint}" tabindex=${i === chosen ? 0 : -1} aria-pressed=${i === chosen} aria-label=${label}
      title=${i ? `${alone(text)}: ${told(i)}` : "Nothing comes before it, so it is not predicted."} style=${{ "--shade": shade.toFixed(3) }} onClick=${() => i && choose(i)}
      >${text === "\n" ? html`<span class="break" aria-hidden="true">⏎</span>${"\n"}` : text}</span>`;
  });
  return html`<div class="tokens" role="group" aria-label="The text, token by token" onKeyDown=${key}>${tokens}</div>`;
}

export const surprise = (trace, layer) => {
  const width = trace.ids.length - 1;
  return (i) => trace.loss[layer * width + i - 1];
};

export const said = (loss) => `${nats(loss)} of surprise, expected with ${(100 * Math.exp(-loss)).toPrecision(2)}%`;
