"use strict";
const tip = document.getElementById("tip");
let near = null;

/* Charts: a mark says its numbers when it is pointed at or reached by keys; a name in the legend hides or isolates its line. */

function show(mark, x, y) {
  if (near) near.classList.remove("near");
  near = mark;
  tip.hidden = !mark;
  if (!mark) return;
  mark.classList.add("near");
  tip.textContent = mark.dataset.tip;
  const left = Math.min(x + 14, innerWidth - tip.offsetWidth - 8);
  const above = y - tip.offsetHeight - 14;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above < 8 ? y + 18 : above}px`;
}

function centre(mark) {
  const box = mark.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
}

function marks(svg) {
  return [...svg.querySelectorAll("g:not(.off) > .mark")];
}

function nearest(svg, event) {
  let best = null, least = 60;
  for (const mark of marks(svg)) {
    const [x, y] = centre(mark);
    const distance = Math.hypot(x - event.clientX, y - event.clientY);
    if (distance < least) [best, least] = [mark, distance];
  }
  return best;
}

const STEPS = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1};

function walk(svg, event) {
  if (event.key === "Escape") return show(null);
  if (!(event.key in STEPS)) return;
  event.preventDefault();
  const all = marks(svg);
  if (!all.length) return;
  const place = all.indexOf(near);
  const next = all[place < 0 ? 0 : (place + STEPS[event.key] + all.length) % all.length];
  show(next, ...centre(next));
}

function setShown(button, svg, shown) {
  button.setAttribute("aria-pressed", String(shown));
  for (const line of svg.querySelectorAll("g")) if (line.dataset.line === button.dataset.line) line.classList.toggle("off", !shown);
}

function isolate(button, buttons, svg) {
  const alone = buttons.every((other) => (other.getAttribute("aria-pressed") === "true") === (other === button));
  for (const other of buttons) setShown(other, svg, alone || other === button);
}

for (const chart of document.querySelectorAll(".chart")) {
  const svg = chart.querySelector(":scope > svg"), buttons = [...chart.querySelectorAll(".legend button")];
  for (const kind of ["pointermove", "pointerdown"]) {
    svg.addEventListener(kind, (event) => show(nearest(svg, event), event.clientX, event.clientY));
  }
  svg.addEventListener("pointerleave", () => show(null));
  svg.addEventListener("keydown", (event) => walk(svg, event));
  svg.addEventListener("blur", () => show(null));
  for (const button of buttons) {
    button.addEventListener("click", (event) => {
      if (event.shiftKey) isolate(button, buttons, svg);
      else setShown(button, svg, button.getAttribute("aria-pressed") !== "true");
    });
    button.addEventListener("dblclick", () => isolate(button, buttons, svg));
  }
}

/* Tables: sorting, numbers as numbers; filtering; choosing columns. */

function order(cell) {
  const value = cell.dataset.order ?? cell.textContent.trim();
  return value !== "" && Number.isFinite(Number(value)) ? Number(value) : value;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? 1 : -1;
  return a.localeCompare(b, undefined, {numeric: true});
}

function sortBy(table, heads, column, update) {
  const turn = heads[column].getAttribute("aria-sort") === "descending" ? 1 : -1;
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", turn > 0 ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].map((row) => [order(row.cells[column]), row]);
  rows.sort(([a], [b]) => turn * compare(a, b));
  table.tBodies[0].append(...rows.map(([, row]) => row));
  update();
}

/* A word with a digit matches where a number starts: "8/255" is not found in "48/255". */
function found(text, word) {
  if (!/\d/.test(word)) return text.includes(word);
  for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + 1)) {
    if (at === 0 || !/[\p{L}\d./]/u.test(text[at - 1])) return true;
  }
  return false;
}

/* Of a long table only the first rows that match are shown at first: thousands would take seconds to lay out. */
const FEW = 100;

function moreButton(table, update) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "more";
  button.addEventListener("click", () => update({all: true}));
  table.parentElement.after(button);
  return button;
}

/* Returns a function that shows the rows that match what is asked for: all of them, or the first few. */
function rowsOf(table) {
  const state = {asked: "", all: false}, texts = new Map();
  const textOf = (row) => texts.get(row) ?? texts.set(row, rowText(row)).get(row);
  const update = (change = {}) => {
    Object.assign(state, change);
    const words = state.asked.toLowerCase().split(/\s+/).filter(Boolean);
    let matching = 0;
    for (const row of table.tBodies[0].rows) {
      const matches = words.every((word) => found(textOf(row), word));
      matching += matches;
      row.hidden = !matches || (matching > FEW && !state.all);
    }
    if (!more) return;
    more.textContent = `Show all ${matching.toLocaleString("en")} rows`;
    more.hidden = state.all || matching <= FEW;
  };
  const more = table.tBodies[0].rows.length > FEW ? moreButton(table, update) : null;
  if (more) update();
  return update;
}

function rowText(row) {
  return [...row.cells].map((cell) => [...cell.childNodes].map((node) => node.textContent).join(" ")).join(" ").toLowerCase();
}

function chooseColumns(table, heads, box) {
  heads.slice(1).forEach((head, place) => {
    const label = document.createElement("label"), check = document.createElement("input");
    check.type = "checkbox";
    check.checked = true;
    check.addEventListener("change", () => {
      for (const row of table.rows) row.cells[place + 1].hidden = !check.checked;
    });
    label.append(check, head.textContent);
    box.append(label);
  });
}

const updates = new Map();

for (const tools of document.querySelectorAll(".tools")) {
  const table = document.getElementById(tools.dataset.table), heads = [...table.tHead.rows[0].cells], update = rowsOf(table);
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sortBy(table, heads, column, update)));
  tools.querySelector("input[type=search]").addEventListener("input", (event) => update({asked: event.target.value}));
  const columns = tools.querySelector(".columns");
  columns.addEventListener("toggle", () => chooseColumns(table, heads, columns.querySelector("div")), {once: true});
  updates.set(table, update);
}

/* Examples: chosen by class, model, and the budget at which a model misclassifies them. */

function isMisclassified(found, asked) {
  if (asked === "" || asked === "never" || asked === "0") return asked === "" || found === asked;
  return found !== "" && found !== "never" && Number(found) <= Number(asked);
}

function chooseExamples(choices) {
  const [ofClass, model, budget] = [...choices.querySelectorAll("select")].map((select) => select.value);
  const examples = [...choices.nextElementSibling.querySelectorAll("li")];
  for (const example of examples) {
    const lines = [...example.querySelectorAll("small")], asked = model === "" ? lines : [lines[model]];
    const right = ofClass === "" || example.dataset.class === ofClass;
    example.hidden = !right || !asked.some((line) => isMisclassified(line.dataset.at, budget));
    for (const line of lines) line.hidden = !asked.includes(line);
  }
  const shown = examples.filter((example) => !example.hidden).length;
  choices.querySelector("output").textContent = `${shown} of ${examples.length} examples`;
}

for (const choices of document.querySelectorAll(".choices")) {
  choices.hidden = false;
  choices.addEventListener("change", () => chooseExamples(choices));
  chooseExamples(choices);
}

/* Links to rows and sections open the folds around them, and show the row where it is left out. */

function unhide(row) {
  const table = row.closest("table");
  document.querySelector(`[data-table="${CSS.escape(table.id)}"] input[type=search]`).value = "";
  updates.get(table)({asked: "", all: true});
}

function reveal() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.hidden && target.matches("tr")) unhide(target);
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target.scrollIntoView();
}

addEventListener("hashchange", reveal);
reveal();

/* Printing shows all rows; it opens all folds, for as long as it takes. */

let folded = [];
addEventListener("beforeprint", () => {
  for (const update of updates.values()) update({all: true});
  folded = [...document.querySelectorAll("details:not([open]):not(.columns)")];
  for (const fold of folded) fold.open = true;
});
addEventListener("afterprint", () => {
  for (const fold of folded) fold.open = false;
});
