"use strict";
// Sorting by a click on a header, a filter over all tables, and links to a sorted table: #sort=<table id>:<column>:<asc|desc>.

(() => {
  const collator = new Intl.Collator("en", { numeric: true });
  const tables = [...document.querySelectorAll("table")];
  // The order of the run, which breaks ties.
  tables.forEach((table) => [...table.tBodies[0].rows].forEach((row, i) => { row.dataset.order = i; }));

  // The value of a cell: a number, a text, or null where there is none; a reason across the columns of numbers is none.
  function value(row, index, numeric) {
    const cell = row.cells[index];
    if (!cell || cell.classList.contains("why")) return null;
    if (numeric) return "key" in cell.dataset ? Number(cell.dataset.key) : null;
    return cell.textContent.trim() || null;
  }

  function sort(table, index, direction) {
    const heads = [...table.tHead.rows[0].cells];
    const numeric = heads[index].classList.contains("number");
    const sign = direction === "desc" ? -1 : 1;
    const rows = [...table.tBodies[0].rows].map((row) => [value(row, index, numeric), Number(row.dataset.order), row]);
    rows.sort(([a, i], [b, j]) => {
      // What is missing comes last either way.
      if (a === null || b === null) return (a === null) - (b === null) || i - j;
      // Not the difference: between two infinities that is no number.
      const order = numeric ? (a > b) - (a < b) : collator.compare(a, b);
      return sign * order || i - j;
    });
    table.dataset.sorted = "";
    table.tBodies[0].append(...rows.map(([, , row]) => row));
    heads.forEach((head, i) => {
      head.setAttribute("aria-sort", i !== index ? "none" : sign > 0 ? "ascending" : "descending");
    });
  }

  function clicked(head) {
    const table = head.closest("table");
    const direction = head.getAttribute("aria-sort") === "ascending" ? "desc" : "asc";
    sort(table, head.cellIndex, direction);
    // The address bar has the link to what one sees; leaving the page by "back" still takes one step.
    history.replaceState(null, "", `#sort=${table.id}:${head.dataset.column}:${direction}`);
  }

  function follow() {
    const found = /^#sort=([^:]+):([^:]+)(?::(asc|desc))?$/.exec(decodeURIComponent(location.hash));
    const table = found && document.getElementById(found[1]);
    if (!table || table.tagName !== "TABLE") return;
    const head = [...table.tHead.rows[0].cells].find((cell) => cell.dataset.column === found[2]);
    if (!head) return;
    for (let box = table.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    sort(table, head.cellIndex, found[3] || "asc");
    (table.closest("section") || table).scrollIntoView();
    // Sideways too, within the table's own box.
    table.parentElement.scrollLeft = head.offsetLeft - table.parentElement.clientWidth / 2;
  }

  document.querySelectorAll("th button").forEach((button) => {
    button.addEventListener("click", () => clicked(button.closest("th")));
  });

  const filter = document.getElementById("filter");
  const count = document.getElementById("count");

  function apply() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0, all = 0;
    document.querySelectorAll("section.operation").forEach((section) => {
      let here = 0;
      section.querySelectorAll("tbody tr").forEach((row) => {
        const text = `${section.id} ${[...row.cells].map((cell) => cell.textContent).join(" ")}`.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        all += 1;
        here += !row.hidden;
      });
      section.classList.toggle("empty", here === 0);
      shown += here;
    });
    count.textContent = words.length ? `${shown} of ${all} rows` : "";
  }
  filter.addEventListener("input", apply);

  document.querySelectorAll("button.zoom").forEach((button) => {
    button.addEventListener("click", () => {
      const large = button.closest("figure").querySelector(".picture").classList.toggle("large");
      button.setAttribute("aria-pressed", String(large));
      button.textContent = large ? "smaller" : "larger";
    });
  });

  // Headings must not end up under the bar, whose height depends on the width of the window.
  const nav = document.querySelector("nav");
  const measure = () => document.documentElement.style.setProperty("--nav", `${nav.offsetHeight}px`);
  addEventListener("resize", measure);
  measure();
  addEventListener("hashchange", follow);
  // A browser may have kept what was typed before a reload.
  apply();
  follow();
})();
