// What scrolls sideways is reached by keys: the theme sees to code, this to formulas, tables and figures.
const reach = () => {
  for (const box of document.querySelectorAll(".math-block, .bd-article table, .cell_output")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
addEventListener("load", reach);
addEventListener("resize", reach);
// Formulas get their width when their font is there, explorers theirs when they have started.
addEventListener("DOMContentLoaded", () => new ResizeObserver(reach).observe(document.body));
document.fonts.ready.then(reach);

// A value and its interval stand on one line, however narrow the column.
addEventListener("DOMContentLoaded", () => {
  for (const cell of document.querySelectorAll(".bd-article td")) {
    if (/^[-+−]?[\d.]+%? ± [\d.]+%?$/.test(cell.textContent.trim())) cell.classList.add("interval");
  }
});
