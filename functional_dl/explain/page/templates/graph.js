// ---- the graph: a layered drawing of what the outline shows open, forward and backward edges side by side

const ruler = document.createElement("canvas").getContext("2d");
const MANY = 250; // nodes, above which the quicker way to rank them is taken

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

const FEW = 3; // arguments that a closed group shows one by one

// Closed group -> the arguments that only its steps read.
function argumentsInside() {
  const held = new Map();
  for (const [id, steps] of readers) {
    if (producer.has(id) || bodyArgument.has(id) || values[id].role !== "input") continue;
    const seen = new Set(steps.map((step) => visible(nodeOfStep.get(step))));
    const [group] = seen;
    if (seen.size === 1 && group.kind === "group") held.set(group, [...(held.get(group) ?? []), id]);
  }
  return held;
}

// The leaf that a value comes out of, making small leaves for arguments and constants where they are first needed.
function origin(id, leaves, held) {
  const loop = bodyArgument.get(id);
  if (loop) return loop[0].open && isShown(loop[0]) ? valueLeaf(id, `c-${loop[0].id}`, leaves) : null;
  const index = producer.get(id);
  if (index !== undefined) return visible(nodeOfStep.get(index)).id;
  const read = (readers.get(id) ?? []).map((step) => nodeOfStep.get(step));
  if (!read.length) return null;
  const closed = visible(read[0]);
  const ids = held.get(closed) ?? [];
  if (ids.includes(id)) return argumentLeaf(closed, ids.length > FEW ? ids : [id], leaves);
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

function argumentLeaf(group, ids, leaves) {
  const parent = group.parent === root ? null : `c-${group.parent.id}`;
  if (ids.length === 1) return valueLeaf(ids[0], parent, leaves);
  const key = `a-${group.id}`;
  const label = `${ids.length} arguments`;
  const names = ids.map((id) => values[id].label || values[id].name).join("\n");
  const width = textWidth(label, FONT.label) + 16;
  if (!leaves.has(key)) leaves.set(key, { id: key, value: ids[0], group, names, label, note: "", parent, width, height: 20 });
  return key;
}

function edges(leaves) {
  const found = new Map();
  const held = argumentsInside();
  const add = (from, to, id, back) => {
    if (!from || !to || from === to || !leaves.has(from) || !leaves.has(to)) return;
    const key = `${from}>${to}`;
    const edge = found.get(key) ?? { from, to, values: [], backs: new Set(), bytes: 0, back: 0 };
    if (!edge.values.includes(id)) {
      edge.values.push(id);
      edge.bytes += values[id].bytes;
    }
    if (back && !edge.backs.has(id)) { // perhaps not the first of the steps that read it
      edge.backs.add(id);
      edge.back += values[id].bytes || 1;
    }
    found.set(key, edge);
  };
  for (const index of order) {
    const node = nodeOfStep.get(index);
    const target = visible(node);
    const opened = target === node && node.open && node.children.length > 0;
    const back = node.step.backward_latex.length > 0;
    node.step.inputs.forEach((id, place) => {
      const argument = opened ? node.step.arguments[place] : undefined;
      const to = argument === undefined ? target.id : valueLeaf(argument, `c-${node.id}`, leaves);
      add(origin(id, leaves, held), to, id, back && values[id].differentiated);
    });
    if (opened) {
      for (const inner of node.step.body) {
        const last = inner.outputs.filter((id) => !readers.has(id));
        for (const id of last) add(visible(nodeOfStep.get(inner.index)).id, node.id, id, values[id].differentiated);
      }
    }
  }
  data.outputs.forEach((id) => {
    const from = origin(id, leaves, held);
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
