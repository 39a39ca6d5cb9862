// ---- search: a step's name, primitive, source line or place

const query = document.getElementById("query");
const haystack = order.map((index) => {
  const step = stepAt.get(index);
  const names = [...step.inputs, ...step.outputs].map((id) => values[id].label);
  return [index, [step.title, step.primitive, step.label, step.line, ...step.source, ...step.group, ...names].join("\n").toLowerCase()];
});

combobox({
  query, hits: document.getElementById("hits"), form: document.getElementById("find"), make: element, quiet: "quiet",
  matches: (words) => haystack.filter(([, text]) => words.every((word) => text.includes(word))),
  row([index]) {
    const step = stepAt.get(index);
    return [element("span", { class: "mono" }, clipped(step.title, 48)), element("span", { class: "place" }, step.source[0] ?? "")];
  },
  take: ([index]) => choose(nodeOfStep.get(index), { reveal: true }),
  none: () => "No step found",
});
