// The time machine: the run's loss, and under it a slider over the moments that were kept.

import { useEffect, useRef, useState } from "preact/hooks";
import { colour, useScheme } from "/static/colours.js";
import { grouped, html } from "/static/words.js";

const LEFT = 44;
const RIGHT = 20;
const FRAME = 450; // Milliseconds of the film for each moment.

// Where a step stands on the slider's axis, on which moments are evenly spaced.
export function placeOf(moments, step) {
  let i = moments.findIndex((moment) => moment > step) - 1;
  if (i < 0) i = step < moments[0] ? 0 : moments.length - 1;
  const next = moments[i + 1];
  return next === undefined ? i : i + (step - moments[i]) / (next - moments[i]);
}

function Curves({ run, at }) {
  const ref = useRef();
  const plot = useRef();
  const dark = useScheme();
  useEffect(() => {
    const draw = () => {
      plot.current?.destroy();
      const axis = { stroke: colour("--quiet"), font: "12px system-ui", grid: { stroke: colour("--rule"), width: 1 }, ticks: { show: false } };
      const { loss, validation_loss: judged } = run.curves;
      const steps = [...new Set([...loss, ...judged].map(([step]) => step))].sort((a, b) => a - b);
      const series = (points) => {
        const known = new Map(points);
        return steps.map((step) => known.get(step) ?? null);
      };
      const last = run.moments.length - 1;
      plot.current = new uPlot(
        {
          width: ref.current.clientWidth,
          height: 150,
          padding: [8, RIGHT, 0, 0],
          legend: { show: false },
          cursor: { show: false },
          scales: { x: { time: false, range: [0, Math.max(last, 1)] } },
          axes: [
            {
              ...axis,
              size: 24,
              splits: () => run.moments.map((_, i) => i),
              values: (u, splits) => labels(run.moments, splits, u.bbox.width / devicePixelRatio),
            },
            { ...axis, size: LEFT },
          ],
          series: [
            {},
            { stroke: colour("--train"), width: 1.5, spanGaps: true, points: { show: false } },
            { stroke: colour("--accent"), width: 1.5, spanGaps: true, points: { show: true, size: 5 } },
          ],
          hooks: {
            draw: [
              (u) => {
                const x = u.valToPos(u.moment ?? 0, "x", true);
                u.ctx.strokeStyle = colour("--accent");
                u.ctx.lineWidth = devicePixelRatio;
                u.ctx.beginPath();
                u.ctx.moveTo(x, u.bbox.top);
                u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
                u.ctx.stroke();
              },
            ],
          },
        },
        [steps.map((step) => placeOf(run.moments, step)), series(loss), series(judged)],
        ref.current,
      );
      plot.current.moment = at;
      plot.current.redraw(false);
    };
    draw();
    const again = new ResizeObserver(draw);
    again.observe(ref.current);
    return () => {
      again.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [run, dark]);
  useEffect(() => {
    plot.current.moment = at;
    plot.current.redraw(false);
  }, [at]);
  return html`<div ref=${ref} class="curves" role="img" aria-label="Training loss and validation loss over the run's steps"></div>`;
}

// As many steps as there is room for, the first and last always.
function labels(moments, splits, width) {
  const each = Math.max(1, Math.ceil((splits.length * 48) / width));
  const last = splits.length - 1;
  return splits.map((i) => (i === last || (i % each === 0 && last - i >= each) ? grouped(moments[i]) : ""));
}

export function Timeline({ run, at, go }) {
  const [playing, play] = useState(false);
  const now = useRef(at);
  now.current = at;
  useEffect(() => {
    if (!playing) return undefined;
    const timer = setInterval(() => {
      if (now.current >= run.moments.length - 1) play(false);
      else go(now.current + 1);
    }, FRAME);
    return () => clearInterval(timer);
  }, [playing]);
  const film = () => {
    if (!playing && at === run.moments.length - 1) go(0);
    play(!playing);
  };
  const step = grouped(run.moments[at] ?? 0);
  return html`<section aria-label="Time machine" class="timeline">
    <${Curves} run=${run} at=${at} />
    <div class="scrub">
      <button type="button" onClick=${film} aria-label=${playing ? "Pause the film" : "Play the film"}>${playing ? "❚❚" : "▶"}</button>
      <input type="range" min="0" max=${run.moments.length - 1} value=${at} aria-label="Moment of the training"
        aria-valuetext=${`step ${step}`} onInput=${(event) => { play(false); go(Number(event.target.value)); }} />
    </div>
    <p class="legend quiet"><span class="key train"></span> training loss <span class="key accent"></span> validation loss, in nats per token, by step; the slider goes over the moments whose weights were kept.</p>
  </section>`;
}
