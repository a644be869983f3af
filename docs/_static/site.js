// What scrolls sideways is reached by keys: the theme sees to code, this to formulas, tables and figures.
const reach = () => {
  for (const box of document.querySelectorAll(".math-block, .bd-article :is(table, figure), .cell_output")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
addEventListener("load", reach);
addEventListener("resize", reach);
// Formulas get their width when their font is there, explorers theirs when they have started.
addEventListener("DOMContentLoaded", () => new ResizeObserver(reach).observe(document.body));
document.fonts.ready.then(reach);
addEventListener("load", () => {
  for (const table of document.querySelectorAll(".bd-article table")) {
    table.classList.toggle("scrolls", table.scrollWidth > table.clientWidth);
    for (const cell of table.querySelectorAll("td")) cell.classList.toggle("words", cell.textContent.length > 20);
  }
});

// In a table a name in code may be broken where a reader would break it; a value and its interval may not.
addEventListener("DOMContentLoaded", () => {
  for (const name of document.querySelectorAll(".bd-article td code .pre")) {
    name.innerHTML = name.innerHTML.replace(/[._/(](?=\w)/g, "$&<wbr>");
  }
  for (const cell of document.querySelectorAll(".bd-article td")) {
    const text = cell.textContent.trim();
    if (/^[-+−]?[\d.]+%? ± [\d.]+%?$/.test(text)) cell.classList.add("interval");
    // From one end to the other: [-0.10, +0.17].
    if (!cell.children.length && /\[[-+−\d.]+, [-+−\d.]+\]/.test(text)) {
      cell.innerHTML = cell.innerHTML.replace(/\[[-+−\d.]+, [-+−\d.]+\]/g, '<span class="together">$&</span>');
    }
  }
});

// A formula keeps the comma or full stop behind it on its own line.
addEventListener("DOMContentLoaded", () => {
  for (const formula of document.querySelectorAll(".bd-article math:not([display='block'])")) {
    const [mark] = formula.nextSibling?.nodeValue?.match(/^[.,;:!?)]+/) ?? [];
    if (!mark) continue;
    const together = document.createElement("span");
    together.className = "together";
    formula.nextSibling.nodeValue = formula.nextSibling.nodeValue.slice(mark.length);
    formula.replaceWith(together);
    together.append(formula, mark);
  }
});

// What a cell prints is in columns where a line has two spaces in a row; anything else is sentences.
addEventListener("DOMContentLoaded", () => {
  for (const printed of document.querySelectorAll(".cell_output .output.stream pre")) {
    if (!/\S {2,}\S/.test(printed.textContent)) printed.classList.add("sentences");
  }
});
