// ---- a search box with a list of hits: arrows, Enter and Escape, and what a screen reader is told

// matches(words) -> hits; row(hit) -> what a row shows; take(hit) when one is chosen; none: the text where nothing is found
function combobox({ query, hits, form, make, matches, row, take, none, quiet, most = 12 }) {
  let found = [];
  let active = -1;
  function search() {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = words.length ? matches(words) : [];
    active = found.length ? 0 : -1;
    hits.replaceChildren(...found.slice(0, most).map((hit, place) => make("li", { role: "option", id: `hit-${place}`, onpointerdown: (event) => { event.preventDefault(); choose(hit); } }, ...row(hit))));
    const more = found.length > most ? `${found.length - most} more` : found.length ? "" : none();
    if (words.length && more) hits.append(make("li", { class: quiet, role: "presentation" }, more));
    show(words.length > 0);
    mark();
  }
  function show(shown) {
    hits.hidden = !shown;
    query.setAttribute("aria-expanded", String(shown));
  }
  function mark() {
    const options = [...hits.querySelectorAll("[role=option]")];
    options.forEach((option, place) => option.setAttribute("aria-selected", String(place === active)));
    if (options[active]) {
      query.setAttribute("aria-activedescendant", options[active].id);
      options[active].scrollIntoView({ block: "nearest" });
    } else query.removeAttribute("aria-activedescendant");
  }
  function choose(hit) {
    show(false);
    query.blur();
    take(hit);
  }
  query.addEventListener("input", search);
  query.addEventListener("focus", () => query.value && search());
  query.addEventListener("blur", () => show(false));
  query.addEventListener("keydown", (event) => {
    const count = Math.min(found.length, most);
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      active = (active + (event.key === "ArrowDown" ? 1 : -1) + count) % (count || 1);
      mark();
      event.preventDefault();
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (found[active]) choose(found[active]);
    } else if (event.key === "Escape") {
      query.value = "";
      show(false);
      query.blur();
      event.stopPropagation();
    }
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  return search;
}
