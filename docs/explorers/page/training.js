// One training as a slider, and beside it the curves of several seeds with their intervals.

import { canvas, colour, curves, dash, decoded, legend, MARKS, paintPicture, paintPixels, sample } from "./charts.js";
import { boxes, choice, credited, element, numbers, panel, percent, points, redrawn, slider, withHalf } from "./parts.js";

const SIDE = 192;
const FEW = 0.01; // of a scene: a word with less is not named

export async function start(place, data) {
  const { frames, names, titles } = data;
  const scenes = data.scenes.length;
  const { controls, figures, said, under } = panel(place, "Explorer: a training as a slider");
  const [images, truth, ...labels] = await Promise.all(
    [data.images, data.truth, ...frames.map((frame) => frame.labels)].map((strip) => decoded(`data:image/png;base64,${strip}`)),
  );
  const [there, ...found] = [truth, ...labels].map((strip) => labelsOf(strip, scenes));
  const steps = frames.map((frame) => frame.step);
  const keys = Object.keys(titles);
  const studies = Object.keys(data.curves);
  const leftOut = new Set(data.unseen);

  const step = slider("Training step", steps, steps[steps.length - 1], () => draw());
  const measures = boxes("Measures", keys, () => draw(), {
    say: (key) => titles[key],
    mark: (_, i) => sample({ stroke: colour(i), dashes: dash(i), shape: MARKS[i] }),
  });
  const seeds = choice(
    "Bands: trainings of the map",
    [[null, "none"], ...studies.map((name) => [name, `${name} (${data.seeds[name]} seeds)`])],
    null,
    () => draw(),
  );
  controls.append(step.node, seeds.node, measures.node);

  const words = element("ul", { class: "legend" });
  const rows = Array.from({ length: scenes }, (_, i) => ({
    scene: canvas(`Scene ${i + 1}`, SIDE),
    truth: canvas("", SIDE),
    now: canvas("", SIDE),
    caption: element("figcaption"),
  }));
  rows.forEach((each, i) => paintPicture(each.scene, images, i, scenes));
  const chart = element("div", { class: "chart" });
  figures.append(
    element("div", { class: "scenes" }, ...rows.map((each) => element("figure", { class: "strip" }, each.scene, each.truth, each.now, each.caption))),
    words,
    chart,
  );
  const table = numbers("Numbers of this step, as a table");
  under.append(table.node, credited(data.credits));

  /** The words of a scene and their parts of it, the largest first. */
  const named = (map) => {
    const counts = new Map();
    map.forEach((label) => counts.set(label, (counts.get(label) ?? 0) + 1));
    return [...counts]
      .map(([label, count]) => ({ label, part: count / map.length }))
      .filter(({ label, part }) => names[label] !== undefined && part >= FEW)
      .sort((a, b) => b.part - a.part);
  };
  const kind = (label) => (leftOut.has(label) ? `${names[label]} (left out)` : names[label]);
  const inWords = (parts) => parts.map(({ label, part }) => `${names[label]} ${percent(part, 0)}`).join(", ");

  function drawScenes(at) {
    const shown = new Set();
    rows.forEach((each, i) => {
      const [right, now] = [named(there[i]), named(found[at][i])];
      [...right, ...now].forEach(({ label }) => shown.add(label));
      paintLabels(each.truth, there[i], data);
      paintLabels(each.now, found[at][i], data);
      each.truth.setAttribute("aria-label", `Scene ${i + 1}, the truth: ${inWords(right)}`);
      each.now.setAttribute("aria-label", `Scene ${i + 1} at step ${steps[at]}: ${inWords(now)}`);
      each.caption.textContent = `Scene ${i + 1}: picture, truth, and step ${steps[at]} (${inWords(now.slice(0, 3))}).`;
    });
    words.replaceChildren(
      ...[...shown].map((label) => {
        const square = element("span", { class: "swatch" });
        square.style.background = data.colours[label];
        return element("li", {}, square, kind(label));
      }),
    );
  }

  function drawCurves(at) {
    const chosen = keys.map((key, i) => ({ key, i })).filter(({ key }) => measures.value.includes(key));
    const bands = data.curves[seeds.value] ?? {};
    const series = chosen.map(({ key, i }) => ({
      name: titles[key],
      stroke: colour(i),
      dashes: dash(i),
      shape: MARKS[i],
      points: frames.map((frame) => [frame.step, frame[key]]),
      band: bands[key]?.map(([when, mean, half]) => [when, mean - half, mean + half]),
    }));
    const label = `${chosen.map(({ key }) => `${titles[key]} ${percent(frames[at][key])}`).join(", ")} at step ${steps[at]}; numbers in the table below`;
    const last = Math.max(...steps, ...series.flatMap(({ band }) => (band ?? []).map(([when]) => when)));
    chart.replaceChildren(
      curves({
        width: Math.max(260, chart.clientWidth),
        label,
        x: { label: "training step", low: steps[0], high: last },
        y: { label: "share", low: 0, high: 1, say: (value) => percent(value, 0) },
        series,
        at: steps[at],
      }),
      legend(series),
      element("p", { class: "remark" }, seeds.value === null ? "Lines: this one training." : `Lines: this one training. Bands: 95% intervals of the mean of ${data.seeds[seeds.value]} seeds of ${seeds.value}.`),
    );
  }

  function draw() {
    const at = steps.indexOf(step.value);
    drawScenes(at);
    drawCurves(at);
    const parts = keys.map((key) => `${titles[key]} ${percent(frames[at][key])} (from ${percent(frames[0][key])})`);
    said.textContent = `After ${steps[at]} steps of ${data.recipe}, one training: ${parts.join(", ")}.`;
    const bands = data.curves[seeds.value] ?? {};
    table.set(["measure", "this training", "since step 0, points", "mean of seeds ± 95%, %"], () =>
      keys.map((key) => {
        const mean = bands[key]?.find(([when]) => when === steps[at]);
        return [titles[key], percent(frames[at][key]), points(frames[at][key] - frames[0][key]), mean ? withHalf(mean.slice(1)) : "–"];
      }),
    );
  }

  redrawn(chart, draw);
}

/** For each scene its labels, a number a pixel. */
function labelsOf(strip, scenes) {
  const target = element("canvas", { width: strip.width, height: strip.height });
  const context = target.getContext("2d", { willReadFrequently: true });
  context.drawImage(strip, 0, 0);
  const height = strip.height / scenes;
  return Array.from({ length: scenes }, (_, i) => {
    const { data } = context.getImageData(0, i * height, strip.width, height);
    return Uint8Array.from({ length: data.length / 4 }, (_, pixel) => data[4 * pixel]);
  });
}

function paintLabels(target, labels, { colours, unlabelled }) {
  const side = Math.sqrt(labels.length);
  const pixels = new ImageData(side, side);
  labels.forEach((label, i) => {
    const hex = colours[label] ?? unlabelled;
    pixels.data.set([1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16)), 4 * i);
    pixels.data[4 * i + 3] = 255;
  });
  paintPixels(target, pixels);
}
