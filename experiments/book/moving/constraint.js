"use strict";
// A point moved along a constraint: the gradients of objective and constraint, and the level curve through the point.
moving.constraint = (stage, { line, levels, places, range }) => {
  const area = plot.axes(stage, { ...range, equal: true, width: 560, xlabel: "x", ylabel: "y" });
  for (const level of levels) area.path(level, { stroke: plot.colour("line"), "stroke-width": 1.2 });
  area.path(line, { stroke: plot.colour("ink") });
  const curve = area.path([], { stroke: plot.colour("first") });
  const objective = area.path([], { stroke: plot.colour("first"), "stroke-width": 4 });
  const constraint = area.path([], { stroke: plot.colour("second"), "stroke-width": 4 });
  const dot = area.dot(0, 0, { fill: plot.colour("ink") });
  const controls = plot.controls(stage), say = plot.said(stage);
  plot.slider(controls, "move along the constraint", places.length, Math.round(places.length * 0.2), (i) => {
    const { x, f, f_gradient: g, h_gradient: n, level, angle } = places[i];
    area.move(curve, level);
    area.move(objective, [x, [x[0] + 0.45 * g[0], x[1] + 0.45 * g[1]]]);
    area.move(constraint, [x, [x[0] + 0.3 * n[0], x[1] + 0.3 * n[1]]]);
    area.put(dot, ...x);
    say(`f = `, plot.bold(plot.round(f, 4)), `, angle between the gradients of f (blue) and h (red): `, plot.bold(`${plot.round(angle, 3)}°`));
  }, (i) => `x = ${plot.round(places[i].x[0], 3)}, f = ${plot.round(places[i].f, 4)}`);
};
