// The panel that drags a training: maps that were computed before, and curves.

import { fetched, labelled } from "./clip.js";
import { drawCurves, drawLabels, drawMap } from "./draw.js";

const $ = (id) => document.getElementById(id);
const percent = (part) => `${Math.round(100 * part)}%`;
const ALL = "all";
const OTHER = "#a0a0a0"; // of words that the scene does not show

/**
 * @param {object} about what content.json says of the trainings
 * @param {{grid: number, side: number, colours: Object<string, string>}} content
 */
export async function startTraining(about, content) {
  const bytes = new Uint8Array(await (await fetched("trainings.bin")).arrayBuffer());
  const [, frames, scenes, words, grid] = about.shape;
  const pictures = await Promise.all(about.pictures.map(decoded));
  const size = grid * grid;
  const trainings = Object.keys(about.frames);
  const scale = (about.high - about.low) / 255;
  /** Logits (grid, grid) of a word at a step. */
  const map = (training, frame, scene, word) => {
    const place = ((trainings.indexOf(training) * frames + frame) * scenes + scene) * words + word;
    return Float32Array.from(bytes.subarray(place * size, (place + 1) * size), (byte) => about.low + byte * scale);
  };
  const steps = about.frames[trainings[0]].map((frame) => frame.step);
  const learnt = new Set(about.seen);
  const leftOut = new Set(about.unseen); // both are places in about.names
  const kind = (word) => (learnt.has(word) ? "learnt" : leftOut.has(word) ? "left out" : "ground");

  const draw = () => {
    const [frame, scene] = [Number($("step").value), Number($("training-scene").value)];
    const shown = $("training-word").value;
    $("step").setAttribute("aria-valuetext", `step ${steps[frame]}`);
    $("step-said").textContent = steps[frame] === 0 ? "0: zero-shot, nothing learnt yet" : `${steps[frame]} of ${steps.at(-1)}`;
    for (const training of trainings) {
      const said = shown === ALL ? drawAll(training, frame, scene) : drawOne(training, frame, scene, Number(shown));
      $(training).setAttribute("aria-label", `${training}, step ${steps[frame]}: ${said}`);
      $(`${training}-said`).textContent = said;
    }
    drawNumbers(frame);
  };

  /** The scene's own words in their colours, all others grey. */
  const coloursOf = (scene) =>
    about.names.map((name, word) => (about.words[scene].includes(word) ? content.colours[name] : OTHER));

  const drawAll = (training, frame, scene) => {
    const maps = about.names.map((_, word) => map(training, frame, scene, word));
    const labels = labelled(maps, grid, content.side);
    drawLabels($(training), pictures[scene], labels, content.side, coloursOf(scene));
    const counts = new Map();
    labels.forEach((label) => counts.set(label, (counts.get(label) ?? 0) + 1));
    const parts = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 5);
    const name = ([word, count]) => `${about.names[word]} ${percent(count / labels.length)}`;
    return `All ${about.names.length} words compete: ${parts.map(name).join(", ")}${counts.size > 5 ? ", and others" : ""}.`;
  };

  const drawOne = (training, frame, scene, word) => {
    // One scale for all steps, so that a map that fades is seen to fade.
    const every = trainings.flatMap((each) => steps.map((_, i) => map(each, i, scene, word)));
    const low = Math.min(...every.map((values) => Math.min(...values)));
    const high = Math.max(...every.map((values) => Math.max(...values)));
    const values = map(training, frame, scene, word);
    drawMap($(training), pictures[scene], values, grid, low, high);
    const others = about.names.map((_, other) => map(training, frame, scene, other));
    const labels = labelled(others, grid, content.side);
    const share = labels.reduce((sum, label) => sum + (label === word ? 1 : 0), 0) / labels.length;
    return `“${about.names[word]}” (${kind(word)}): logits up to ${Math.max(...values).toFixed(1)}; it wins ${percent(share)} of the picture against all words.`;
  };

  const curve = (training, key, group) => ({
    name: `${training}, ${group} nouns`,
    values: about.frames[training].map((each) => each[key]),
    dash: training === "plain" ? "" : "7 5",
    colour: `var(--${group === "learnt" ? "learnt" : "left-out"})`,
  });
  const curves = trainings.flatMap((each) => [curve(each, "mIoU_seen", "learnt"), curve(each, "mIoU_unseen", "left-out")]);
  const drawNumbers = (frame) => {
    drawCurves($("curves"), steps, curves, frame);
    const said = curves.map(({ name, values }) => `${name} ${percent(values[frame])}`).join("; ");
    $("curves-said").textContent = `At step ${steps[frame]}: ${said}.`;
    $("curves").setAttribute("aria-label", `Mean intersection over union along the training. ${$("curves-said").textContent}`);
  };

  const fillWords = () => {
    const scene = Number($("training-scene").value);
    const present = about.words[scene];
    $("training-legend").replaceChildren(
      ...present.map((word) => swatch(`${about.names[word]} (${kind(word)})`, coloursOf(scene)[word])),
      swatch("a word that is not in the scene", OTHER),
    );
    $("training-word").replaceChildren(
      new Option("the labels of all words", ALL),
      ...present.map((word) => new Option(`the map of “${about.names[word]}” (${kind(word)})`, word)),
    );
  };

  const last = (training, key) => about.frames[training].at(-1)[key];
  const first = about.frames[trainings[0]][0];
  $("training-about").textContent =
    `Here collage-mini was tuned on the pixels of ${about.seen.length} nouns (${about.seen.map((i) => about.names[i]).join(", ")}) and the grounds, ` +
    `once plainly, and once with a repair: InfoCLIP's objective, which ties patches and words together as they were before. The maps were computed before; one training each, measured on ${about.measured} scenes.`;
  $("training-why").textContent =
    `Words that were left out score ${percent(first.mIoU_unseen)} before, ${percent(last("plain", "mIoU_unseen"))} after plain fine-tuning, ` +
    `and ${percent(last("repaired", "mIoU_unseen"))} after the one with the repair; the learnt ones ${percent(first.mIoU_seen)}, ${percent(last("plain", "mIoU_seen"))} and ${percent(last("repaired", "mIoU_seen"))} ` +
    `(mean intersection over union, one seed, ${about.measured} scenes: a picture of what happens, and no measurement. The notebooks have those, with intervals).`;
  about.pictures.forEach((_, i) => {
    const words = about.words[i].map((word) => about.names[word]).join(", ");
    $("training-scene").append(new Option(`${i + 1}: ${words}`, i));
  });
  $("curves-legend").append(...curves.map(legend));
  $("step").max = steps.length - 1;
  fillWords();
  $("step").addEventListener("input", draw);
  $("training-word").addEventListener("change", draw);
  $("training-scene").addEventListener("change", () => {
    fillWords();
    draw();
  });
  window.addEventListener("opened", draw);
  draw();
}

function legend({ name, dash, colour }) {
  const line = document.createElement("li");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 38 10");
  svg.setAttribute("aria-hidden", "true");
  const stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const attributes = { x1: 0, x2: 38, y1: 5, y2: 5, stroke: colour, "stroke-width": 3, "stroke-dasharray": dash };
  Object.entries(attributes).forEach(([key, value]) => stroke.setAttribute(key, value));
  svg.append(stroke);
  line.append(svg, name);
  return line;
}

function swatch(name, colour) {
  const line = document.createElement("li");
  const square = Object.assign(document.createElement("span"), { className: "swatch" });
  square.style.background = colour;
  line.append(square, ` ${name}`);
  return line;
}

async function decoded(file) {
  const image = Object.assign(new Image(), { src: file });
  await image.decode();
  return image;
}
