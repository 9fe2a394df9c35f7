"use strict";
const tip = document.getElementById("tip");
let near = null;

function point(mark, event) {
  if (near) near.classList.remove("near");
  near = mark;
  tip.hidden = !mark;
  if (!mark) return;
  mark.classList.add("near");
  tip.textContent = mark.dataset.tip;
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const above = event.clientY - tip.offsetHeight - 14;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above < 8 ? event.clientY + 18 : above}px`;
}

function nearest(svg, event) {
  let best = null, least = 60;
  for (const mark of svg.querySelectorAll("g:not(.off) > .mark")) {
    const box = mark.getBoundingClientRect();
    const distance = Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
    if (distance < least) [best, least] = [mark, distance];
  }
  return best;
}

for (const chart of document.querySelectorAll(".chart")) {
  const svg = chart.querySelector(":scope > svg");
  for (const kind of ["pointermove", "pointerdown"]) svg.addEventListener(kind, (event) => point(nearest(svg, event), event));
  svg.addEventListener("pointerleave", (event) => point(null, event));
  for (const button of chart.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      for (const line of svg.querySelectorAll("g")) if (line.dataset.line === button.dataset.line) line.classList.toggle("off", !shown);
    });
  }
}

function order(cell) {
  const value = cell.dataset.order ?? cell.textContent;
  return value !== "" && Number.isFinite(Number(value)) ? Number(value) : value;
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const turn = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", turn > 0 ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].map((row) => [order(row.cells[column]), row]);
    rows.sort(([a], [b]) => turn * (typeof a === typeof b && typeof a === "number" ? a - b : String(a).localeCompare(String(b))));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }));
}

for (const input of document.querySelectorAll("[data-filter]")) {
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of document.querySelectorAll(`#${input.dataset.filter} tbody tr`)) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}
