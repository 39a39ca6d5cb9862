"use strict";
// The theme's button; on the front page, search and filter.
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("functional_dl-theme", root.dataset.theme); } catch { /* no storage: for this page only */ }
});
const find = document.getElementById("find");
if (find) {
  const query = document.getElementById("query"), cards = [...document.querySelectorAll(".cards > li")];
  const show = () => {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean), kind = find.elements.show.value;
    let shown = 0;
    for (const card of cards) {
      const fits = (kind === "all" || card.dataset.verdict === kind) && words.every((word) => card.dataset.text.includes(word));
      card.hidden = !fits;
      shown += fits;
    }
    document.getElementById("count").textContent = shown === cards.length ? "" : `${shown} of ${cards.length} shown`;
  };
  find.addEventListener("input", show);
  find.addEventListener("submit", (event) => event.preventDefault());
  show();
}
