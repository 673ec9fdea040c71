// Light or dark, before anything is painted: what the reader chose here last, else what the system says.
"use strict";
(() => {
  const KEY = "ollamake-theme";
  let chosen = null;
  try { chosen = localStorage.getItem(KEY); } catch { /* a browser that keeps nothing for files */ }
  const root = document.documentElement;
  root.classList.add("js");
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const tell = () => document.dispatchEvent(new CustomEvent("theme"));
  dark.addEventListener("change", tell);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const name = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", isDark() ? "Light theme" : "Dark theme"); };
    button.hidden = false;
    name();
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem(KEY, root.dataset.theme); } catch { /* it holds for this page */ }
      tell();
    });
    document.addEventListener("theme", name);
  });
  // Paper is white: what is drawn on a canvas is drawn again for it.
  let before;
  addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; tell(); });
  addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before; else delete root.dataset.theme;
    tell();
  });
})();
