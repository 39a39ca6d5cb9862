"use strict";
// Before the page is drawn: the theme that was chosen, or the system's.
(() => {
  let kept = null;
  try { kept = localStorage.getItem("functional_dl-theme"); } catch { /* no storage: the system's theme */ }
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = kept ?? (dark ? "dark" : "light");
})();
