// ---- what is chosen, what is open, the head of the page, keys

const main = document.querySelector("main");
const small = window.matchMedia("(max-width: 820px)");

function setOpen(node, open) {
  if (node.open === open) return;
  node.open = open;
  state.stale = true;
}

// Chooses a node; `reveal` opens the groups around it; `from` says who asked.
function choose(node, { reveal: opens = false, from = "" } = {}) {
  if (opens) ancestors(node).forEach((above) => setOpen(above, true));
  state.chosen = node;
  state.value = null;
  refresh();
  if (small.matches && node.kind === "step" && from !== "keys") showPane("detail");
}

function chooseValue(id) {
  state.value = id;
  refresh();
  if (small.matches) showPane("detail");
}

function refresh() {
  if (state.stale) {
    state.stale = false;
    const [left, top] = [canvas.scrollLeft, canvas.scrollTop];
    drawOutline();
    drawGraph();
    if (state.scale !== null) [canvas.scrollLeft, canvas.scrollTop] = [left, top];
  }
  markRow();
  markGraph();
  drawDetail();
}

function move(by) {
  const here = state.chosen;
  let place;
  if (!here) place = by > 0 ? 0 : order.length - 1;
  else if (here.kind === "group") place = by > 0 ? here.first : here.first - 1;
  else place = order.indexOf(here.step.index) + by;
  if (place < 0 || place >= order.length) return;
  choose(nodeOfStep.get(order[place]), { reveal: true, from: "keys" });
}

function toggleChosen() {
  const node = state.chosen;
  if (!node) return move(1);
  if (node.children.length) {
    setOpen(node, !node.open);
    choose(node, { from: "keys" });
  } else if (small.matches) showPane("detail");
}

function back() {
  if (state.value !== null) state.value = null;
  else if (state.chosen?.parent && state.chosen.parent !== root) return choose(state.chosen.parent, { from: "keys" });
  else state.chosen = null;
  refresh();
}

const KEYS = {
  ArrowRight: () => move(1), ArrowDown: () => move(1), ArrowLeft: () => move(-1), ArrowUp: () => move(-1),
  Enter: toggleChosen, "/": () => query.focus(), Escape: back, t: turnTheme,
  "+": () => zoomBy(1.2), "-": () => zoomBy(1 / 1.2), 0: fit,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input")) return;
  if (event.key === "Enter" && event.target.closest("button, a, [role=tab]")) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

// ---- theme

function setTheme(name) {
  document.documentElement.dataset.theme = name;
}

function turnTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  setTheme(next);
  remember(next);
}

function remember(name) {
  try {
    localStorage.setItem("functional_dl-theme", name);
  } catch { /* a frame without storage forgets it */ }
}

function remembered() {
  try {
    return localStorage.getItem("functional_dl-theme");
  } catch {
    return null;
  }
}

const darkness = window.matchMedia("(prefers-color-scheme: dark)");
setTheme(remembered() ?? (darkness.matches ? "dark" : "light"));
darkness.addEventListener("change", () => remembered() ?? setTheme(darkness.matches ? "dark" : "light"));
document.getElementById("theme").addEventListener("click", turnTheme);

// ---- head

function drawHead() {
  const list = data.arguments.map((argument) => {
    const several = argument.values.length > 1;
    const text = several ? plural(argument.values.length, "array") : shapeText(values[argument.values[0]]);
    return element("span", { class: "argument" }, element("b", { class: "mono" }, argument.name), ` ${text}`);
  });
  const results = data.outputs.map((id) => {
    const value = values[id];
    const figure = value.shape.length === 0 && value.summary ? ` = ${number(value.summary.mean, 6)}` : "";
    return element("span", { class: "argument" }, `${value.dtype} ${shapeText(value)}`, element("b", {}, figure));
  });
  document.getElementById("signature").append(...list, element("span", { class: "to" }, "→"), ...results.slice(0, 4));
  const { ledger, checks } = data;
  const good = checks.failed.length === 0;
  const entries = [
    ["forward", quantity(ledger.forward_flops, "FLOP"), "the value"],
    ["backward", quantity(ledger.backward_flops, "FLOP"), "all cotangents"],
    ["ratio", typeof ledger.ratio === "number" ? ledger.ratio.toFixed(2) : "–", "(forward + backward) / forward"],
    ["kept", quantity(ledger.residual_bytes, "B"), "residuals for the backward sweep"],
    ["peak", quantity(ledger.peak_bytes, "B"), "the most alive at once"],
  ];
  if (ledger.xla_flops) entries.push(["XLA counts", quantity(ledger.xla_flops, "FLOP"), "in the compiled program"]);
  const totals = document.getElementById("totals");
  totals.append(...entries.map(([name, text, title]) =>
    element("div", { title }, element("dt", { class: name }, name), element("dd", {}, text))));
  if (checks.done) {
    const words = good ? `✓ ${checks.done} of ${checks.done}` : `✗ ${checks.failed.length} of ${checks.done} wrong`;
    totals.append(element("div", { title: `largest error ${number(checks.worst)}` }, element("dt", {}, "rules checked"),
      element("dd", { class: good ? "good" : "bad" }, good ? words
        : element("button", { type: "button", class: "link bad", onclick: () => choose(nodeOfStep.get(checks.failed[0]), { reveal: true }) }, words))));
  }
}

// ---- panes of a narrow screen

function showPane(name) {
  main.dataset.pane = name;
  for (const tab of document.querySelectorAll("#tabs [role=tab]")) {
    tab.setAttribute("aria-selected", String(tab.dataset.pane === name));
  }
  if (name === "graph" && state.scale === null) zoomTo(fitting(READABLE));
  if (name === "graph") markGraph();
}

for (const tab of document.querySelectorAll("#tabs [role=tab]")) {
  tab.addEventListener("click", () => showPane(tab.dataset.pane));
}
document.getElementById("larger").addEventListener("click", () => zoomBy(1.2));
document.getElementById("smaller").addEventListener("click", () => zoomBy(1 / 1.2));
document.getElementById("fit").addEventListener("click", fit);
document.getElementById("fold").addEventListener("click", () => {
  nodes.forEach((node) => setOpen(node, false));
  if (state.chosen) state.chosen = visible(state.chosen);
  refresh();
});
window.addEventListener("resize", () => state.scale === null && zoomTo(fitting(READABLE)));

if (root.children.length === 1 && root.children[0].kind === "group") root.children[0].open = true;
drawHead();
refresh();
