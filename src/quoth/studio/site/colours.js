// The page's colours as they are in the present scheme, for what is drawn on a canvas.

import { useEffect, useState } from "preact/hooks";

const probe = document.createElement("span");
probe.hidden = true;
document.documentElement.append(probe);

// A custom property's colour as "rgb(…)", whichever way the style sheet writes it.
export function colour(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

// Whether the scheme is dark; what uses it is drawn anew when that changes.
export function useScheme() {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const [dark, set] = useState(query.matches);
  useEffect(() => {
    const change = () => set(query.matches);
    query.addEventListener("change", change);
    return () => query.removeEventListener("change", change);
  }, []);
  return dark;
}
