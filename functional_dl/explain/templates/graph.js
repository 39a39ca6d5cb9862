// ---- the graph: a layered drawing of what the outline shows open, forward and backward edges side by side

const SVG = "http://www.w3.org/2000/svg";
const canvas = document.getElementById("canvas");
const ruler = document.createElement("canvas").getContext("2d");
const drawn = new Map(); // node of the tree or "v12" -> its drawing
const READABLE = 0.8; // scale below which labels are too small: the canvas scrolls instead
const MANY = 250; // nodes, above which the quicker way to rank them is taken
let size = { width: 1, height: 1 };

function shape(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function textWidth(text, font) {
  ruler.font = font;
  return ruler.measureText(text).width;
}

function clipped(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

// Leaves and clusters, with sizes: {id, node | value, label, note, width, height, parent}.
function parts() {
  const leaves = new Map();
  const clusters = [];
  const visit = (node, parent) => {
    for (const child of node.children) {
      const cluster = child.open && child.children.length ? `c-${child.id}` : null;
      if (cluster) {
        clusters.push({ id: cluster, node: child, parent });
        visit(child, cluster);
      }
      if (!cluster || child.kind === "step") leaves.set(child.id, leaf(child, cluster ?? parent, Boolean(cluster)));
    }
  };
  visit(root, null);
  return { leaves, clusters };
}

function leaf(node, parent, opened) {
  const group = node.kind === "group";
  const label = clipped(group ? node.name : stepLabel(node.step), 30);
  const costs = node.flops + node.backward ? quantity(node.flops + node.backward, "FLOP") : "";
  const note = group ? `${plural(node.count, "step")}${costs && `, ${costs}`}` : opened ? "result" : "";
  const big = Math.max(0, Math.log10(node.flops + node.backward + 1));
  const width = Math.max(textWidth(label, FONT.label), textWidth(note, FONT.note)) + 22 + 3 * big;
  return { id: node.id, node, label, note, parent, width, height: (group || note ? 38 : 20) + 2.2 * big };
}

function stepLabel(step) {
  const made = step.outputs.map((id) => values[id]?.name).join(", ");
  const what = step.label || step.primitive;
  const text = made.replace(/_\d+$/, "") === what ? made : `${made} = ${what}`;
  return step.trips > 1 ? `${text} ×${step.trips}` : text;
}

const FONT = { label: "12px sans-serif", note: "10.5px sans-serif" };

// The leaf that a value comes out of, making small leaves for arguments and constants where they are first needed.
function origin(id, leaves) {
  const loop = bodyArgument.get(id);
  if (loop) return loop[0].open && isShown(loop[0]) ? valueLeaf(id, `c-${loop[0].id}`, leaves) : null;
  const index = producer.get(id);
  if (index !== undefined) return visible(nodeOfStep.get(index)).id;
  const read = (readers.get(id) ?? []).map((step) => nodeOfStep.get(step));
  if (!read.length) return null;
  const home = commonGroup(read);
  if (home !== root && !(isShown(home) && home.open)) return null;
  return valueLeaf(id, home === root ? null : `c-${home.id}`, leaves);
}

function valueLeaf(id, parent, leaves) {
  const key = `v${id}`;
  if (!leaves.has(key)) {
    const label = clipped(values[id].name, 24);
    leaves.set(key, { id: key, value: id, label, note: "", parent, width: textWidth(label, FONT.label) + 16, height: 20 });
  }
  return key;
}

function edges(leaves) {
  const found = new Map();
  const add = (from, to, id, back) => {
    if (!from || !to || from === to || !leaves.has(from) || !leaves.has(to)) return;
    const key = `${from}>${to}`;
    const edge = found.get(key) ?? { from, to, values: [], bytes: 0, back: 0 };
    if (!edge.values.includes(id)) {
      edge.values.push(id);
      edge.bytes += values[id].bytes;
      if (back) edge.back += values[id].bytes || 1;
    }
    found.set(key, edge);
  };
  for (const index of order) {
    const node = nodeOfStep.get(index);
    const target = visible(node);
    const opened = target === node && node.open && node.children.length > 0;
    const back = node.step.backward.length > 0;
    node.step.inputs.forEach((id, place) => {
      const argument = opened ? node.step.arguments[place] : undefined;
      const to = argument === undefined ? target.id : valueLeaf(argument, `c-${node.id}`, leaves);
      add(origin(id, leaves), to, id, back && values[id].differentiated);
    });
    if (opened) {
      for (const inner of node.step.body) {
        const last = inner.outputs.filter((id) => !readers.has(id));
        for (const id of last) add(visible(nodeOfStep.get(inner.index)).id, node.id, id, values[id].differentiated);
      }
    }
  }
  data.outputs.forEach((id) => {
    const from = origin(id, leaves);
    if (!from || producer.get(id) === undefined) return;
    const key = `out${id}`;
    const label = "output";
    leaves.set(key, { id: key, value: id, label, note: "", parent: null, width: 62, height: 20 });
    add(from, key, id, values[id].differentiated);
  });
  return [...found.values()];
}

function drawGraph() {
  const { leaves, clusters } = parts();
  const links = edges(leaves);
  const layout = new dagre.graphlib.Graph({ compound: true });
  const ranker = leaves.size > MANY ? "longest-path" : "network-simplex";
  layout.setGraph({ rankdir: "TB", nodesep: 16, edgesep: 12, ranksep: 26, marginx: 14, marginy: 20, ranker });
  layout.setDefaultEdgeLabel(() => ({}));
  for (const cluster of clusters) layout.setNode(cluster.id, {});
  for (const part of leaves.values()) layout.setNode(part.id, { width: part.width, height: part.height });
  for (const part of [...clusters, ...leaves.values()]) if (part.parent) layout.setParent(part.id, part.parent);
  for (const link of links) layout.setEdge(link.from, link.to, { weight: link.back ? 3 : 1 });
  dagre.layout(layout);
  size = { width: layout.graph().width, height: layout.graph().height };
  drawn.clear();
  const svg = shape("svg", { role: "group", viewBox: `0 0 ${size.width} ${size.height}` }, markers());
  clusters.sort((a, b) => a.node.depth - b.node.depth).forEach((c) => svg.append(clusterShape(c, layout.node(c.id))));
  for (const link of links) svg.append(...edgeShapes(link, layout.edge(link.from, link.to).points));
  for (const part of leaves.values()) svg.append(leafShape(part, layout.node(part.id)));
  canvas.replaceChildren(svg);
  zoomTo(state.scale ?? fitting(READABLE));
  markGraph();
}

function markers() {
  const defs = shape("defs", {});
  for (const way of ["forward", "backward"]) {
    const tip = { id: `tip-${way}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8 };
    const marker = shape("marker", { ...tip, markerUnits: "userSpaceOnUse", orient: "auto" });
    marker.append(shape("path", { d: "M0 1 L8 4 L0 7 z", class: `tip ${way}` }));
    defs.append(marker);
  }
  return defs;
}

function clusterShape(cluster, box) {
  const made = shape("g", { class: "cluster", "data-id": cluster.node.id });
  const [x, y] = [box.x - box.width / 2, box.y - box.height / 2];
  made.append(shape("rect", { x, y, width: box.width, height: box.height, rx: 8 }));
  const name = cluster.node.kind === "step" ? stepLabel(cluster.node.step) : cluster.node.name;
  made.append(shape("text", { x: x + 9, y: y + 15 }, `▾ ${name}`));
  made.append(shape("title", {}, `Close ${name}`));
  made.addEventListener("click", () => {
    setOpen(cluster.node, false);
    choose(cluster.node, { from: "graph" });
  });
  drawn.set(`c-${cluster.node.id}`, made);
  return made;
}

function leafShape(part, box) {
  const { width, height } = part;
  const kind = part.node ? part.node.kind : part.id.startsWith("out") ? "out value" : `${values[part.value].role} value`;
  const made = shape("g", {
    class: `leaf ${kind}`, "data-id": part.id, role: "button", tabindex: -1,
    transform: `translate(${box.x - width / 2} ${box.y - height / 2})`,
    "aria-label": part.note ? `${part.label}: ${part.note}` : part.label,
  });
  const failed = part.node && (part.node.kind === "step" ? part.node.step.check?.passed === false : hasFailed(part.node));
  if (failed) made.classList.add("failed");
  const rx = part.node?.kind === "group" ? 7 : part.value === undefined ? 4 : height / 2;
  made.append(shape("rect", { width, height, rx }));
  const middle = height / 2;
  const label = shape("text", { x: width / 2, y: part.note ? middle - 3 : middle + 4, class: "label" });
  label.append(part.node?.kind === "group" ? `▸ ${part.label}` : part.label);
  made.append(label);
  if (part.note) made.append(shape("text", { x: width / 2, y: middle + 11, class: "note" }, part.note));
  made.append(shape("title", {}, part.node ? part.node.name : `${values[part.value].label || values[part.value].name}`));
  made.addEventListener("click", () => clickLeaf(part));
  made.addEventListener("dblclick", () => part.node?.children.length && setOpen(part.node, !part.node.open));
  drawn.set(part.id, made);
  return made;
}

function clickLeaf(part) {
  if (!part.node) return chooseValue(part.value);
  if (part.node.kind === "group") setOpen(part.node, true);
  choose(part.node, { from: "graph" });
}

// One curve each way, beside each other.
function edgeShapes(link, points) {
  const width = (bytes) => 1 + 0.75 * Math.max(0, Math.log10(bytes + 1) - 1);
  const names = clipped(link.values.map((id) => values[id].name).join(", "), 80);
  const ahead = width(link.bytes);
  const behind = link.back ? width(link.back) : 0;
  const both = link.back > 0;
  const made = [edgeShape(shifted(points, both ? ahead / 2 + 1 : 0), "forward", ahead, link)];
  if (both) made.push(edgeShape(shifted(points, -behind / 2 - 1).reverse(), "backward", behind, link));
  made.forEach((path) => path.append(shape("title", {}, `${names}: ${quantity(link.bytes, "B")}`)));
  return made;
}

function edgeShape(points, way, width, link) {
  return shape("path", {
    d: curve(points), class: `edge ${way}`, "stroke-width": width.toFixed(2), "marker-end": `url(#tip-${way})`,
    "data-from": link.from, "data-to": link.to,
  });
}

function shifted(points, distance) {
  return points.map((point, i) => {
    const before = points[Math.max(0, i - 1)];
    const after = points[Math.min(points.length - 1, i + 1)];
    const [dx, dy] = [after.x - before.x, after.y - before.y];
    const length = Math.hypot(dx, dy) || 1;
    return { x: point.x + (dy / length) * distance, y: point.y - (dx / length) * distance };
  });
}

function curve(points) {
  const text = (p) => `${p.x.toFixed(1)} ${p.y.toFixed(1)}`;
  let path = `M${text(points[0])}`;
  for (let i = 1; i < points.length - 1; i += 1) {
    const [here, next] = [points[i], points[i + 1]];
    const end = i === points.length - 2 ? next : { x: (here.x + next.x) / 2, y: (here.y + next.y) / 2 };
    path += ` Q${text(here)} ${text(end)}`;
  }
  return points.length === 2 ? `${path} L${text(points[1])}` : path;
}

function markGraph() {
  const id = state.value !== null ? `v${state.value}` : state.chosen ? visible(state.chosen).id : "";
  for (const [key, made] of drawn) made.classList.toggle("chosen", key === id || key === `c-${id}`);
  for (const path of canvas.querySelectorAll(".edge")) {
    path.classList.toggle("near", path.dataset.from === id || path.dataset.to === id);
  }
  const made = drawn.get(id) ?? drawn.get(`c-${id}`);
  if (made) reveal(made);
}

// Scrolls the canvas, and nothing else, until the drawing is in sight.
function reveal(made) {
  const [box, view] = [made.getBoundingClientRect(), canvas.getBoundingClientRect()];
  const margin = 40;
  if (!view.width) return;
  if (box.top < view.top + margin || box.bottom > view.bottom - margin) {
    canvas.scrollTop += box.top - view.top - Math.min(view.height / 3, Math.max(margin, (view.height - box.height) / 2));
  }
  if (box.left < view.left + margin || box.right > view.right - margin) {
    canvas.scrollLeft += (box.left + box.right - view.left - view.right) / 2;
  }
}

function fitting(least) {
  const [width, height] = [canvas.clientWidth - 8, canvas.clientHeight - 8];
  if (width <= 0 || height <= 0) return 1;
  return Math.max(least, Math.min(1.15, width / size.width, height / size.height));
}

function zoomTo(scale) {
  const bounded = Math.min(3, Math.max(0.15, scale));
  const svg = canvas.firstChild;
  svg.setAttribute("width", size.width * bounded);
  svg.setAttribute("height", size.height * bounded);
  shownScale = bounded;
}

let shownScale = 1;

function zoomBy(factor) {
  const before = shownScale;
  const [x, y] = [canvas.scrollLeft + canvas.clientWidth / 2, canvas.scrollTop + canvas.clientHeight / 2];
  zoomTo(shownScale * factor);
  state.scale = shownScale;
  canvas.scrollLeft = (x * shownScale) / before - canvas.clientWidth / 2;
  canvas.scrollTop = (y * shownScale) / before - canvas.clientHeight / 2;
}

function fit() {
  state.scale = null;
  zoomTo(fitting(0.15));
}

canvas.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  zoomBy(event.deltaY < 0 ? 1.12 : 1 / 1.12);
}, { passive: false });
