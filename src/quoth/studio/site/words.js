// Numbers and tokens as a person reads them.

import { h } from "preact";
import htm from "htm";

export const html = htm.bind(h);
export const percent = (p) => (p >= 0.0095 ? `${Math.round(100 * p)}%` : "<1%");
export const nats = (loss) => `${loss.toFixed(2)} nats`;
export const signed = (x, digits = 2) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(digits)}`;
export const grouped = (n) => n.toLocaleString("en");

export function short(n) {
  for (const [limit, unit] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (n >= 0.99995 * limit) return `${(n / limit).toFixed(1)}${unit}`;
  }
  return String(n);
}

// A token where it stands alone: what cannot be seen is given a sign.
export const alone = (text) =>
  text === "" ? "∅" : text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "␣");
// A token as a screen reader should say it.
export const spoken = (text) => (text === " " ? "space" : text === "\n" ? "line break" : text === "" ? "nothing" : text);

// Moves the focus within a group whose members are one stop of the Tab key; returns the member to go to, or -1.
export function roved(key, at, count, columns = 0) {
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -at, End: count - 1 - at };
  if (!(key in moves) || (!columns && key.startsWith("ArrowU")) || (!columns && key === "ArrowDown")) return -1;
  const to = at + moves[key];
  return to < 0 || to >= count ? at : to;
}
