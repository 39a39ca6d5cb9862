"use strict";
// What the moving pictures share: axes, lines, dots, sliders.  A picture is moving.NAME = (stage, data) => {...}.
const moving = {};
const plot = (() => {
  const NS = "http://www.w3.org/2000/svg";

  function node(name, attributes = {}, text) {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const COLOURS = { first: "var(--forward)", second: "var(--backward)", soft: "var(--soft)", line: "var(--line)", ink: "var(--ink)", good: "var(--good)" };
  const colour = (name) => COLOURS[name] ?? name;

  function nice(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const ticks = [];
    for (let t = Math.ceil(low / step) * step; t <= high + 1e-9 * step; t += step) ticks.push(Number(t.toPrecision(12)));
    return ticks;
  }

  // A drawing area with a frame of numbers: x and y are [low, high].
  function axes(stage, { x, y, width = 640, height = 340, xlabel = "", ylabel = "", equal = false, left = 46, bottom = 38 }) {
    const top = 12, right = 14;
    if (equal) height = Math.round((width - left - right) * (y[1] - y[0]) / (x[1] - x[0])) + top + bottom;
    const svg = node("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-hidden": "true" });
    const sx = (v) => left + (v - x[0]) / (x[1] - x[0]) * (width - left - right);
    const sy = (v) => height - bottom - (v - y[0]) / (y[1] - y[0]) * (height - top - bottom);
    for (const t of nice(...x, 6)) {
      svg.append(node("line", { x1: sx(t), x2: sx(t), y1: top, y2: height - bottom, stroke: colour("line") }),
        node("text", { x: sx(t), y: height - bottom + 17, "text-anchor": "middle" }, String(t)));
    }
    for (const t of nice(...y, 5)) {
      svg.append(node("line", { x1: left, x2: width - right, y1: sy(t), y2: sy(t), stroke: colour("line") }),
        node("text", { x: left - 7, y: sy(t) + 4, "text-anchor": "end" }, String(t)));
    }
    svg.append(node("text", { x: width - right, y: height - 4, "text-anchor": "end" }, xlabel),
      node("text", { x: 4, y: top, "text-anchor": "start" }, ylabel));
    const clip = `clip-${Math.random().toString(36).slice(2)}`;
    const defs = node("defs"), shape = node("clipPath", { id: clip });
    shape.append(node("rect", { x: left, y: top - 6, width: width - left - right, height: height - top - bottom + 12 }));
    defs.append(shape);
    svg.append(defs);
    const layer = node("g", { "clip-path": `url(#${clip})` });
    svg.append(layer);
    stage.append(svg);
    const area = {
      svg, sx, sy,
      add(made) { layer.append(made); return made; },
      path(points, attributes = {}) { return area.add(node("path", { d: way(points), fill: "none", stroke: colour("first"), "stroke-width": 2, ...attributes })); },
      move(path, points) { path.setAttribute("d", way(points)); },
      dot(px, py, attributes = {}) { return area.add(node("circle", { cx: sx(px), cy: sy(py), r: 5, fill: colour("second"), ...attributes })); },
      put(dot, px, py) { dot.setAttribute("cx", sx(px)); dot.setAttribute("cy", sy(py)); },
      label(px, py, text, attributes = {}) { return area.add(node("text", { x: sx(px), y: sy(py), ...attributes }, text)); },
    };
    function way(points) {
      return points.map(([px, py], i) => `${i ? "L" : "M"}${sx(px).toFixed(2)} ${sy(py).toFixed(2)}`).join("");
    }
    return area;
  }

  function controls(stage) {
    const made = document.createElement("div");
    made.className = "controls";
    stage.append(made);
    return made;
  }

  // A slider over the places 0..count-1 of a table; change(place) is called at once and when it moves.
  function slider(place, label, count, value, change, words) {
    const input = document.createElement("input");
    Object.assign(input, { type: "range", min: 0, max: count - 1, step: 1, value });
    const holder = document.createElement("label");
    holder.append(`${label} `, input);
    place.append(holder);
    const moved = () => {
      if (words) input.setAttribute("aria-valuetext", words(Number(input.value)));
      change(Number(input.value));
    };
    input.addEventListener("input", moved);
    moved();
    return { input, set(v) { input.value = v; moved(); } };
  }

  function button(place, label, press) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    made.addEventListener("click", press);
    place.append(made);
    return made;
  }

  function said(stage) {
    const made = document.createElement("p");
    made.className = "said";
    made.setAttribute("role", "status");
    stage.append(made);
    return (...parts) => made.replaceChildren(...parts);
  }

  const bold = (text) => Object.assign(document.createElement("b"), { textContent: text });
  const round = (v, digits = 4) => Number(v.toPrecision(digits)).toString().replace("-", "−");

  document.addEventListener("DOMContentLoaded", () => {
    for (const figure of document.querySelectorAll("[data-moving]")) {
      const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
      moving[figure.dataset.moving](figure.querySelector(".stage"), data);
    }
  });
  return { node, colour, nice, axes, controls, slider, button, said, bold, round };
})();
