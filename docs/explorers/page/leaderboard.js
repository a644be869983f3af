// The leaderboard with filters, the ranks that are possible, and the difference of any two methods.

import { colour, intervals, MARKS, sample } from "./charts.js";
import { boxes, choice, element, numbers, panel, points, redrawn, slider, table, unique, withHalf } from "./parts.js";

const NAMES = { mIoU_seen: "mIoU, seen words", mIoU_unseen: "mIoU, unseen words", mIoU_stuff: "mIoU, stuff", hIoU: "hIoU" };
const SPLITS = { test: "new instances (test)", "test-known": "known instances (test-known)" };
const [SCORE, RANKS] = ["scores", "ranks"];
const ANY = null;

export async function start(place, data) {
  const { rows, splits, metrics, about } = data;
  const { controls, figures, said, under } = panel(place, "Explorer: the leaderboard");
  const families = [...new Set(rows.map((row) => row.family))].sort((a, b) => a.toLowerCase().localeCompare(b.toLowerCase()));
  const look = (family) => ({ stroke: colour(families.indexOf(family)), shape: MARKS[families.indexOf(family) % MARKS.length] });
  const distinct = (key) => [...new Set(rows.map((row) => row[key]))];

  const split = choice("Scenes", splits.map((name) => [name, SPLITS[name] ?? name]), splits[0], () => draw());
  const metric = choice("Measure", metrics.map((name) => [name, NAMES[name] ?? name]), metrics[metrics.length - 1], () => draw());
  const shown = choice("Show", [[SCORE, "scores with 95% intervals"], [RANKS, "ranks that are possible (of hIoU)"]], SCORE, () => draw());
  const group = choice("Told of scenes", [[ANY, "anything"], ...distinct("group").map((each) => [each, each])], ANY, () => draw());
  const tuned = choice("Trained of CLIP", [[ANY, "anything"], ...distinct("tuned").map((each) => [each, each])], ANY, () => draw());
  const sources = distinct("paper");
  const paper = choice(
    "Rows",
    [[ANY, "all"], ...[[true, "as a paper describes"], [false, "our variants"]].filter(([each]) => sources.includes(each))],
    ANY,
    () => draw(),
  );
  const family = boxes("Families", families, () => draw(), { mark: (name) => sample({ ...look(name), line: false }) });
  const search = unique("search");
  const words = element("input", { id: search, type: "search", autocomplete: "off", spellcheck: "false", input: () => draw() });
  const amounts = [...new Set([10, 20, 40, rows.length].filter((each) => each <= rows.length))];
  const most = slider("Rows at most", amounts, amounts[Math.min(1, amounts.length - 1)], () => draw());
  controls.append(
    split.node, metric.node, shown.node, group.node, tuned.node, ...(sources.includes(true) ? [paper.node] : []), most.node,
    element("div", { class: "control" }, element("label", { for: search }, "Name contains"), words),
    family.node,
  );
  const chart = element("div", { class: "chart" });
  figures.append(chart);
  const list = numbers("All rows that the filters leave, as a table");
  under.append(list.node, contrast(data), ...planned(data));

  const chosen = () => {
    const [name, on] = [metric.value, split.value];
    const asked = words.value.trim().toLowerCase();
    return rows
      .filter((row) => family.value.includes(row.family))
      .filter((row) => group.value === ANY || row.group === group.value)
      .filter((row) => tuned.value === ANY || row.tuned === tuned.value)
      .filter((row) => paper.value === ANY || row.paper === paper.value)
      .filter((row) => row.label.toLowerCase().includes(asked))
      .sort((a, b) => b.scores[on][name][0] - a.scores[on][name][0]);
  };

  function draw() {
    const [name, on] = [metric.value, split.value];
    const left = chosen();
    const drawn = left.slice(0, most.value);
    drawRows(drawn, name, on);
    const best = left[0];
    const first = rows.filter((row) => row.ranks[on]?.from === 1).length;
    said.textContent = best
      ? `${left.length} of ${rows.length} methods, ${drawn.length} drawn. Best mean of ${NAMES[name] ?? name}: ${best.label}, ${withHalf(best.scores[on][name])}%. ` +
        `By hIoU the paired intervals of all methods allow ${first} to be the first.`
      : "No method is left; take a filter away.";
    list.set(["method", "family", ...metrics.map((each) => `${NAMES[each] ?? each} (%)`), "rank of hIoU", "may be", "may be (Holm)", "time", "MB", "M weights", "labels"], () =>
      left.map((row) => {
        const { rank, from, to, corrected } = row.ranks[on] ?? {};
        return [
          row.label, row.family, ...metrics.map((each) => withHalf(row.scores[on][each])),
          rank ?? "–", rank ? `${from} to ${to}` : "–", corrected ? `${corrected[0]} to ${corrected[1]}` : "–",
          row.time.toFixed(2), row.memory.toFixed(1), (row.weights / 1e6).toFixed(1), row.labels,
        ];
      }),
    );
  }

  function drawRows(drawn, name, on) {
    const scores = shown.value === SCORE;
    const lines = drawn.map((row) => {
      const [mean, half] = row.scores[on][name];
      const { rank, from, to } = row.ranks[on] ?? { rank: 0, from: 0, to: 0 };
      const ends = scores ? { low: mean - half, high: mean + half, at: mean } : { low: from - 0.35, high: to + 0.35, at: rank };
      return { name: row.label, ...ends, ...look(row.family) };
    });
    const x = scores
      ? { label: `${NAMES[name] ?? name} (%), mean and 95% interval`, low: 0, high: 1.04 * Math.max(0.01, ...lines.map((line) => line.high)), say: (value) => (100 * value).toFixed(0) }
      : { label: `ranks that are possible, among ${rows.length}; the mark is the place by the mean`, low: 0, high: rows.length + 1 };
    chart.replaceChildren(
      intervals({ width: Math.max(260, chart.clientWidth), label: `${drawn.length} methods; numbers in the table below`, x, rows: lines, broad: !scores }),
      element("p", { class: "remark" }, `${about.scenes} scenes of ${about.size} pixels, ${about.words} words; intervals over ${about.seeds} trainings, of what is not trained over scenes.`),
    );
  }

  redrawn(chart, draw);
}

/** Any two methods: the paired difference of their hIoU with its interval. */
function contrast({ rows, splits, differences }) {
  const said = element("p", { role: "status" });
  const chart = element("div", { class: "chart" });
  const names = rows.map((row, i) => [i, row.label]);
  const [one, other] = [choice("Method", names, 0, () => draw()), choice("minus method", names, Math.min(1, rows.length - 1), () => draw())];
  const difference = (on) => {
    const [i, j] = [one.value, other.value];
    if (i === j) return [0, 0, 1];
    const [first, second] = [Math.min(i, j), Math.max(i, j)];
    const place = first * rows.length - (first * (first + 1)) / 2 + second - first - 1;
    const [mean, half, p] = differences[on][place];
    return [i < j ? mean : -mean, half, p];
  };
  const draw = () => {
    const found = splits.map((on) => ({ on, values: difference(on) }));
    said.textContent = `${rows[one.value].label} minus ${rows[other.value].label}, hIoU, points: ${found.map(({ on, values: [mean, half, p] }) => `${SPLITS[on] ?? on} ${points(mean)} ± ${(100 * half).toFixed(1)} (p ${probability(p)})`).join("; ")}.`;
    const far = Math.max(0.01, ...found.map(({ values: [mean, half] }) => Math.abs(mean) + half));
    chart.replaceChildren(
      intervals({
        width: Math.max(260, chart.clientWidth),
        label: said.textContent,
        x: { label: "difference of hIoU in points, 95% interval", low: -1.05 * far, high: 1.05 * far, say: (value) => points(value, far < 0.03 ? 1 : 0) },
        rows: found.map(({ on, values: [mean, half] }, i) => ({ name: SPLITS[on] ?? on, low: mean - half, high: mean + half, at: mean, stroke: colour(i), shape: MARKS[i] })),
        upright: 0,
      }),
    );
  };
  const note = "An interval that excludes zero is a difference that the seeds agree on, if it is the only one that is asked for: among all pairs one in twenty is called different by luck.";
  const node = element(
    "div",
    { class: "contrast" },
    element("p", { class: "title" }, "Any two, paired"),
    element("div", { class: "controls" }, one.node, other.node),
    chart,
    said,
    element("p", { class: "remark" }, note),
  );
  redrawn(chart, draw);
  return node;
}

/** The few comparisons that studies named beforehand, corrected for all of them. */
function planned({ planned: studies }) {
  return Object.entries(studies)
    .flatMap(([study, found]) => Object.entries(found).map(([on, pairs]) => ({ study, on, pairs })))
    .filter(({ pairs }) => pairs.length)
    .map(({ study, on, pairs }) => {
      const rows = pairs.map(({ first, second, mean, half, p, corrected }) => [
        `${first} minus ${second}`, `${points(mean)} ± ${(100 * half).toFixed(1)}`, probability(p), probability(corrected),
      ]);
      const title = `Planned contrasts of the study ${study}, ${SPLITS[on] ?? on}`;
      const holder = element("div", { class: "wide", tabindex: 0, role: "region", "aria-label": title }, table(["contrast", "hIoU, points ± 95%", "p", "p corrected (Holm)"], rows));
      return element("details", { class: "numbers planned" }, element("summary", {}, title), holder);
    });
}

const probability = (p) => (p < 0.001 ? "below 0.001" : p.toFixed(3));
