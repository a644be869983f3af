// Which patches the objective learns from: those most like CLS, fewer and fewer as the training goes on.

import { canvas, colour, curves, decoded, legend, paintMap, paintPicture, paintPixels } from "./charts.js";
import { choice, credited, element, numbers, panel, percent, redrawn, slider, withHalf } from "./parts.js";

const SIDE = 256;

export async function start(place, data) {
  const { progress, side, positions } = data;
  const { controls, figures, said, under } = panel(place, "Explorer: how many positions are kept, and which");
  const pictures = await Promise.all(data.scenes.map(({ file }) => decoded(new URL(file, import.meta.url))));
  const schedules = Object.keys(data.kept);
  const schedule = choice("Schedule of K", schedules, schedules[0], () => {
    at.value = at.value; // says its K
    draw();
  });
  const count = (value) => data.kept[schedule.value][progress.indexOf(value)];
  const at = slider("Progress of the training", progress, progress[0], () => draw(), (value) => `${percent(value, 0)}, K = ${count(value)}`);
  const readOut = choice("Read-outs", Object.keys(data.order), Object.keys(data.order)[0], () => draw());
  const scene = choice("Scene", data.scenes.map(({ title }, i) => [i, `${i + 1}: ${title}`]), 0, () => draw());
  controls.append(at.node, schedule.node, readOut.node, scene.node);

  const panels = ["The scene, objects outlined", "Similarity to CLS", "Kept: the patches in colour"].map((title) => {
    const target = canvas(title, SIDE);
    const caption = element("figcaption", {}, title);
    return { target, caption, node: element("figure", {}, target, caption) };
  });
  const chart = element("div", { class: "chart" });
  figures.append(element("div", { class: "three" }, ...panels.map((each) => each.node)), chart);
  const table = numbers("Numbers of the chart, as a table");
  under.append(table.node, credited(data.credits));

  function draw() {
    const [index, name, k] = [scene.value, readOut.value, count(at.value)];
    const kept = data.order[name][index].slice(0, k);
    const [whole, map, part] = panels;
    paintPicture(whole.target, pictures[index]);
    outline(whole.target, data.outlines[index]);
    const [low, high] = paintMap(map.target, data.similarity[name][index], side);
    outline(map.target, data.outlines[index]);
    map.caption.textContent = `Similarity to CLS, ${low.toFixed(2)} to ${high.toFixed(2)}`;
    paintPixels(part.target, pale(pictures[index], new Set(kept), side));
    outline(part.target, data.outlines[index]);
    const share = data.on_objects[name][index][k - 1];
    const chance = data.chances[index];
    part.caption.textContent = `Kept: K = ${k} of ${positions}, ${percent(share, 0)} of their area shows objects`;
    whole.target.setAttribute("aria-label", `The scene: ${data.scenes[index].title}`);
    map.target.setAttribute("aria-label", `Similarity of every patch to CLS, from ${low.toFixed(2)} (dark) to ${high.toFixed(2)} (bright)`);
    part.target.setAttribute("aria-label", `${k} patches most similar to CLS in colour, all others pale`);
    const over = data.over_scenes[name][k - 1];
    said.textContent =
      `After ${percent(at.value, 0)} of the training K = ${k}: the kept patches show ${percent(share)} objects in this scene (all patches: ${percent(chance)}); ` +
      `over ${data.measured} scenes ${withHalf(over)}% (all: ${withHalf(data.chance_over_scenes)}%).`;
    drawChart(name, index);
    table.set(["progress", "K", "objects, this scene (%)", `objects, mean of ${data.measured} scenes ± 95% (%)`], () =>
      progress.map((value) => {
        const each = count(value);
        return [percent(value, 0), each, (100 * data.on_objects[name][index][each - 1]).toFixed(1), withHalf(data.over_scenes[name][each - 1])];
      }),
    );
  }

  function drawChart(name, index) {
    const along = (say) => progress.map((value) => [value, say(count(value))]);
    const [mean, half] = data.chance_over_scenes;
    const series = [
      { name: `kept patches, ${data.measured} scenes: mean and 95% interval`, stroke: colour(0), points: along((k) => data.over_scenes[name][k - 1][0]), band: progress.map((value) => {
        const [middle, width] = data.over_scenes[name][count(value) - 1];
        return [value, middle - width, middle + width];
      }) },
      { name: `all patches, ${data.measured} scenes: ${withHalf([mean, half])}%`, stroke: colour(2), dashes: "2 3", points: [[0, mean], [1, mean]], band: [[0, mean - half, mean + half], [1, mean - half, mean + half]] },
      { name: "kept patches, this scene", stroke: colour(1), dashes: "7 4", shape: "circle", points: along((k) => data.on_objects[name][index][k - 1]) },
      { name: "K, as a share of all positions", stroke: "var(--ex-soft)", points: along((k) => k / positions) },
    ];
    chart.replaceChildren(
      curves({
        width: Math.max(260, chart.clientWidth),
        label: `Share of objects in the kept patches over the training, and K; numbers in the table below`,
        x: { label: "progress of the training", low: 0, high: 1, say: (value) => percent(value, 0) },
        y: { label: "share", low: 0, high: 1, say: (value) => percent(value, 0) },
        series,
        at: at.value,
      }),
      legend(series),
    );
  }

  redrawn(chart, draw);
}

/** The picture with only the kept patches in colour; what is left out stays visible, pale and grey. */
function pale(picture, kept, side) {
  const target = element("canvas", { width: picture.width, height: picture.height });
  const context = target.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, picture.width, picture.height);
  const patch = picture.width / side;
  for (let i = 0; i < pixels.data.length / 4; i++) {
    const [x, y] = [i % picture.width, Math.floor(i / picture.width)];
    if (kept.has(Math.floor(y / patch) * side + Math.floor(x / patch))) continue;
    const grey = (pixels.data[4 * i] + pixels.data[4 * i + 1] + pixels.data[4 * i + 2]) / 3;
    pixels.data.fill(0.75 * 255 + 0.15 * grey, 4 * i, 4 * i + 3);
  }
  return pixels;
}

/** A line around objects, white on black so that it shows everywhere. */
function outline(target, rows) {
  const context = target.getContext("2d");
  const size = target.width / rows.length;
  const edges = new Path2D();
  rows.forEach((row, y) => {
    for (let x = 0; x < row.length; x++) {
      if (x && row[x] !== row[x - 1]) edges.rect(x * size, y * size, 0, size);
      if (y && row[x] !== rows[y - 1][x]) edges.rect(x * size, y * size, size, 0);
    }
  });
  for (const [stroke, width] of [["#000", 4], ["#fff", 2]]) {
    [context.strokeStyle, context.lineWidth] = [stroke, width];
    context.stroke(edges);
  }
}
