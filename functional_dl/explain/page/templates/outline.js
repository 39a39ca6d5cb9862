// ---- the outline: groups that unfold, steps, costs

const tree = document.getElementById("tree");
const rows = new Map(); // node id -> its tree item

function drawOutline() {
  tree.replaceChildren();
  rows.clear();
  drawRows(root, tree);
  markRow();
}

function drawRows(node, list) {
  for (const child of node.children) {
    const item = element("li", { role: "treeitem", id: `row-${child.id}`, "aria-level": child.depth + 1 });
    rows.set(child.id, item);
    item.append(row(child));
    if (child.children.length) {
      item.setAttribute("aria-expanded", String(child.open));
      if (child.open) {
        const inner = element("ul", { role: "group" });
        drawRows(child, inner);
        item.append(inner);
      }
    }
    list.append(item);
  }
}

function row(node) {
  const folds = node.children.length > 0;
  const failed = node.kind === "step" ? node.step.check && !node.step.check.passed : hasFailed(node);
  const line = element(
    "div",
    { class: `row ${node.kind}${node.flops + node.backward ? "" : " free"}`, style: `--depth:${node.depth}` },
    element("span", { class: "fold", "aria-hidden": "true" }, folds ? (node.open ? "▾" : "▸") : ""),
    element("span", { class: "name", title: node.name }, node.kind === "group" ? node.name : stepLabel(node.step)),
    failed ? element("span", { class: "bad", title: "a check failed" }, "✗") : null,
    ...costCells(node.flops + node.backward),
  );
  line.addEventListener("click", (event) => {
    const toggles = folds && (node.kind === "group" || event.target.classList.contains("fold"));
    if (toggles) setOpen(node, !node.open);
    choose(node, { from: "outline" });
  });
  return line;
}

function costCells(flops) {
  if (!flops) return [];
  return [element("span", { class: "cost" }, quantity(flops, "")), element("span", { class: "share" }, share(flops, total))];
}

function hasFailed(node) {
  return data.checks.failed.some((index) => inside(nodeOfStep.get(index), node));
}

function markRow() {
  for (const [id, item] of rows) {
    const chosen = state.chosen?.id === id;
    item.setAttribute("aria-selected", String(chosen));
    item.tabIndex = chosen ? 0 : -1;
    if (chosen) item.firstChild.scrollIntoView({ block: "nearest" });
  }
  if (![...rows.values()].some((item) => item.tabIndex === 0) && tree.firstChild) tree.firstChild.tabIndex = 0;
}

// Keys of a tree: up, down, in, out.
tree.addEventListener("keydown", (event) => {
  const item = event.target.closest("[role=treeitem]");
  if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
  const node = nodes.get(item.id.slice(4));
  const list = [...rows.keys()];
  const place = list.indexOf(node.id);
  let next = null;
  if (event.key === "ArrowDown") next = nodes.get(list[place + 1]);
  else if (event.key === "ArrowUp") next = nodes.get(list[place - 1]);
  else if (event.key === "Home") next = nodes.get(list[0]);
  else if (event.key === "End") next = nodes.get(list.at(-1));
  else if (event.key === "ArrowRight" && node.children.length) {
    if (node.open) next = node.children[0];
    else setOpen(node, true);
  } else if (event.key === "ArrowLeft") {
    if (node.open && node.children.length) setOpen(node, false);
    else if (node.parent !== root) next = node.parent;
  } else return;
  event.preventDefault();
  event.stopPropagation();
  choose(next ?? node, { from: "outline" });
  rows.get((next ?? node).id)?.focus();
});
