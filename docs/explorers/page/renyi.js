// From distances to entropy: Gram matrices of a few pairs of numbers, their eigenvalues, and the bits they give.
// All of it is computed here, of samples that are the notebook's.

import { canvas, colour, curves, intervals, paintMap, viridis } from "./charts.js";
import { choice, element, numbers, panel, redrawn, slider } from "./parts.js";

const SIDE = 400; // a whole number of pixels for each of 4, 16, 50, 100 or 200 samples
const RANKS = 20; // as in the figure
const HALVINGS = 52; // of [0, 1], down to the last digit of a double
const NOTHING = 1e-30; // beside eigenvalues that sum to 1

export async function start(place, data) {
  const { controls: grid, start: first } = data;
  const { controls, figures, said, under } = panel(place, "Explorer: from distances to entropy");
  const n = slider("Samples n", grid.n, first.n, () => draw());
  const rho = slider("Correlation", grid.rho, first.rho, () => draw(), (value) => value.toFixed(2));
  const width = slider("Kernel width", grid.width, first.width, () => draw());
  const alpha = choice("Order α", grid.alpha, first.alpha, () => draw());
  controls.append(n.node, rho.node, width.node, alpha.node);

  const maps = ["x", "y"].map((name) => {
    const target = canvas("", SIDE);
    return { name, target, node: element("figure", {}, target, element("figcaption", {}, `Similarity in ${name}, samples sorted by x`)) };
  });
  const shares = element("div", { class: "chart" });
  const bits = element("div", { class: "chart" });
  figures.append(element("div", { class: "three" }, ...maps.map((each) => each.node)), key(), element("div", { class: "beside" }, shares, bits));
  const table = numbers("Numbers of the bars, as a table");
  const ranks = numbers("Eigenvalues, as a table");
  under.append(table.node, ranks.node);

  function draw() {
    const found = compute(data.samples[n.value], rho.value, width.value, alpha.value);
    maps.forEach(({ name, target }) => {
      paintMap(target, found.kernels[name], n.value, [0, 1]);
      const off = (sum(found.kernels[name]) - n.value) / (n.value * (n.value - 1));
      target.setAttribute("aria-label", `Similarity in ${name} of every two of ${n.value} samples, ${off.toFixed(2)} on average; a sample and itself are 1`);
    });
    drawShares(found.eigenvalues);
    drawBits(found);
    const most = Math.log2(n.value);
    said.textContent =
      `${n.value} samples, correlation ${rho.value.toFixed(2)}, width ${width.value}, α = ${alpha.value}: ` +
      `S(x) ${said2(found.x)}, S(y) ${said2(found.y)}, I ${said2(found.information)} bits, of log₂ n = ${most.toFixed(2)} at most; Shannon’s I is ${said2(found.shannon)}.`;
    table.set(["what", "bits"], () => [
      ["S(x)", said2(found.x)],
      ["S(y)", said2(found.y)],
      ["S(x, y)", said2(found.joint)],
      ["I = S(x) + S(y) − S(x, y)", said2(found.information)],
      ["Shannon’s I", said2(found.shannon)],
      ["log₂ n", said2(most)],
    ]);
    ranks.set(["rank", "eigenvalue of A"], () => found.eigenvalues.slice(0, RANKS).map((value, i) => [i + 1, value.toFixed(3)]));
  }

  function drawShares(eigenvalues) {
    const shown = eigenvalues.slice(0, RANKS);
    const points = shown.map((value, i) => [i + 1, value]);
    shares.replaceChildren(
      curves({
        width: Math.max(220, shares.clientWidth),
        label: `The ${shown.length} largest eigenvalues of x’s Gram matrix, from ${shown[0].toFixed(2)} down to ${shown[shown.length - 1].toFixed(2)}`,
        x: { label: "rank of the eigenvalue", low: 0, high: RANKS },
        y: { label: "eigenvalues of A (sum 1)", low: 0, high: 1 },
        series: [{ stroke: colour(0), shape: "circle", points }],
      }),
    );
  }

  function drawBits({ x, y, information, shannon }) {
    const most = Math.log2(n.value);
    const bars = [["S(x)", x, 0, "circle"], ["S(y)", y, 1, "square"], ["I", information, 2, "diamond"], ["Shannon’s I", shannon, 3, "triangle"]];
    bits.replaceChildren(
      intervals({
        width: Math.max(220, bits.clientWidth),
        label: bars.map(([name, value]) => `${name} ${said2(value)}`).join(", ") + ` bits; log₂ n is ${most.toFixed(2)}`,
        // The information of a Gram matrix may fall below zero for every order but 1: the axis begins there.
        x: { label: `bits (upright line: log₂ ${n.value})`, low: Math.min(0, information), high: 1.05 * Math.max(most, shannon) },
        rows: bars.map(([name, value, i, shape]) => ({ name, low: Math.min(0, value), high: Math.max(0, value), at: value, stroke: colour(i), shape })),
        upright: most,
      }),
    );
  }

  redrawn(shares, draw);
}

/** What the colours of both maps mean. */
function key() {
  const bar = element("span", { class: "bar", "aria-hidden": "true" });
  bar.style.background = `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map((part) => `rgb(${viridis(part).join()})`).join()})`;
  return element("p", { class: "remark" }, "similarity 0, far apart ", bar, " 1, the same");
}

const sum = (values) => values.reduce((all, value) => all + value, 0);
// What rounds to zero has no sign.
const said2 = (value) => value.toFixed(2).replace(/^-(0\.00)$/, "$1").replace("-", "−");

/** Everything the figure shows, in bits: `compute_renyi`. */
function compute({ x, noise }, rho, width, alpha) {
  const n = x.length;
  const y = x.map((value, i) => rho * value + Math.sqrt(1 - rho ** 2) * noise[i]);
  const kernels = { x: kernel(x, width), y: kernel(y, width) };
  const [a, b] = [kernels.x, kernels.y].map((each) => each.map((value) => value / n));
  const both = kernels.x.map((value, i) => (value * kernels.y[i]) / n);
  const eigenvalues = eigenvaluesOf(a, n);
  const [ofX, ofY, joint] = [entropy(eigenvalues, alpha), ...[b, both].map((each) => entropy(eigenvaluesOf(each, n), alpha))];
  return { kernels, eigenvalues, x: ofX, y: ofY, joint, information: ofX + ofY - joint, shannon: -Math.log2(1 - rho ** 2) / 2 };
}

/** Similarities (n x n) of numbers: 1 for a number and itself, less the further apart two are. */
function kernel(z, width) {
  const found = new Float64Array(z.length ** 2);
  z.forEach((one, i) => z.forEach((other, j) => (found[i * z.length + j] = Math.exp(-((one - other) ** 2) / (2 * width ** 2)))));
  return found;
}

function entropy(eigenvalues, alpha) {
  // What is left of a zero eigenvalue is rounding: the usual bound of a numerical rank.
  const alive = eigenvalues.filter((value) => value > eigenvalues[0] * eigenvalues.length * Number.EPSILON);
  if (alpha === 1) return -sum(alive.map((value) => value * Math.log2(value)));
  return Math.log2(sum(alive.map((value) => value ** alpha))) / (1 - alpha);
}

/**
 * Eigenvalues of a Gram matrix, the largest first: reflections make it tridiagonal, and of such a matrix it is
 * easily counted how many of its eigenvalues lie below a number.
 * @param {Float64Array} matrix n x n, symmetric, positive semi-definite, of trace 1
 */
function eigenvaluesOf(matrix, n) {
  const { diagonal, beside } = tridiagonal(matrix, n);
  return Array.from({ length: n }, (_, rank) => {
    let [low, high] = [0, 1]; // where all of them are
    for (let i = 0; i < HALVINGS; i++) {
      const middle = (low + high) / 2;
      if (below(diagonal, beside, middle) > n - 1 - rank) high = middle;
      else low = middle;
    }
    return (low + high) / 2;
  });
}

/** How many eigenvalues are less than `value`: as many as there are negative pivots (Sylvester). */
function below(diagonal, beside, value) {
  let [count, pivot] = [0, 1];
  for (let i = 0; i < diagonal.length; i++) {
    pivot = diagonal[i] - value - (i ? beside[i - 1] ** 2 / pivot : 0);
    if (pivot === 0) pivot = Number.MIN_VALUE ** 0.5;
    if (pivot < 0) count++;
  }
  return count;
}

/** The same eigenvalues in a tridiagonal matrix, by Householder's reflections. */
function tridiagonal(matrix, n) {
  const a = Float64Array.from(matrix);
  const beside = new Float64Array(Math.max(0, n - 1));
  for (let k = 0; k < n - 1; k++) {
    const v = Float64Array.from({ length: n }, (_, i) => (i > k ? a[i * n + k] : 0));
    const length = Math.hypot(...v);
    if (length < NOTHING) continue; // what is left is far below rounding, and its square would be zero
    beside[k] = v[k + 1] > 0 ? -length : length;
    v[k + 1] -= beside[k];
    reflect(a, n, k + 1, v, 2 / sum(v.map((value) => value ** 2)));
  }
  return { diagonal: Float64Array.from({ length: n }, (_, i) => a[i * n + i]), beside };
}

/** H A H with H = 1 - factor v vᵀ, of the rows and columns from `first` on. */
function reflect(a, n, first, v, factor) {
  const w = new Float64Array(n);
  for (let i = first; i < n; i++) {
    let product = 0;
    for (let j = first; j < n; j++) product += a[i * n + j] * v[j];
    w[i] = factor * product;
  }
  let along = 0;
  for (let i = first; i < n; i++) along += w[i] * v[i];
  for (let i = first; i < n; i++) w[i] -= (factor / 2) * along * v[i];
  for (let i = first; i < n; i++) for (let j = first; j < n; j++) a[i * n + j] -= v[i] * w[j] + w[i] * v[j];
}
