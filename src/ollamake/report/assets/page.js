// What every page has: times as ages, and details that are open on paper.
"use strict";
(() => {
  const SIZES = [[86400, "day"], [3600, "hour"], [60, "minute"]];
  const age = (then, now) => {
    const seconds = Math.max(0, (now - then) / 1000);
    for (const [size, word] of SIZES) {
      if (seconds >= size) {
        const count = Math.floor(seconds / size);
        return `${count} ${word}${count === 1 ? "" : "s"}`;
      }
    }
    return "just now";
  };
  const now = Date.now();
  const times = [...document.querySelectorAll("time:not([data-whole])")];
  const some = () => { // a few hundred at a time: a long table is usable meanwhile
    for (const time of times.splice(0, 400)) {
      const then = Date.parse(time.dateTime);
      if (Number.isNaN(then)) continue;
      time.title = `${time.textContent} UTC`;
      time.textContent = age(then, now);
      if (!time.closest("table")) time.textContent += time.textContent === "just now" ? "" : " ago";
    }
    if (times.length) requestAnimationFrame(some);
  };
  some();
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; opened = []; });
})();
