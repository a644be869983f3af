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

// In a table a name in code may be broken where a reader would break it; a value and its interval may not.
addEventListener("DOMContentLoaded", () => {
  for (const name of document.querySelectorAll(".bd-article td code .pre")) {
    name.innerHTML = name.innerHTML.replace(/[._/(](?=\w)/g, "$&<wbr>");
  }
  for (const cell of document.querySelectorAll(".bd-article td")) {
    const text = cell.textContent.trim();
    if (/^[-+−]?[\d.]+%? ± [\d.]+%?$/.test(text)) cell.classList.add("interval");
    if (text.length > 40) cell.classList.add("sentence");
    // From one end to the other: [-0.10, +0.17].
    if (!cell.children.length && /\[[-+−\d.]+, [-+−\d.]+\]/.test(text)) {
      cell.innerHTML = cell.innerHTML.replace(/\[[-+−\d.]+, [-+−\d.]+\]/g, '<span class="interval">$&</span>');
    }
  }
});
