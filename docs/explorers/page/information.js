// The playground: every estimator against the truth that the data were made with.

import { colour, curves, legend } from "./charts.js";
import { choice, element, numbers, panel, predict, redrawn, signed, slider } from "./parts.js";

const [TRUTH, ESTIMATE, BIAS, ENDLESS] = ["var(--ex-ink)", colour(0), colour(1), colour(2)];

export async function start(place, data) {
  const { rows, rho, start: first } = data;
  const { body, controls, figures, said, under } = panel(place, "Explorer: estimators against the truth");
  const distinct = (key) => [...new Set(rows.map((row) => row[key]).filter((value) => value !== undefined))];
  const estimator = choice("Estimator", distinct("estimator"), first.estimator, () => draw());
  const n = slider("Samples n", distinct("n").sort((a, b) => a - b), first.n, () => draw());
  const dim = slider("Dimensions of x, and of y", distinct("dim").sort((a, b) => a - b), first.dim, () => draw());
  const at = slider("Correlation", rho, first.rho, () => draw());
  const width = slider("Kernel width", distinct("width"), first.width, () => draw());
  const alpha = slider("Order α", distinct("alpha"), first.alpha, () => draw());
  const own = [width, alpha]; // of estimators that have a kernel
  controls.append(...[estimator, n, dim, at, ...own].map((control) => control.node));
  const left = element("div", { class: "chart" });
  const right = element("div", { class: "chart" });
  figures.classList.add("beside");
  figures.append(left, right);
  const table = numbers("Numbers of the chart, as a table");
  under.append(table.node);

  const kernel = () => rows.some((row) => row.estimator === estimator.value && row.width !== undefined);
  const chosen = () =>
    rows.find(
      (row) =>
        row.estimator === estimator.value && row.n === n.value && row.dim === dim.value && (!kernel() || (row.width === width.value && row.alpha === alpha.value)),
    );

  function draw() {
    own.forEach((control) => (control.node.hidden = !kernel()));
    const row = chosen();
    if (!row || row.refused) {
      const has = [...new Set(rows.filter((each) => each.estimator === estimator.value).map((each) => each.n))].join(" or ");
      said.textContent = row ? `${estimator.value} refuses: ${row.refused}.` : `This page has ${estimator.value} with n = ${has}; the notebook computes every n.`;
      left.replaceChildren();
      right.replaceChildren();
      table.set(["correlation"], () => []);
      return;
    }
    const here = rho.indexOf(at.value);
    drawCurves(row, here);
    drawDraws(row, here);
    const [truth, mean, half] = [row.truth[here], row.mean[here], row.half[here]];
    said.textContent =
      `${row.estimator}, ${row.n} samples of ${row.dim} + ${row.dim} dimensions, correlation ${at.value.toFixed(2)}: ` +
      `truth ${truth.toFixed(2)} nats, mean of ${row.draws[here].length} draws ${mean.toFixed(2)} ± ${half.toFixed(2)}, bias ${signed(mean - truth, 2)}, ` +
      `single draws from ${Math.min(...row.draws[here]).toFixed(2)} to ${Math.max(...row.draws[here]).toFixed(2)}.`;
    table.set(["correlation", "truth", "mean ± 95% (nats)", "bias", "lowest draw", "highest draw"], () =>
      rho.map((each, i) => [
        each.toFixed(2),
        row.truth[i].toFixed(2),
        `${row.mean[i].toFixed(2)} ± ${row.half[i].toFixed(2)}`,
        signed(row.mean[i] - row.truth[i], 2),
        Math.min(...row.draws[i]).toFixed(2),
        Math.max(...row.draws[i]).toFixed(2),
      ]),
    );
  }

  /** The y-axis of both charts: what runs far out of the picture is cut at twice the truth. */
  function axis(row) {
    const most = Math.max(...row.truth);
    const high = Math.max(most, Math.min(Math.max(...row.draws.flat()), 2 * most));
    const low = Math.max(Math.min(0, ...row.draws.flat()), -high);
    return { label: "information (nats)", low: low - 0.05 * high, high: 1.05 * high };
  }

  function drawCurves(row, here) {
    const along = (values) => rho.map((each, i) => [each, values[i]]);
    const series = [
      { name: "bias: from truth to mean", stroke: BIAS, line: false, band: rho.map((each, i) => [each, Math.min(row.truth[i], row.mean[i]), Math.max(row.truth[i], row.mean[i])]) },
      { name: `all ${row.draws[0].length} draws`, stroke: ESTIMATE, line: false, band: rho.map((each, i) => [each, Math.min(...row.draws[i]), Math.max(...row.draws[i])]) },
      { name: "truth", stroke: TRUTH, points: along(row.truth) },
      { name: `${row.estimator}, mean`, stroke: ESTIMATE, shape: "circle", points: along(row.mean) },
    ];
    if (row.population) series.push({ name: "its value for endless samples", stroke: ENDLESS, dashes: "7 4", points: along(row.population) });
    left.replaceChildren(
      curves({
        width: Math.max(260, left.clientWidth),
        label: `${row.estimator} and truth over the correlation; numbers in the table below`,
        x: { label: "correlation of each pair of dimensions", low: rho[0], high: rho[rho.length - 1] },
        y: axis(row),
        series,
        at: rho[here],
        level: row.limit === null ? undefined : { y: row.limit, text: `it cannot say more: ${row.limit.toFixed(2)}` },
      }),
      legend(series),
    );
  }

  function drawDraws(row, here) {
    const draws = row.draws[here];
    const series = [
      { name: "truth", stroke: TRUTH, points: [[0, row.truth[here]], [draws.length + 1, row.truth[here]]] },
      { name: "one draw each", stroke: ESTIMATE, shape: "circle", line: false, points: draws.map((value, i) => [i + 1, value]) },
    ];
    const outside = draws.filter((value) => value > axis(row).high || value < axis(row).low).length;
    right.replaceChildren(
      curves({
        width: Math.max(220, right.clientWidth),
        label: `${draws.length} draws at correlation ${rho[here]}, from ${Math.min(...draws).toFixed(2)} to ${Math.max(...draws).toFixed(2)} nats; truth ${row.truth[here].toFixed(2)}`,
        x: { label: `draws at ${rho[here].toFixed(2)}`, low: 0, high: draws.length + 1, say: () => "" },
        y: axis(row),
        series,
      }),
      legend(series),
      outside ? element("p", { class: "remark" }, `${outside} of ${draws.length} draws lie outside the picture.`) : "",
    );
  }

  ask(body, data);
  redrawn(left, draw);
}

/** Which estimator of the truth is furthest off in the most dimensions, and in which direction? */
function ask(body, { rows, rho, start, of_truth: names }) {
  const most = Math.max(...rows.map((row) => row.dim));
  const here = rho.indexOf(start.rho);
  const bias = (name) => {
    const row = rows.find((each) => each.estimator === name && each.n === start.n && each.dim === most);
    return row.refused ? 0 : row.mean[here] - row.truth[here];
  };
  const worst = names.reduce((one, other) => (Math.abs(bias(other)) > Math.abs(bias(one)) ? other : one));
  const way = (value) => (value > 0 ? "too high" : "too low");
  predict(
    body,
    `which estimator will be furthest from the truth at ${most} + ${most} dimensions, and in which direction?`,
    [["Furthest off", names], ["Its answer is", ["too high", "too low"]]],
    ([name, direction]) => ({
      right: name === worst && direction === way(bias(worst)),
      why: `With ${start.n} samples and a correlation of ${start.rho}: ${names.map((each) => `${each} ${signed(bias(each), 2)}`).join(", ")} nats from the truth.`,
    }),
  );
}
