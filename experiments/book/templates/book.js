"use strict";
(() => {
  const root = document.body.dataset.root;
  const $ = (id) => document.getElementById(id);

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value !== false && value != null) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  }

  // ---- formulas

  for (const place of document.querySelectorAll(".math")) {
    const latex = place.textContent;
    temml.render(latex, place, { displayMode: place.classList.contains("display"), throwOnError: false, trust: false });
  }

  // ---- theme and contents

  function turnTheme() {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem("functional_dl-theme", next); } catch { /* forgotten */ }
  }
  $("theme").addEventListener("click", turnTheme);
  const menu = $("menu");
  function showContents(shown) {
    document.body.classList.toggle("menu", shown);
    menu.setAttribute("aria-expanded", String(shown));
  }
  menu.addEventListener("click", () => showContents(!document.body.classList.contains("menu")));
  $("contents").addEventListener("click", (event) => event.target.closest("a") && showContents(false));
  const here = document.querySelector("#contents .here");
  if (here) {
    const nav = $("contents");
    nav.scrollTop = Math.max(0, here.offsetTop - nav.clientHeight / 3);
  }
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });

  // ---- exercises

  for (const form of document.querySelectorAll("form.exercise")) {
    const said = form.querySelector("output");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const given = number(String(new FormData(form).get([...form.elements].find((e) => e.name).name) ?? ""));
      const answer = Number(form.dataset.answer);
      const tolerance = Number(form.dataset.tolerance) * (Math.abs(answer) || 1);
      const right = Math.abs(given - answer) <= tolerance;
      said.className = Number.isNaN(given) ? "" : right ? "good" : "bad";
      said.textContent = Number.isNaN(given) ? "a number, please, such as 0.25, 1/4 or 2^-2" : right ? "✓ right" : "✗ not yet";
    });
  }

  // 0.25, -1/4, 3*2^5, e, pi: numbers joined by * and /, powers by ^.
  function number(text) {
    const clean = text.replace(/\s+/g, "").replace(/−/g, "-").replace(/\*\*/g, "^").replace(/,/g, ".").replace(/π/g, "pi");
    const factors = clean.split(/([*/])/);
    let total = NaN;
    for (let i = 0; i < factors.length; i += 2) {
      const value = power(factors[i]);
      total = i === 0 ? value : factors[i - 1] === "*" ? total * value : total / value;
    }
    return total;
  }
  function power(text) {
    const parts = text.split("^").map((part) => {
      const sign = part.startsWith("-") ? -1 : 1;
      const bare = part.replace(/^[-+]/, "");
      if (bare === "e") return sign * Math.E;
      if (bare === "pi") return sign * Math.PI;
      const root = /^sqrt\(?([\d.]+)\)?$/.exec(bare);
      if (root) return sign * Math.sqrt(Number(root[1]));
      return bare === "" ? NaN : sign * Number(bare);
    });
    return parts.length === 1 ? parts[0] : parts.length === 2 ? Math.sign(parts[0]) ** parts[1] * Math.abs(parts[0]) ** parts[1] : NaN;
  }

  // ---- search: the index is read when it is first wanted

  const query = $("query");
  let index = null;
  function load() {
    if (index !== null) return;
    index = [];
    document.head.append(element("script", { src: `${root}assets/search.js`, onload: () => { index = window.BOOK_SEARCH; search(); } }));
  }
  function matches(words) {
    const found = [];
    for (const [href, page, heading, text] of index ?? []) {
      const title = `${page} ${heading}`.toLowerCase();
      const low = text.toLowerCase();
      if (!words.every((word) => title.includes(word) || low.includes(word))) continue;
      const score = words.filter((word) => heading.toLowerCase().includes(word)).length * 4
        + words.filter((word) => page.toLowerCase().includes(word)).length * 2
        + (heading.toLowerCase() === words.join(" ") ? 20 : 0);
      found.push([score, href, page, heading, text, low.indexOf(words[0])]);
    }
    return found.sort((a, b) => b[0] - a[0]);
  }
  query.addEventListener("focus", load);
  const search = combobox({
    query, hits: $("hits"), form: $("find"), make: element, quiet: "soft", matches,
    row([, , page, heading, text, at]) {
      const start = Math.max(0, at - 30);
      const piece = `${start ? "…" : ""}${text.slice(start, start + 90)}`;
      return [element("b", {}, heading === page ? page : `${page}: ${heading}`), element("small", {}, piece)];
    },
    take: ([, href]) => { location.href = root + href; },
    none: () => (index?.length ? "Nothing found" : ""),
  });

  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { event.preventDefault(); query.focus(); }
    if (event.key === "t") turnTheme();
    if (event.key === "Escape") showContents(false);
    if (event.target.closest("[data-moving], summary, button")) return;
    if (event.key === "ArrowLeft") document.querySelector("a[rel=prev]")?.click();
    if (event.key === "ArrowRight") document.querySelector("a[rel=next]")?.click();
  });
})();
