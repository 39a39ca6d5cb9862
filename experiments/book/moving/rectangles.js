"use strict";
// Rectangles below a graph, as many as the reader chooses; their sum comes to the integral.
moving.rectangles = (stage, { curve, counts, sums, value, range, a, b, samples }) => {
  const area = plot.axes(stage, { ...range, xlabel: "x", ylabel: "f(x)" });
  const layer = area.add(plot.node("g"));
  area.path(curve);
  const controls = plot.controls(stage), say = plot.said(stage);
  plot.slider(controls, "number of rectangles", counts.length, 2, (i) => {
    const n = counts[i], width = (b - a) / n;
    layer.replaceChildren(...samples[i].map((height, k) => plot.node("rect", {
      x: area.sx(a + k * width), width: area.sx(width) - area.sx(0),
      y: area.sy(Math.max(height, 0)), height: Math.abs(area.sy(0) - area.sy(height)),
      fill: plot.colour("second"), "fill-opacity": 0.28, stroke: plot.colour("second"), "stroke-width": n > 40 ? 0 : 1,
    })));
    say(`${n} rectangles: `, plot.bold(plot.round(sums[i], 6)), `; the integral is ${plot.round(value, 6)}; off by ${plot.round(Math.abs(sums[i] - value), 2)}`);
  }, (i) => `${counts[i]} rectangles`);
};
