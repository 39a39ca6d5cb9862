// ---- the explanation as a tree of groups and steps, and who makes and reads each value

const data = JSON.parse(document.getElementById("explanation").textContent);
const values = data.values;
const stepAt = new Map(); // index -> step
const nodes = new Map(); // id -> node of the tree
const nodeOfStep = new Map(); // index -> node
const producer = new Map(); // value -> index of the step that makes it
const readers = new Map(); // value -> indices of the steps that read it
const bodyArgument = new Map(); // value -> [node of the loop, place]
const root = { id: "root", kind: "group", name: data.name, parent: null, children: [], depth: -1, open: true };
const order = []; // all steps' indices, a body's after its step
// chosen: a node of the tree; value: a value's id; scale: of the graph, null to fit it; stale: what is open changed
const state = { chosen: null, value: null, scale: null, stale: true };
const total = data.ledger.forward_flops + data.ledger.backward_flops;

function makeNode(node) {
  nodes.set(node.id, node);
  node.parent.children.push(node);
  return node;
}

function makeStep(step, parent) {
  const node = makeNode({
    id: `s${step.index}`, kind: "step", name: step.title, parent, children: [], depth: parent.depth + 1, open: false,
    step, flops: step.flops, backward: step.backward_flops, kept: step.bytes_kept, first: order.length, count: 1,
  });
  stepAt.set(step.index, step);
  nodeOfStep.set(step.index, node);
  order.push(step.index);
  for (const value of step.outputs) producer.set(value, step.index);
  for (const value of new Set(step.inputs)) readers.set(value, [...(readers.get(value) ?? []), step.index]);
  step.arguments.forEach((value, place) => bodyArgument.set(value, [node, place]));
  for (const inner of step.body) makeStep(inner, node);
  return node;
}

function makeLevel(groups, loose, parent, byIndex) {
  const starts = [
    ...groups.map((group) => [Math.min(...stepsOf(group)), group]),
    ...loose.map((index) => [index, byIndex.get(index)]),
  ].sort((a, b) => a[0] - b[0]);
  for (const [, item] of starts) {
    if (item.children === undefined) makeStep(item, parent);
    else makeGroup(item, parent, byIndex);
  }
}

function makeGroup(group, parent, byIndex) {
  const node = makeNode({
    id: `g${nodes.size}`, kind: "group", name: group.name, parent, children: [], depth: parent.depth + 1, open: false,
    flops: group.flops, backward: group.backward_flops, kept: group.bytes_kept, count: stepsOf(group).length,
    first: order.length,
  });
  makeLevel(group.children, group.steps, node, byIndex);
}

function stepsOf(group) {
  return [...group.steps, ...group.children.flatMap(stepsOf)];
}

makeLevel(data.groups, data.loose, root, new Map(data.steps.map((step) => [step.index, step])));

function ancestors(node) {
  const found = [];
  for (let at = node.parent; at && at !== root; at = at.parent) found.unshift(at);
  return found;
}

// The outermost closed node that hides this one, else the node itself.
function visible(node) {
  return ancestors(node).find((above) => !above.open) ?? node;
}

function isShown(node) {
  return visible(node) === node;
}

function inside(node, group) {
  for (let at = node; at; at = at.parent) if (at === group) return true;
  return false;
}

function commonGroup(list) {
  let group = list[0].parent;
  while (!list.every((node) => inside(node, group))) group = group.parent;
  return group;
}

function stepsBelow(node) {
  return node.kind === "step" ? [node.step] : node.children.flatMap(stepsBelow);
}
