// The objective's settings as a map: a sweep of short trainings, one seed each.

import { diverging } from "./charts.js";
import { choice, element, numbers, panel, percent, points, predict, slider } from "./parts.js";

export async function start(place, data) {
  const { controls: grid, measures, plain, start: first } = data;
  const { body, controls, figures, said, under } = panel(place, "Explorer: both losses together");
  const axis = choice("What the samples are (axis)", grid.axis, first.axis, () => draw());
  const alpha = slider("Order α", grid.alpha, first.alpha, () => draw());
  const one = slider("λ₁, weight of compression", grid.lambda_1, first.lambda_1, () => draw());
  const two = slider("λ₂, weight of transfer", grid.lambda_2, first.lambda_2, () => draw());
  controls.append(axis.node, alpha.node, one.node, two.node);
  const command = element("pre", { class: "command", tabindex: 0 });
  const table = numbers("All points of this plane, as a table");
  under.append(command, table.node);
  figures.classList.add("beside");

  const find = (place) => data.points.find((each) => Object.keys(place).every((key) => each[key] === place[key]));
  const at = (lambda_1, lambda_2) =>
    lambda_1 || lambda_2 ? find({ axis: axis.value, alpha: alpha.value, lambda_1, lambda_2 }) : data.points.find((each) => !each.lambda_1 && !each.lambda_2);
  // One scale for all maps and all positions, so that colours can be compared.
  const most = Math.max(...data.points.flatMap(({ here }) => Object.keys(measures).map((key) => Math.abs(here[key] - plain[key]))));

  const legendOf = () => {
    const bar = element("span", { class: "bar", "aria-hidden": "true" });
    bar.style.background = `linear-gradient(to right, ${[-1, -0.5, 0, 0.5, 1].map((part) => diverging(part, 1).ground).join()})`;
    return element("p", { class: "remark" }, points(-most, 0), " ", bar, ` ${points(most, 0)} points from plain fine-tuning. One training a square.`);
  };
  const key = legendOf();

  function heat(measure, title) {
    const cell = (lambda_1, lambda_2) => {
      const point = at(lambda_1, lambda_2);
      if (!point) return element("td", {}, "–");
      const here = lambda_1 === one.value && lambda_2 === two.value;
      const value = point.here[measure];
      const button = element(
        "button",
        {
          type: "button",
          "aria-pressed": String(here),
          "aria-label": `λ₁ ${lambda_1}, λ₂ ${lambda_2}: ${percent(value)}, ${points(value - plain[measure])} from plain`,
          click: () => {
            [one.value, two.value] = [lambda_1, lambda_2];
            draw();
            figures.querySelector(`[data-measure="${measure}"] [aria-pressed="true"]`).focus();
          },
        },
        (100 * value).toFixed(1),
      );
      const { ground, ink } = diverging(value - plain[measure], most);
      [button.style.background, button.style.color] = [ground, ink];
      return element("td", {}, button);
    };
    return element(
      "table",
      { class: "heat", "data-measure": measure },
      element("caption", {}, `${title}; plain: ${(100 * plain[measure]).toFixed(1)}`),
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "λ₁ \\ λ₂"), ...grid.lambda_2.map((each) => element("th", { scope: "col" }, String(each))))),
      element(
        "tbody",
        {},
        ...grid.lambda_1.map((each) => element("tr", {}, element("th", { scope: "row" }, String(each)), ...grid.lambda_2.map((other) => cell(each, other)))),
      ),
    );
  }

  function draw() {
    figures.replaceChildren(...Object.entries(measures).map(([measure, title]) => heat(measure, title)), key);
    const point = at(one.value, two.value);
    const where = `axis ${axis.value}, α ${alpha.value}, λ₁ = ${one.value}, λ₂ = ${two.value}`;
    const map = `one seed, ${data.steps} steps, ${data.scenes} validation scenes: a map, not a result`;
    said.textContent = point
      ? `${where}: hIoU ${percent(point.here.hIoU)}, ${points(point.here.hIoU - plain.hIoU)} points from plain fine-tuning (${map}).`
      : `${where} was not run.`;
    command.textContent = point?.command ?? "";
    const every = Object.keys(plain);
    table.set(["λ₁, λ₂", ...every.flatMap((each) => [`${each} (%)`, "from plain"])], () =>
      grid.lambda_1.flatMap((each) =>
        grid.lambda_2.map((other) => {
          const here = at(each, other)?.here;
          const cells = every.flatMap((name) => (here ? [(100 * here[name]).toFixed(1), points(here[name] - plain[name])] : ["–", "–"]));
          return [`${each}, ${other}`, ...cells];
        }),
      ),
    );
  }

  ask(body, data, find);
  draw();
}

const [UP, SAME, DOWN] = ["more than a point higher", "within a point", "more than a point lower"];
const way = (change) => (Math.abs(change) <= 0.01 ? SAME : change > 0 ? UP : DOWN);

/** What does ten times the transfer loss do to labelled words, and to those that are not? */
function ask(body, { controls: grid, start }, find) {
  const strong = Math.max(...grid.lambda_2);
  const [before, after] = [start.lambda_2, strong].map((lambda_2) => find({ ...start, lambda_2 })?.here);
  if (!before || !after) return;
  const change = (key) => after[key] - before[key];
  predict(
    body,
    `the transfer loss counts ${strong / start.lambda_2} times as much. What happens to words that are labelled, and to those that are not?`,
    [["Labelled words", [UP, SAME, DOWN]], ["The others", [UP, SAME, DOWN]]],
    ([seen, unseen]) => ({
      right: seen === way(change("mIoU_seen")) && unseen === way(change("mIoU_unseen")),
      why: `Axis ${start.axis}, one training each: labelled ${points(change("mIoU_seen"))} points, the others ${points(change("mIoU_unseen"))}. One seed a square makes this a question and no answer.`,
    }),
  );
}
