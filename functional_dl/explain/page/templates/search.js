// ---- search: a step's name, primitive, source line or place

const query = document.getElementById("query");
const hits = document.getElementById("hits");
const MOST_HITS = 12;
const haystack = order.map((index) => {
  const step = stepAt.get(index);
  const names = [...step.inputs, ...step.outputs].map((id) => values[id].label);
  return [index, [step.title, step.primitive, step.label, step.line, ...step.source, ...step.group, ...names].join("\n").toLowerCase()];
});
let active = -1;

function search() {
  const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = words.length ? haystack.filter(([, text]) => words.every((word) => text.includes(word))) : [];
  active = found.length ? 0 : -1;
  hits.replaceChildren(...found.slice(0, MOST_HITS).map(([index], place) => {
    const step = stepAt.get(index);
    return element("li", { role: "option", id: `hit-${place}`, "data-index": index, onpointerdown: (event) => { event.preventDefault(); take(index); } },
      element("span", { class: "mono" }, clipped(step.title, 48)), element("span", { class: "place" }, step.source[0] ?? ""));
  }));
  const more = found.length - MOST_HITS;
  if (words.length && more > 0) hits.append(element("li", { class: "quiet", role: "presentation" }, `${more} more`));
  if (words.length && !found.length) hits.append(element("li", { class: "quiet", role: "presentation" }, "No step found"));
  showHits(words.length > 0);
  markHit();
}

function showHits(shown) {
  hits.hidden = !shown;
  query.setAttribute("aria-expanded", String(shown));
}

function markHit() {
  const options = [...hits.querySelectorAll("[role=option]")];
  options.forEach((option, place) => option.setAttribute("aria-selected", String(place === active)));
  if (options[active]) {
    query.setAttribute("aria-activedescendant", options[active].id);
    options[active].scrollIntoView({ block: "nearest" });
  } else query.removeAttribute("aria-activedescendant");
}

function take(index) {
  showHits(false);
  choose(nodeOfStep.get(index), { reveal: true });
  query.blur();
}

query.addEventListener("input", search);
query.addEventListener("focus", () => query.value && search());
query.addEventListener("blur", () => showHits(false));
query.addEventListener("keydown", (event) => {
  const options = hits.querySelectorAll("[role=option]");
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    active = (active + (event.key === "ArrowDown" ? 1 : -1) + options.length) % (options.length || 1);
    markHit();
    event.preventDefault();
  } else if (event.key === "Enter") {
    if (options[active]) take(Number(options[active].dataset.index));
    event.preventDefault();
  } else if (event.key === "Escape") {
    query.value = "";
    showHits(false);
    query.blur();
    event.stopPropagation();
  }
});
document.getElementById("find").addEventListener("submit", (event) => event.preventDefault());
