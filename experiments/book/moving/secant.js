"use strict";
// The line through two points of a graph, as the second moves to the first.
moving.secant = (stage, { curve, point, slope, steps, slopes, range }) => {
  const area = plot.axes(stage, { ...range, xlabel: "x", ylabel: "y" });
  const [a, fa] = point;
  const line = (m) => range.x.map((x) => [x, fa + m * (x - a)]);
  area.path(line(slope), { stroke: plot.colour("soft"), "stroke-dasharray": "5 5", "stroke-width": 1.5 });
  area.path(curve);
  const secant = area.path([], { stroke: plot.colour("second") });
  area.dot(a, fa, { fill: plot.colour("first") });
  const second = area.dot(a, fa);
  const controls = plot.controls(stage), say = plot.said(stage);
  plot.slider(controls, "step h, from large to small", steps.length, 0, (i) => {
    area.move(secant, line(slopes[i]));
    area.put(second, a + steps[i], fa + slopes[i] * steps[i]);
    say(`h = ${plot.round(steps[i], 3)}: slope of the secant `, plot.bold(plot.round(slopes[i], 6)), `, of the tangent ${plot.round(slope, 6)}`);
  }, (i) => `h = ${plot.round(steps[i], 3)}`);
};
