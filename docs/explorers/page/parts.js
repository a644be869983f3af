// What all explorers share: elements, controls that keys work, a question before the answer, tables of numbers.

const SVG = "http://www.w3.org/2000/svg";
let count = 0;

/** An HTML element; attributes that are functions listen to the event of their name. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same of SVG. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== false && value !== undefined && value !== null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** An id that nothing else on the page has. */
export function unique(stem) {
  count += 1;
  return `explorer-${stem}-${count}`;
}

/**
 * Empty the place and make of it a region with controls, figures, a sentence and tables.
 * @param {string} title what the region is called
 */
export function panel(place, title) {
  const controls = element("div", { class: "controls" });
  const figures = element("div", { class: "figures" });
  const said = element("p", { class: "said", role: "status" });
  const under = element("div", { class: "under" });
  const body = element("div", {}, controls, figures, said, under);
  place.setAttribute("role", "region");
  place.setAttribute("aria-label", title);
  place.replaceChildren(element("p", { class: "title" }, title), body);
  return { body, controls, figures, said, under };
}

/** A slider over a list of values; `say` names one. */
export function slider(text, values, start, changed, say = String) {
  const id = unique("slider");
  const input = element("input", { id, type: "range", min: 0, max: values.length - 1, step: 1 });
  const output = element("output", { for: id });
  input.value = Math.max(0, values.indexOf(start));
  const tell = () => {
    output.textContent = say(values[Number(input.value)]);
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", () => {
    tell();
    changed();
  });
  tell();
  const node = element("div", { class: "control" }, element("span", {}, element("label", { for: id }, text), " ", output), input);
  return {
    node,
    get value() {
      return values[Number(input.value)];
    },
    set value(value) {
      input.value = values.indexOf(value);
      tell();
    },
  };
}

/** A list to choose from; options are values, or [value, text]. */
export function choice(text, options, start, changed) {
  const id = unique("choice");
  const pairs = options.map((option) => (Array.isArray(option) ? option : [option, String(option)]));
  const select = element("select", { id, change: changed }, ...pairs.map(([, said], i) => new Option(said, i)));
  const set = (value) => (select.value = Math.max(0, pairs.findIndex(([each]) => each === value)));
  set(start);
  return {
    node: element("div", { class: "control" }, element("label", { for: id }, text), select),
    get value() {
      return pairs[Number(select.value)][0];
    },
    set value(value) {
      set(value);
    },
  };
}

/** Boxes to tick, all ticked at first unless `start` names some; each may have a mark before its name. */
export function boxes(legend, names, changed, { start = names, mark = () => null, say = (name) => name } = {}) {
  const inputs = names.map((name) => element("input", { type: "checkbox", change: changed, checked: start.includes(name) }));
  const labels = names.map((name, i) => element("label", {}, inputs[i], mark(name, i), say(name)));
  return {
    node: element("fieldset", { class: "boxes" }, element("legend", {}, legend), ...labels),
    get value() {
      return names.filter((_, i) => inputs[i].checked);
    },
  };
}

/** Numbers of a chart as a table that is folded away; filled only while it is open. */
export function numbers(summary) {
  const holder = element("div", { class: "wide", tabindex: 0, role: "region", "aria-label": summary });
  const details = element("details", { class: "numbers" }, element("summary", {}, summary), holder);
  let last = () => null;
  const fill = () => details.open && holder.replaceChildren(last());
  details.addEventListener("toggle", fill);
  return {
    node: details,
    /** @param {string[]} head @param {() => (string|number)[][]} rows the first cell of each is its name */
    set(head, rows) {
      last = () => table(head, rows());
      fill();
    },
  };
}

export function table(head, rows) {
  const cells = (row) => row.map((cell, i) => (i ? element("td", {}, String(cell)) : element("th", { scope: "row" }, String(cell))));
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...head.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...cells(row)))),
  );
}

/**
 * A question before the answer: the body stays closed until it is answered or skipped.
 * @param {string} question
 * @param {[string, string[]][]} asked name and options of each list to choose from
 * @param {(answers: string[]) => {right: boolean, why: string}} judge
 */
export function predict(body, question, asked, judge) {
  const lists = asked.map(([text, options]) => choice(text, [[null, "choose"], ...options.map((each) => [each, each])], null, () => null));
  const why = element("p", { role: "status", class: "why" });
  const open = () => (body.hidden = false);
  const check = (event) => {
    event.preventDefault();
    const answers = lists.map((list) => list.value);
    if (answers.includes(null)) {
      why.textContent = "Choose first; a guess is enough.";
      return;
    }
    const { right, why: reason } = judge(answers);
    why.textContent = `${right ? "Yes." : "Not so."} ${reason}`;
    open();
  };
  const skip = element("button", { type: "button", class: "plain", click: open }, "Just show me");
  const form = element(
    "form",
    { class: "predict", submit: check },
    element("p", { class: "question" }, `Predict first: ${question}`),
    element("div", { class: "controls" }, ...lists.map((list) => list.node)),
    element("button", {}, "Check"),
    " ",
    skip,
    why,
  );
  body.hidden = true;
  body.before(form);
}

/** Who made the pictures, folded away. `html` is written by the site's own build. */
export function credited(html) {
  const holder = element("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Credits" });
  holder.innerHTML = html;
  return element("details", { class: "numbers" }, element("summary", {}, "Whose pictures these are"), holder);
}

/** Draw now, and again when the place gets another width. */
export function redrawn(place, draw) {
  let width = 0;
  new ResizeObserver(() => {
    const now = place.clientWidth;
    if (now && now !== width) {
      width = now;
      draw();
    }
  }).observe(place);
  draw();
}

export const percent = (part, digits = 1) => `${(100 * part).toFixed(digits)}%`;
export const points = (part, digits = 1) => signed(100 * part, digits);
export function signed(value, digits) {
  // What rounds to zero has no sign.
  const said = value.toFixed(digits);
  return Number(said) === 0 ? said.replace("-", "") : value > 0 ? `+${said}` : said.replace("-", "−");
}
export const withHalf = ([mean, half], digits = 1) => `${(100 * mean).toFixed(digits)} ± ${(100 * half).toFixed(digits)}`;
