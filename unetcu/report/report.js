"use strict";
// Sorting: a click on a column's head sorts the rows by it, a second click the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => {
        const cell = row.cells[column];
        return "v" in cell.dataset ? Number(cell.dataset.v) : cell.textContent;
      };
      const compare = (a, b) => {
        if (typeof a === "number" && typeof b === "number") return up ? a - b : b - a;
        if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // n/a comes last
        const order = a.localeCompare(b, "en", { numeric: true });
        return up ? order : -order;
      };
      body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
    });
  });
}
// Wiping: left of the line the prediction, right of it the image.
for (const wipe of document.querySelectorAll(".wipe")) {
  const range = wipe.querySelector("input");
  const over = wipe.querySelector("svg svg");
  const edge = wipe.querySelector("line");
  const width = wipe.querySelector("svg").viewBox.baseVal.width;
  const move = () => {
    const x = (width * range.value) / 100;
    over.setAttribute("width", x);
    edge.setAttribute("x1", x);
    edge.setAttribute("x2", x);
  };
  range.addEventListener("input", move);
  wipe.hidden = false;
  wipe.parentElement.classList.add("wiped");
  move();
}
