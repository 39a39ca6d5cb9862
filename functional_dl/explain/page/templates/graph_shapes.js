// ---- the graph's clusters, leaves and edges as SVG

const SVG = "http://www.w3.org/2000/svg";

function shape(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
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
  made.append(shape("title", {}, part.node?.name ?? part.names ?? (values[part.value].label || values[part.value].name)));
  made.addEventListener("click", () => clickLeaf(part));
  made.addEventListener("dblclick", () => part.node?.children.length && setOpen(part.node, !part.node.open));
  drawn.set(part.id, made);
  return made;
}

function clickLeaf(part) {
  if (part.group) {
    setOpen(part.group, true);
    return choose(part.group, { from: "graph" });
  }
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
