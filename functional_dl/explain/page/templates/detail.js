// ---- the chosen step: its source, its mathematics both ways, its numbers, its check

const detail = document.getElementById("detail");

function drawDetail() {
  detail.replaceChildren();
  detail.scrollTop = 0;
  if (state.value !== null) detail.append(...valuePage(state.value));
  else if (!state.chosen) detail.append(...frontPage());
  else if (state.chosen.kind === "group") detail.append(...groupPage(state.chosen));
  else detail.append(...stepPage(state.chosen.step));
}

function stepLink(index) {
  const step = stepAt.get(index);
  if (!step) return document.createTextNode(String(index));
  return element(
    "button",
    { type: "button", class: "link", title: step.title, onclick: () => choose(nodeOfStep.get(index), { reveal: true }) },
    element("span", { class: "index" }, String(index)), ` ${clipped(step.title, 40)}`,
  );
}

function heading(text, tag = "h3") {
  return element(tag, {}, text);
}

function stepPage(step) {
  const place = order.indexOf(step.index);
  const go = (index, label, key) =>
    element("button", {
      type: "button", class: "go", disabled: index === undefined, "aria-label": label, title: `${label} (${key})`,
      onclick: () => choose(nodeOfStep.get(index), { reveal: true }),
    }, key);
  const where = [...ancestors(nodeOfStep.get(step.index))].map((node) => node.name).join(" › ");
  return [
    element("div", { class: "crumbs" },
      element("span", {}, where || data.name),
      element("span", { class: "steps" }, go(order[place - 1], "Previous step", "←"),
        element("span", { class: "number" }, `${place + 1} of ${order.length}`), go(order[place + 1], "Next step", "→"))),
    element("h2", { class: "mono" }, step.title),
    sourceLine(step),
    heading("Forward"), formula(step.forward_latex),
    ...backwardPart(step),
    ...rulePart(step),
    ...fanInPart(step),
    checkPart(step),
    heading("Values"), valueTable([...new Set([...step.inputs, ...step.outputs])], new Set(step.outputs)),
    costs(step),
    ...bodyPart(step),
  ].filter(Boolean);
}

function sourceLine(step) {
  if (!step.line && !step.source.length) return null;
  const [first, ...callers] = step.source;
  return element("div", { class: "source" },
    element("pre", {}, element("code", {}, step.line || "")),
    element("span", { class: "place" }, first ?? "",
      callers.length ? element("span", { class: "callers" }, ` called from ${callers.join(", ")}`) : ""));
}

function backwardPart(step) {
  if (!step.backward_latex.length) return [element("p", { class: "quiet" }, "No cotangent flows back through this step.")];
  return [heading("Backward"), ...step.backward_latex.map((latex) => formula(latex))];
}

function rulePart(step) {
  const text = data.derivations[step.derivation];
  if (!text) return [];
  const [first, ...rest] = text.split(/\n\s*\n/);
  const parts = first.replace(/\s*\n\s*/g, " ").split(/\s*=>\s*/);
  const lines = parts.map((part, i) => element("div", {}, i ? element("span", { class: "so" }, "⇒ ") : "", ...typeset(part)));
  const more = rest.map((part) => element("p", {}, ...typeset(part.replace(/\s*\n\s*/g, " "))));
  return [heading(`Why: the rule of ${step.primitive}`), element("div", { class: "rule" }, ...lines, ...more)];
}

// A rule's plain text with its bars, indices and powers: x_i_bar, s_{t+1}, X^T.
const MARKS = /\b([A-Za-z])(_(?:[A-Za-z0-9]|\{[^}]*\}))?_bar(?![A-Za-z])|_(?:([A-Za-z0-9])\b|\{([^}]*)\})|\^(?:(-?[A-Za-z0-9])\b|[({]([^)}]*)[)}])/g;

function typeset(text) {
  const made = [];
  let end = 0;
  for (const found of text.matchAll(MARKS)) {
    const [all, stem, index, low, lowText, high, highText] = found;
    made.push(text.slice(end, found.index));
    if (stem) {
      made.push(element("span", { class: "bar" }, stem));
      if (index) made.push(element("sub", {}, index.replace(/[_{}]/g, "")));
    } else if (low ?? lowText) made.push(element("sub", {}, low ?? lowText));
    else made.push(element("sup", {}, high ?? highText));
    end = found.index + all.length;
  }
  return [...made, text.slice(end)];
}

function fanInPart(step) {
  return step.fan_ins.flatMap((fanIn) => [
    heading(plural(fanIn.terms.length, "path") + ", one sum"), formula(fanIn.latex),
    element("ol", { class: "terms" }, ...fanIn.terms.map((term) =>
      element("li", {}, term === null ? "the cotangent that was given" : stepLink(term)))),
  ]);
}

function checkPart(step) {
  if (!step.check) return null;
  const { passed, error, tolerance, oracle } = step.check;
  const words = passed ? "agrees with" : "disagrees with";
  return element("p", { class: `check ${passed ? "good" : "bad"}` },
    element("span", { "aria-hidden": "true" }, passed ? "✓ " : "✗ "),
    `The rule ${words} its oracles at these numbers. Error `, element("b", {}, number(error)),
    `, allowed ${number(tolerance)} (${oracle}).`);
}

function valueTable(ids, made = new Set()) {
  const rows = ids.flatMap((id) => {
    const value = values[id];
    const name = element("th", { scope: "row" },
      element("button", { type: "button", class: "link", title: value.label || value.name, onclick: () => chooseValue(id) },
        formula(value.latex, false)));
    const type = element("td", { class: "type" }, `${value.dtype} `, element("span", {}, shapeText(value)),
      made.has(id) ? element("em", {}, " made") : "", value.kept ? element("em", {}, " kept") : "");
    const lines = [element("tr", {}, name, type, ...summaryCells(value.summary, value.text))];
    if (value.ct_summary) {
      const bar = element("th", { scope: "row" }, formula(barred(value.latex), false));
      lines.push(element("tr", { class: "back" }, bar, element("td", { class: "type" }, "cotangent"),
        ...summaryCells(value.ct_summary, value.ct_text)));
    }
    return lines;
  });
  const head = ["", "", "norm", "lowest", "highest"].map((text) => element("th", { scope: "col" }, text));
  return element("div", { class: "wide" },
    element("table", { class: "values" }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)));
}

function summaryCells(summary, text) {
  if (!summary) return [element("td", { colspan: 3 })];
  const bad = summary.nonfinite
    ? [element("br"), element("span", { class: "bad" }, summary.special)] : [];
  return [
    element("td", { title: text || `mean ${number(summary.mean)}` }, number(summary.norm), ...bad),
    element("td", {}, number(summary.low)),
    element("td", {}, number(summary.high)),
  ];
}

function costs(node) {
  const backward = node.backward_flops ?? node.backward;
  const kept = node.bytes_kept ?? node.kept;
  const all = node.flops + backward;
  const words = [
    `${quantity(node.flops, "FLOP")} forward, ${quantity(backward, "FLOP")} backward`,
    all ? ` (${share(all, total)} of the whole)` : "",
    kept ? `; ${quantity(kept, "B")} kept for the backward pass` : "",
    node.linear ? "; linear" : "",
  ];
  return element("p", { class: "quiet" }, `${words.join("")}.`);
}

function bodyPart(step) {
  if (!step.body.length) return [];
  const runs = step.trips > 1 ? `run ${step.trips} times; numbers of its last pass` : "its steps";
  return [heading(`Inside (${runs})`), element("ul", { class: "terms plain" },
    ...step.body.map((inner) => element("li", {}, stepLink(inner.index))))];
}

function groupPage(node) {
  const costly = expensive(stepsBelow(node));
  return [
    element("div", { class: "crumbs" }, element("span", {}, ancestors(node).map((n) => n.name).join(" › ") || data.name)),
    element("h2", { class: "mono" }, node.name), costs(node), ...costly, ...sums(stepsBelow(node)),
    heading(plural(node.count, "step")),
    element("ul", { class: "terms plain" }, ...node.children.map((child) => element("li", {}, child.kind === "step"
      ? stepLink(child.step.index)
      : element("button", { type: "button", class: "link", onclick: () => { setOpen(child, true); choose(child, { reveal: true }); } },
        `▸ ${child.name}`)))),
  ];
}

function expensive(steps) {
  const list = [...steps].sort((a, b) => b.flops + b.backward_flops - a.flops - a.backward_flops).slice(0, 5)
    .filter((step) => step.flops + step.backward_flops);
  if (!list.length) return [];
  return [heading("Most expensive steps"), element("table", { class: "values expensive" }, element("tbody", {}, ...list.map((step) =>
    element("tr", {}, element("th", { scope: "row" }, stepLink(step.index)),
      element("td", {}, quantity(step.flops + step.backward_flops, "FLOP")),
      element("td", {}, share(step.flops + step.backward_flops, total))))))];
}

function sums(steps) {
  const list = steps.flatMap((step) => step.fan_ins.map((fanIn) => [step, fanIn]));
  if (!list.length) return [];
  const shown = list.slice(0, 12);
  return [heading("Fan-in sums"), element("ul", { class: "terms plain" }, ...shown.map(([step, fanIn]) =>
    element("li", {}, formula(fanIn.latex, false), element("span", { class: "quiet" }, " at "), stepLink(step.index)))),
    list.length > shown.length ? element("p", { class: "quiet" }, `and ${list.length - shown.length} more`) : ""];
}

function frontPage() {
  const parts = [
    element("h2", {}, "Value and cotangents"),
    element("p", {}, `${plural(order.length, "step")}, each with its pullback. Choose one in the outline or the graph; `,
      "click a block to open it."),
    ...expensive(data.steps), heading("Arguments and results"),
    valueTable([...new Set([...data.inputs.slice(0, 12), ...data.outputs])], new Set(data.outputs)),
  ];
  if (data.inputs.length > 12) parts.push(element("p", { class: "quiet" }, `and ${data.inputs.length - 12} more arguments`));
  parts.push(...sums(data.steps));
  if (data.source) parts.push(heading("Source"), element("pre", { class: "code" }, element("code", {}, data.source)));
  return parts;
}

function valuePage(id) {
  const value = values[id];
  const role = { input: "An argument", constant: "A constant", output: "A result", intermediate: "A value" }[value.role];
  const steps = (readers.get(id) ?? []).map((index) => element("li", {}, stepLink(index)));
  const made = producer.get(id);
  const fanIn = [...stepAt.values()].flatMap((step) => step.fan_ins).find((found) => found.value === id);
  return [
    element("div", { class: "crumbs" }, element("span", {}, `${role} of ${data.name}`)),
    element("h2", { class: "mono" }, value.label || value.name),
    valueTable([id]),
    element("p", { class: "quiet" }, `${quantity(value.bytes, "B")}${value.kept ? "; kept for the backward sweep" : ""}.`),
    ...(value.text ? [heading("Numbers"), element("pre", { class: "code" }, value.text)] : []),
    ...(value.ct_text ? [heading("Its cotangent's"), element("pre", { class: "code" }, value.ct_text)] : []),
    ...(made === undefined ? [] : [heading("Made by"), element("p", {}, stepLink(made))]),
    ...(steps.length ? [heading("Read by"), element("ul", { class: "terms plain" }, ...steps)] : []),
    ...(fanIn ? [heading("Its cotangent is a sum"), formula(fanIn.latex), element("ol", { class: "terms" },
      ...fanIn.terms.map((term) => element("li", {}, term === null ? "the cotangent that was given" : stepLink(term))))] : []),
  ];
}
