"use strict";
// The numbers on their lines, from x to the result, and how wide a small step is on each.
moving.chain = (stage, { names, x, values, factors, dx, ranges }) => {
  const width = 640, gap = 74, left = 70, right = 150;
  const svg = plot.node("svg", { viewBox: `0 0 ${width} ${gap * names.length}`, "aria-hidden": "true" });
  stage.append(svg);
  const rows = names.map((name, k) => {
    const y = gap * k + 30, [low, high] = ranges[k];
    const at = (v) => left + (v - low) / (high - low) * (width - left - right);
    svg.append(plot.node("line", { x1: left, x2: width - right, y1: y, y2: y, stroke: plot.colour("soft") }),
      plot.node("text", { x: 6, y: y + 5 }, name));
    for (const t of plot.nice(low, high, 5)) {
      svg.append(plot.node("line", { x1: at(t), x2: at(t), y1: y - 4, y2: y + 4, stroke: plot.colour("soft") }),
        plot.node("text", { x: at(t), y: y + 20, "text-anchor": "middle" }, plot.round(t)));
    }
    const bar = svg.appendChild(plot.node("line", { y1: y, y2: y, stroke: plot.colour("second"), "stroke-width": 7, "stroke-linecap": "round" }));
    const dot = svg.appendChild(plot.node("circle", { cy: y, r: 5, fill: plot.colour("first") }));
    const factor = svg.appendChild(plot.node("text", { x: width - right + 18, y: y - gap / 2 + 5 }));
    return { at, bar, dot, factor };
  });
  const controls = plot.controls(stage), say = plot.said(stage);
  plot.slider(controls, "x", x.length, Math.round(x.length * 0.4), (i) => {
    let step = dx;
    rows.forEach(({ at, bar, dot, factor }, k) => {
      if (k > 0) step *= factors[i][k - 1];
      const v = values[i][k];
      dot.setAttribute("cx", at(v));
      bar.setAttribute("x1", at(v));
      bar.setAttribute("x2", at(v + step));
      factor.textContent = k > 0 ? `× ${plot.round(factors[i][k - 1])}` : "";
    });
    const product = factors[i].reduce((a, b) => a * b, 1);
    say(`x = ${plot.round(x[i], 3)}: the factors `, factors[i].map((f) => plot.round(f, 3)).join(" · "), " = ", plot.bold(plot.round(product, 4)));
  }, (i) => `x = ${plot.round(x[i], 3)}`);
};
