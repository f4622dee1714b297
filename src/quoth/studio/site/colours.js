// The page's colours as they are in the present scheme, for what is drawn on a canvas.

import { useEffect, useState } from "preact/hooks";

const scheme = matchMedia("(prefers-color-scheme: dark)");
const known = new Map(); // To ask for a style in every frame would cost more than to paint.
scheme.addEventListener("change", () => known.clear());
const probe = document.createElement("span");
probe.hidden = true;
document.documentElement.append(probe);

// A custom property's colour as "rgb(…)", whichever way the style sheet writes it.
export function colour(name) {
  if (!known.has(name)) {
    probe.style.color = `var(${name})`;
    known.set(name, getComputedStyle(probe).color);
  }
  return known.get(name);
}

// Whether the scheme is dark; what uses it is drawn anew when that changes.
export function useScheme() {
  const [dark, set] = useState(scheme.matches);
  useEffect(() => {
    const change = () => set(scheme.matches);
    scheme.addEventListener("change", change);
    return () => scheme.removeEventListener("change", change);
  }, []);
  return dark;
}
