// What a patch, or a word, is similar to under every read-out.

import { canvas, frame, paintMap, paintPicture, decoded } from "./charts.js";
import { choice, credited, element, numbers, panel } from "./parts.js";

const SIDE = 256;
const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

export async function start(place, data) {
  const { side, read_outs: readOuts, words } = data;
  const { body, controls, figures, said, under } = panel(place, "Explorer: what is this patch similar to?");
  const cache = new Map();
  let [row, column] = data.patch;
  let now = null; // what is shown: the scene's picture and its cosines

  const scene = choice("Scene", data.scenes.map(({ title }, i) => [i, `${i + 1}: ${title}`]), 0, () => show());
  const asked = choice("Similar to", [[null, "the framed patch"], ...words.map((word, i) => [i, `the word “${word}”`])], null, () => draw());
  controls.append(scene.node, asked.node);

  const picture = canvas("The scene", SIDE);
  const grid = element(
    "div",
    { class: "patches", role: "application", tabindex: 0, "aria-label": "Patches of the scene; arrow keys move the frame", keydown: move, click: point },
    picture,
  );
  const maps = readOuts.map((name) => ({ name, target: canvas(name, SIDE), under: element("figcaption") }));
  figures.classList.add("maps");
  figures.append(
    element("figure", {}, grid, element("figcaption", {}, "Click a patch, or move the frame with the arrow keys.")),
    ...maps.map((map) => element("figure", {}, map.target, map.under)),
  );
  const table = numbers("Cosines of every patch, as a table");
  const spread = numbers("Lowest, highest and spread of every map, as a table");
  under.append(spread.node, table.node, credited(data.credits));

  function move(event) {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const inside = (value) => Math.min(side - 1, Math.max(0, value));
    [row, column] = [inside(row + step[0]), inside(column + step[1])];
    asked.value = null; // who moves the frame asks about the patch
    draw();
  }

  function point(event) {
    const box = picture.getBoundingClientRect();
    const at = (offset, length) => Math.min(side - 1, Math.max(0, Math.floor((offset / length) * side)));
    [row, column] = [at(event.clientY - box.top, box.height), at(event.clientX - box.left, box.width)];
    asked.value = null;
    draw();
  }

  async function show() {
    const index = scene.value;
    if (!cache.has(index)) cache.set(index, loaded(data, index));
    now = await cache.get(index);
    if (index === scene.value) draw();
  }

  /** Cosines (N) of all patches with what is asked about. */
  function values(readOut) {
    const n = side * side;
    const start = readOut * ((n * (n + 1)) / 2 + words.length * n);
    const at = (place) => now.cosines[start + place] / data.scale;
    if (asked.value !== null) return [...Array(n).keys()].map((i) => at((n * (n + 1)) / 2 + asked.value * n + i));
    const patch = row * side + column;
    return [...Array(n).keys()].map((i) => at((Math.max(i, patch) * (Math.max(i, patch) + 1)) / 2 + Math.min(i, patch)));
  }

  function draw() {
    const patch = row * side + column;
    const word = asked.value === null ? null : words[asked.value];
    const what = word === null ? `the patch in row ${row}, column ${column}` : `the word “${word}”`;
    paintPicture(picture, now.picture);
    if (word === null) frame(picture, patch, side);
    const every = readOuts.map((_, i) => values(i));
    const deviations = every.map(deviation);
    maps.forEach(({ name, target, under: caption }, i) => {
      const [low, high] = paintMap(target, every[i], side);
      if (word === null) frame(target, patch, side);
      caption.replaceChildren(element("b", {}, name), ` ${low.toFixed(2)} to ${high.toFixed(2)}`);
      target.setAttribute("aria-label", `${name}: cosines with ${what}, from ${low.toFixed(2)} (dark) to ${high.toFixed(2)} (bright)`);
    });
    const widest = readOuts[deviations.indexOf(Math.max(...deviations))];
    said.textContent = `Cosine of every patch with ${what} under ${readOuts.length} read-outs; patches differ most under ${widest}. Each map has its own scale.`;
    spread.set(["read-out", "lowest", "highest", "standard deviation"], () =>
      readOuts.map((name, i) => [name, Math.min(...every[i]).toFixed(2), Math.max(...every[i]).toFixed(2), deviations[i].toFixed(2)]),
    );
    table.set(["row, column", ...readOuts], () =>
      [...Array(side * side).keys()].map((i) => [`${Math.floor(i / side)}, ${i % side}`, ...every.map((each) => each[i].toFixed(2))]),
    );
  }

  await show();
  return body;
}

async function loaded(data, index) {
  const file = (name) => new URL(name, import.meta.url);
  const [picture, answer] = await Promise.all([decoded(file(data.scenes[index].file)), fetch(file(`similarity-${index}.bin`))]);
  if (!answer.ok) throw new Error(`got ${answer.status} for the cosines of scene ${index + 1}`);
  const bytes = new DataView(await answer.arrayBuffer());
  // Little-endian whatever the machine is.
  return { picture, cosines: Int16Array.from({ length: bytes.byteLength / 2 }, (_, i) => bytes.getInt16(2 * i, true)) };
}

function deviation(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
}
