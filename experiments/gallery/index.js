"use strict";
(() => {
  const entries = [...document.querySelectorAll(".derivation")];
  const texts = new Map(entries.map((entry) => [entry, `${entry.id} ${entry.closest("section").querySelector("h2").textContent} ${entry.textContent}`.toLowerCase()]));
  const filter = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const all = document.getElementById("all");

  // Formulas are drawn when they are first looked at.
  function draw(entry) {
    for (const formula of entry.querySelectorAll("[data-latex]")) {
      const latex = formula.textContent;
      formula.removeAttribute("data-latex");
      temml.render(latex, formula, { displayMode: true, throwOnError: false, trust: false });
    }
    for (const prose of entry.querySelectorAll("[data-prose]")) {
      prose.removeAttribute("data-prose");
      prose.replaceChildren(...prose.textContent.split(/(\$[^$]+\$|`[^`]+`)/).map(piece));
    }
  }

  // Words as they are, $formulas$, and `names`, those of derivations as links.
  function piece(text) {
    if (text.length > 2 && text.startsWith("$")) {
      const formula = document.createElement("span");
      temml.render(text.slice(1, -1), formula, { throwOnError: false, trust: false });
      return formula;
    }
    if (text.length > 2 && text.startsWith("`")) {
      const name = text.slice(1, -1);
      const target = document.getElementById(name);
      const made = document.createElement(target?.classList.contains("derivation") ? "a" : "code");
      if (made.tagName === "A") made.href = `#${name}`;
      made.textContent = made.tagName === "A" ? name.replaceAll("_", " ") : name;
      return made;
    }
    return document.createTextNode(text);
  }

  function sift() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const entry of entries) {
      const match = words.every((word) => texts.get(entry).includes(word));
      entry.hidden = !match;
      if (match) count += 1;
    }
    for (const section of document.querySelectorAll("main section")) {
      section.hidden = [...section.querySelectorAll(".derivation")].every((entry) => entry.hidden);
    }
    shown.textContent = words.length ? `${count} of ${entries.length}` : "";
    document.getElementById("none").hidden = count > 0;
  }

  function openNamed() {
    const entry = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (entry?.classList.contains("derivation")) entry.open = true;
  }

  function openAll() {
    const open = entries.some((entry) => !entry.hidden && !entry.open);
    for (const entry of entries) if (!entry.hidden) entry.open = open;
    all.textContent = open ? "close all" : "open all";
  }

  function remembered() {
    try {
      return localStorage.getItem("functional_dl-theme");
    } catch {
      return null;
    }
  }

  function turnTheme() {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem("functional_dl-theme", next);
    } catch { /* a frame without storage forgets it */ }
  }

  const darkness = window.matchMedia("(prefers-color-scheme: dark)");
  document.documentElement.dataset.theme = remembered() ?? (darkness.matches ? "dark" : "light");
  document.getElementById("theme").addEventListener("click", turnTheme);
  for (const entry of entries) entry.addEventListener("toggle", () => entry.open && draw(entry));
  window.addEventListener("beforeprint", () => entries.forEach(draw));
  filter.addEventListener("input", sift);
  all.addEventListener("click", openAll);
  window.addEventListener("hashchange", openNamed);
  document.getElementById("find").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input")) {
      if (event.key === "Escape") { filter.value = ""; sift(); filter.blur(); }
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { event.preventDefault(); filter.focus(); }
    if (event.key === "t") turnTheme();
  });
  openNamed();
})();
