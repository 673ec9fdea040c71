// The tables of the catalog: sorting, and for the models search, filters and keys. What is shown stands in the address, to be linked.
// Of a long table the first rows alone are laid out, the rest when it is wanted: a search is answered at once whatever the catalog.
"use strict";
(() => {
  const AT_ONCE = 50; // as in site.css
  const words = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const compare = (one, other) => (typeof one === "number" && typeof other === "number" ? one - other : words.compare(String(one), String(other)));
  const key = (row, place, by) => {
    const text = by === "v" ? row.cells[place].dataset.v : row.cells[place].textContent.trim();
    return by === "v" && text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
  };
  const said = (count) => count.toLocaleString("en");

  const listing = (table, thing) => {
    const body = table.tBodies[0];
    let items = [...body.rows].map((row) => ({ row, text: row.textContent.toLowerCase(), shown: true }));
    let most = AT_ONCE;
    let isWanted = () => true;
    const more = document.createElement("button");
    more.type = "button";
    more.className = "more";
    table.parentElement.after(more);
    const list = { items: () => items, count: 0, visible: [] };

    list.show = () => {
      list.count = 0;
      list.visible = [];
      for (const item of items) {
        const fits = isWanted(item);
        if (fits) list.count += 1;
        const shown = fits && list.count <= most;
        if (shown) list.visible.push(item.row);
        if (item.shown !== shown) { item.shown = shown; item.row.hidden = !shown; }
      }
      more.hidden = list.count <= most;
      more.textContent = `Show all ${said(list.count)} ${thing}`;
    };
    list.filter = (wanted) => { isWanted = wanted; most = AT_ONCE; list.show(); };
    list.all = () => { most = Infinity; list.show(); };
    more.addEventListener("click", () => {
      const next = list.visible.length;
      list.all();
      list.visible[next]?.querySelector("a")?.focus();
    });
    addEventListener("beforeprint", list.all);

    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        const keyed = items.map((item) => [key(item.row, place, head.dataset.by), item]);
        keyed.sort((one, other) => sign * compare(one[0], other[0]));
        items = keyed.map((pair) => pair[1]);
        body.replaceChildren(...items.map((item) => item.row));
        list.show();
      });
    });
    list.show();
    table.classList.add("ready");
    return list;
  };

  const table = document.getElementById("table");
  const setsTable = document.getElementById("sets");
  const sets = setsTable && listing(setsTable, "datasets");
  if (!table) return;
  const models = listing(table, "models");
  const form = document.getElementById("filters");
  const search = document.getElementById("q");
  const found = document.getElementById("found");
  const nothing = document.getElementById("nothing");
  const column = Object.fromEntries([...table.tHead.rows[0].cells].map((head, place) => [head.textContent, place]));
  const there = column.Server ?? column.Servers;
  const cell = (item, place) => item.row.cells[place].textContent;
  const isIn = {
    state: (item, word) => (word === "stale" ? item.row.dataset.state !== "fresh" : item.row.dataset.state === word || cell(item, there).includes(word)),
    base: (item, word) => cell(item, column.Base) === word,
    data: (item, word) => cell(item, column.Data).split(" ").includes(word),
    tag: (item, word) => item.row.dataset.tag.split(" ").includes(word),
  };
  const wanted = () => [...form.querySelectorAll("select")].filter((one) => one.value).map((one) => [one.name, one.value]);

  const show = () => {
    const terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const filters = wanted();
    const isSaid = (item) => terms.every((term) => item.text.includes(term));
    models.filter((item) => isSaid(item) && filters.every(([name, word]) => isIn[name](item, word)));
    sets?.filter(isSaid); // a search is for both tables, filters are for models
    const all = models.items().length;
    found.value = models.count === all ? `${said(all)} model${all === 1 ? "" : "s"}` : `${said(models.count)} of ${said(all)} models`;
    nothing.hidden = models.count > 0;
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
  addEventListener("afterprint", show);
  read();
  performance.mark("usable"); // benchmarks/report_browser.py reads it

  // Keys: `/` searches; arrows, Home and End move among the models that are found; Escape goes back to the search.
  const isTyping = (element) => element.matches("input, select, textarea, [contenteditable]");
  const go = (row) => { const link = row?.cells[0].querySelector("a"); link?.focus(); link?.scrollIntoView({ block: "nearest" }); };
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
      go(models.visible[0]);
    } else if (at.closest("#table tbody th")) {
      const place = models.visible.indexOf(at.closest("tr"));
      const wanted = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: models.count - 1 }[event.key];
      if (event.key === "Escape" || wanted < 0) {
        event.preventDefault();
        search.focus();
      } else if (wanted !== undefined) {
        event.preventDefault();
        if (wanted >= models.visible.length && models.visible.length < models.count) models.all();
        go(models.visible[wanted]);
      }
    }
  });
})();
