"use strict";
// The table of trials: filtered by state, sorted by a click on a heading.
(() => {
  const trials = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const rows = byId("rows"), headings = [...document.querySelectorAll(".list thead th")];
  const best = trials.reduce((a, b) => (b.keys[2] !== null && (a === null || b.keys[2] > a.keys[2]) ? b : a), null);
  const TRIAL = 0, VALUE = 2, TEXT = new Set([1, 5]);
  let order = { column: VALUE, descending: true };

  function compare(a, b) {
    const x = a.keys[order.column], y = b.keys[order.column];
    if (x === y) return a.keys[TRIAL] - b.keys[TRIAL];
    if (x === null) return 1;            // rows without a value come last in either order
    if (y === null) return -1;
    const sign = typeof x === "string" && typeof y === "string" ? x.localeCompare(y) : x - y;
    return order.descending ? -sign : sign;
  }

  function draw() {
    const states = [...document.querySelectorAll("input[name=state]:checked")].map((e) => e.value);
    const shown = trials.filter((t) => states.includes(t.state)).sort(compare);
    rows.replaceChildren();
    for (const trial of shown) {
      const row = rows.insertRow();
      row.title = trial.message;
      row.classList.toggle("best", trial === best);
      trial.cells.forEach((text, column) => {
        const cell = row.insertCell();
        cell.textContent = text;
        if (TEXT.has(column)) cell.className = "text";
        if (column === 1) {
          const mark = document.createElement("span");
          mark.className = "mark " + trial.state;
          cell.prepend(mark);
        }
      });
    }
    byId("count").textContent = `${shown.length} of ${trials.length} trials`;
    headings.forEach((heading, column) => {
      const mine = column === order.column;
      heading.setAttribute("aria-sort", mine ? (order.descending ? "descending" : "ascending") : "none");
    });
  }

  byId("filters").addEventListener("input", draw);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  headings.forEach((heading, column) =>
    heading.querySelector("button").addEventListener("click", () => {
      const same = order.column === column;
      order = { column, descending: same ? !order.descending : column === VALUE };
      draw();
    }));
  draw();
})();
