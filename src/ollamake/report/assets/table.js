// The tables of the catalog: sorting, and for the models search, filters and keys. What is shown stands in the address, to be linked.
"use strict";
(() => {
  const value = (row, place, by) => {
    const cell = row.cells[place];
    if (by === "v") {
      const text = cell.dataset.v ?? "";
      return text === "" || Number.isNaN(Number(text)) ? text : Number(text);
    }
    return cell.textContent.trim();
  };
  const words = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const compare = (one, other) => (typeof one === "number" && typeof other === "number" ? one - other : words.compare(String(one), String(other)));

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const body = table.tBodies[0];
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const sign = down ? -1 : 1;
        const keyed = [...body.rows].map((row) => [value(row, place, head.dataset.by), row]);
        keyed.sort((one, other) => sign * compare(one[0], other[0]));
        body.replaceChildren(...keyed.map((pair) => pair[1]));
      });
    });
  }

  const form = document.getElementById("filters");
  if (!form) return;
  const table = document.getElementById("table");
  const search = document.getElementById("q");
  const found = document.getElementById("found");
  const nothing = document.getElementById("nothing");
  const column = Object.fromEntries([...table.tHead.rows[0].cells].map((head, place) => [head.textContent, place]));
  const there = column.Server ?? column.Servers;
  const models = [...table.tBodies[0].rows].map((row) => ({
    row,
    text: row.textContent.toLowerCase(),
    state: row.dataset.state,
    there: row.cells[there].textContent,
    base: row.cells[column.Base].textContent,
    data: row.cells[column.Data].textContent.split(/\s+/),
    tag: (row.dataset.tag ?? "").split(" "),
  }));
  const sets = [...(document.getElementById("sets")?.tBodies[0].rows ?? [])].map((row) => ({ row, text: row.textContent.toLowerCase() }));
  const isIn = {
    state: (model, word) => (word === "stale" ? model.state !== "fresh" : model.state === word || model.there.includes(word)),
    base: (model, word) => model.base === word,
    data: (model, word) => model.data.includes(word),
    tag: (model, word) => model.tag.includes(word),
  };
  const wanted = () => [...form.querySelectorAll("select")].filter((one) => one.value).map((one) => [one.name, one.value]);

  const show = () => {
    const terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const filters = wanted();
    let count = 0;
    for (const model of models) {
      const shown = terms.every((term) => model.text.includes(term)) && filters.every(([name, word]) => isIn[name](model, word));
      if (shown) count += 1;
      if (model.row.hidden === shown) model.row.hidden = !shown;
    }
    for (const set of sets) { // a search is for both tables, filters are for models
      const shown = terms.every((term) => set.text.includes(term));
      if (set.row.hidden === shown) set.row.hidden = !shown;
    }
    const all = models.length.toLocaleString("en");
    found.value = count === models.length ? `${all} model${count === 1 ? "" : "s"}` : `${count.toLocaleString("en")} of ${all} models`;
    nothing.hidden = count > 0;
  };
  const note = () => {
    const query = new URLSearchParams(wanted());
    if (search.value.trim()) query.set("q", search.value.trim());
    const text = query.toString();
    try { history.replaceState(null, "", `${location.pathname}${text ? `?${text}` : ""}${location.hash}`); } catch { /* no address, no link */ }
  };
  let later = 0;
  const changed = () => {
    show();
    clearTimeout(later);
    later = setTimeout(note, 250); // browsers refuse many a second
  };
  const read = () => {
    const query = new URLSearchParams(location.search);
    search.value = query.get("q") ?? "";
    for (const select of form.querySelectorAll("select")) {
      const word = query.get(select.name) ?? "";
      select.value = [...select.options].some((option) => option.value === word) ? word : "";
    }
    show();
  };
  form.hidden = false;
  form.addEventListener("input", changed);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(changed));
  addEventListener("popstate", read);
  read();

  // Keys: `/` searches; arrows, Home and End move among the models that are shown; Escape goes back to the search.
  const links = () => models.length && [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[0].querySelector("a"));
  const isTyping = (element) => element.matches("input, select, textarea, [contenteditable]");
  const go = (link) => { if (link) { link.focus(); link.scrollIntoView({ block: "nearest" }); } };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = document.activeElement ?? document.body;
    if (event.key === "/" && !isTyping(at)) {
      event.preventDefault();
      search.focus();
      search.select();
    } else if (at === search && event.key === "Escape") {
      search.value = "";
      changed();
    } else if (at === search && (event.key === "ArrowDown" || event.key === "Enter")) {
      event.preventDefault();
      go(links()[0]);
    } else if (at.closest("#table tbody th")) {
      const all = links();
      const place = all.indexOf(at);
      const next = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: all.length - 1 }[event.key];
      if (next !== undefined && place >= 0) {
        event.preventDefault();
        go(next < 0 ? search : all[next]);
      } else if (event.key === "Escape") {
        search.focus();
      }
    }
  });
})();
