"use strict";
// A layer's activations, each kept or dropped; the mean over the draws so far comes to the activations.
moving.dropout = (stage, { values, masks, outputs, rate }) => {
  const n = values.length, high = Math.max(...values) / (1 - rate) * 1.12;
  const area = plot.axes(stage, { x: [0, n], y: [0, high], height: 260, xlabel: "unit", ylabel: "activation" });
  const bar = (k, offset, width, fill) => area.add(plot.node("rect", { x: area.sx(k + offset), width: area.sx(width) - area.sx(0), fill }));
  const set = (rect, v) => { rect.setAttribute("y", area.sy(v)); rect.setAttribute("height", area.sy(0) - area.sy(v)); };
  const bars = values.map((_, k) => bar(k, 0.12, 0.36, plot.colour("first")));
  const means = values.map((_, k) => bar(k, 0.54, 0.3, plot.colour("second")));
  values.forEach((v, k) => area.path([[k + 0.06, v], [k + 0.94, v]], { stroke: plot.colour("ink"), "stroke-dasharray": "4 3", "stroke-width": 1.5 }));
  const controls = plot.controls(stage), say = plot.said(stage);
  const sums = [values.map(() => 0)];
  outputs.forEach((out) => sums.push(out.map((v, k) => v + sums[sums.length - 1][k])));
  const slide = plot.slider(controls, "draw", masks.length, 0, (i) => {
    outputs[i].forEach((v, k) => set(bars[k], v));
    values.forEach((_, k) => set(means[k], sums[i + 1][k] / (i + 1)));
    const off = Math.max(...values.map((v, k) => Math.abs(sums[i + 1][k] / (i + 1) - v)));
    say(`draw ${i + 1}: kept ${masks[i].filter(Boolean).length} of ${n} (blue); mean of all draws so far (red) is off by at most `, plot.bold(plot.round(off, 2)));
  }, (i) => `draw ${i + 1}`);
  plot.button(controls, "Draw again", () => slide.set((Number(slide.input.value) + 1) % masks.length));
};
