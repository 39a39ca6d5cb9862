"use strict";
// Descent on a function of one number, for a step that the reader chooses.
moving.descent = (stage, { curve, rates, paths, range, limit }) => {
  const area = plot.axes(stage, { ...range, xlabel: "θ", ylabel: "J(θ)" });
  area.path(curve, { stroke: plot.colour("soft") });
  const way = area.path([], { stroke: plot.colour("second"), "stroke-width": 1.4 });
  const dots = paths[0].map(() => area.dot(0, 0, { r: 4 }));
  const controls = plot.controls(stage), say = plot.said(stage);
  let rate = 0, shown = 8;
  function draw() {
    const points = paths[rate].slice(0, shown + 1);
    area.move(way, points);
    dots.forEach((dot, k) => {
      dot.style.display = k < points.length ? "" : "none";
      if (k < points.length) area.put(dot, ...points[k]);
    });
    const last = points[points.length - 1];
    const words = rates[rate] < limit / 2 ? "creeps" : rates[rate] < limit ? "jumps from side to side, and comes in" : rates[rate] === limit ? "stays where it was, on the other side" : "moves away";
    say(`step α = ${plot.round(rates[rate], 3)}: after ${points.length - 1} steps θ = `, plot.bold(plot.round(last[0], 4)), `; it ${words}`);
  }
  plot.slider(controls, "step α", rates.length, 1, (i) => { rate = i; draw(); }, (i) => `α = ${plot.round(rates[i], 3)}`);
  plot.slider(controls, "steps shown", paths[0].length, shown, (i) => { shown = i; draw(); }, (i) => `${i} steps`);
};
