// The page: what a reader chooses, what is computed, what is drawn and said.

import { ImageTower, TextTower, cosines, fetched, labelled, loadRuntime, mean, obstacle } from "./clip.js";
import { drawFrame, drawLabels, drawMap } from "./draw.js";
import { squareOf, tensorOf } from "./preprocess.js";
import { Tokenizer } from "./tokenizer.js";
import { startTraining } from "./training.js";

const NEAREST = 14; // patches, a tenth of them: as many are counted as similar
const OWN = "own";

const $ = (id) => document.getElementById(id);
const percent = (part) => `${Math.round(100 * part)}%`;

const state = {
  content: null, // what content.json says
  vectors: new Map(), // word -> its unit vector
  ort: null,
  tower: null,
  model: null, // a promise of the two
  text: null, // a promise of the text tower, once a word asks for it
  picture: null, // what canvases draw: a canvas with the square
  seen: null, // what the tower says of it
  words: [], // {name, on, colour}
  readOut: "vanilla", // what CLIP was trained with, to compare others with; OWN is the model's mixture
  patch: 0,
};
// For tests and for the curious: window.explainer in the console.
window.explainer = { state };

/** Draw and speak as soon as the page's parts are there. */
async function start() {
  document.documentElement.dataset.started = "yes";
  state.content = await (await fetched("content.json")).json();
  offerPredictions();
  $("training").hidden = false;
  startTraining(state.content.trainings, state.content).catch((error) => notice(error.message));
  const [vectors, first] = await Promise.all([fetched("words.bin"), fetched("first.bin")]);
  readVectors(await vectors.arrayBuffer());
  listen();
  // The first picture was computed before: nobody waits for the model to see what it does.
  await show(state.content.pictures[0], seenBefore(await first.arrayBuffer()));
  $("still").hidden = true;
  $("live").hidden = false;
  performance.mark("first-result");
  const hindrance = obstacle();
  if (hindrance) {
    state.model = Promise.reject(new Error(hindrance));
    state.model.catch(() => null); // it is told here, and again to whoever chooses another picture
    return notice(`${hindrance} This first picture and the training below were computed before, and can be explored.`);
  }
  say("Loading the model…");
  state.model = loadModel();
  await state.model;
  say("The model is here.");
  performance.mark("model-ready");
}

async function loadModel() {
  state.ort = await loadRuntime(notice);
  state.tower = await ImageTower.load(state.ort, "image.onnx", state.content);
}

/** What the tower says of the first picture, as `ImageTower.encode` gives it, from a file. */
function seenBefore(buffer) {
  const { read_outs: readOuts, grid, width } = state.content;
  const [patches, attention] = [grid * grid * width, (grid * grid + 1) ** 2];
  const each = (size, start) => readOuts.map((_, i) => new Float32Array(buffer, 4 * (start + i * size), size));
  return { patches: each(patches, 0), attention: each(attention, readOuts.length * patches) };
}

function say(text) {
  $("status").textContent = text;
}

function notice(text) {
  const line = Object.assign(document.createElement("p"), { className: "notice", textContent: text });
  $("notices").append(line);
}

function readVectors(buffer) {
  const { words, width } = state.content;
  words.forEach((word, i) => state.vectors.set(word, new Float32Array(buffer, 4 * width * i, width)));
}

/** Questions before answers: what a form opens stays closed until it is answered or skipped. */
function offerPredictions() {
  for (const form of document.querySelectorAll(".predict")) {
    const why = form.querySelector(".why");
    const open = () => {
      why.hidden = false;
      if (form.dataset.opens) $(form.dataset.opens).hidden = false;
      if (state.seen) redraw();
      window.dispatchEvent(new Event("opened"));
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      form.querySelector(".verdict")?.remove();
      const verdict = Object.assign(document.createElement("strong"), { className: "verdict" });
      verdict.textContent = "right" in form.querySelector("input:checked").dataset ? "As you said. " : "Not so. ";
      why.prepend(verdict);
      open();
    });
    form.querySelector(".skip").addEventListener("click", open);
  }
}

function listen() {
  const { pictures, words, read_outs: readOuts, own } = state.content;
  for (const entry of pictures) {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.dataset.key = entry.key;
    button.setAttribute("aria-pressed", "false");
    button.append(Object.assign(new Image(), { src: entry.file, alt: "" }), entry.title);
    button.addEventListener("click", () => guarded(() => choose(entry)));
    $("pictures").append(button);
  }
  words.forEach((word) => $("known").append(new Option(word)));
  $("read-out").append(new Option(`${own.join(" + ")} (the model's own)`, OWN));
  readOuts.forEach((name) => $("read-out").append(new Option(name, name)));
  $("read-out").value = state.readOut;
  $("read-out").addEventListener("change", (event) => {
    state.readOut = event.target.value;
    redraw();
  });
  $("map-word").addEventListener("change", redraw);
  $("add").addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(addWord);
  });
  $("file").addEventListener("change", (event) => {
    ownPhoto(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  for (const type of ["dragover", "dragleave", "drop"]) {
    window.addEventListener(type, (event) => {
      event.preventDefault(); // else the browser would leave the page and open the file
      $("drop").classList.toggle("over", type === "dragover");
      if (type === "drop") ownPhoto(event.dataTransfer.files[0]);
    });
  }
  for (const id of ["similar-grid", "look-grid"]) {
    $(id).addEventListener("click", (event) => point(event, $(id)));
    $(id).addEventListener("keydown", move);
  }
}

/** One thing after the other, for the runtime computes one at a time; what goes wrong is said, and the page goes on. */
let queue = Promise.resolve();
function guarded(act) {
  queue = queue.then(act).catch((error) => {
    console.warn(error);
    say("");
    notice(error.message);
  });
  return queue;
}

function ownPhoto(file) {
  $("notices").replaceChildren();
  if (!file) return notice("Nothing was dropped that is a file.");
  return guarded(() => choose({ key: "own", blob: file, words: state.words.map((word) => word.name) }));
}

/** Look at a picture of the page or at the reader's own. */
async function choose(entry) {
  say(state.tower ? "Looking…" : "Loading the model…");
  await state.model;
  const blob = entry.blob ?? (await (await fetched(entry.file)).blob());
  const square = await squareOf(blob);
  await new Promise((resolve) => setTimeout(resolve)); // “Looking…” is painted before the model works
  const began = performance.now();
  await show(entry, await state.tower.encode(tensorOf(square, state.content.side)), square);
  say(`Computed in this page in ${((performance.now() - began) / 1000).toFixed(1)} seconds.`);
}

/** Draw all panels of a picture of which the tower has said its part. */
async function show(entry, seen, given = null) {
  const square = given ?? (await squareOf(await (await fetched(entry.file)).blob()));
  state.seen = seen;
  const picture = Object.assign(document.createElement("canvas"), { width: square.width, height: square.height });
  picture.getContext("2d").putImageData(square, 0, 0);
  state.picture = picture;
  state.words = [];
  for (const name of entry.words) state.words.push({ name, on: true, colour: freeColour(name) });
  state.patch = Math.floor((state.content.grid ** 2 + state.content.grid) / 2);
  for (const button of $("pictures").children) {
    button.setAttribute("aria-pressed", String(button.dataset.key === entry.key));
  }
  fillWords();
  redraw();
}

/** A word's own colour, the same as in every figure of the series; another where it has none, or it is taken. */
function freeColour(name) {
  const taken = new Set(state.words.map((word) => word.colour));
  const own = state.content.colours[name.toLowerCase()];
  return own && !taken.has(own) ? own : state.content.palette.find((colour) => !taken.has(colour));
}

async function addWord() {
  const field = $("word");
  const name = field.value.trim().replace(/\s+/g, " ");
  const said = (text) => ($("word-said").textContent = text);
  if (!name.replace(/[|,\s]/g, "")) return said("Type a word first: letters, as in “zebra”.");
  if (state.words.some((word) => word.name.toLowerCase() === name.toLowerCase())) {
    return said(`“${name}” is there already: two equal words would tie everywhere.`);
  }
  if (state.words.length >= state.content.palette.length) return said("There are no colours left; take words away by choosing another picture.");
  let remark = "";
  if (!state.vectors.has(name)) {
    said("Loading the text tower…");
    state.text ??= loadText();
    const text = await state.text.catch((error) => {
      state.text = null; // the next word tries again
      said("");
      throw error;
    });
    try {
      state.vectors.set(name, await text.word(name));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return said(error.message);
    }
    if (!text.tokenizer.knows(name)) remark = ` But the model was never taught ${name.includes(" ") ? "some of these words" : "this word"}: its answer means little.`;
  }
  state.words.push({ name, on: true, colour: freeColour(name) });
  field.value = "";
  fillWords(name);
  redraw();
  const share = $("words").querySelector(`[data-word="${CSS.escape(name)}"]`)?.dataset.share;
  return said(`“${name}” gets ${share ?? "0%"} of the picture.${remark}`);
}

async function loadText() {
  await state.model;
  const { merges, known, context } = await (await fetched("tokenizer.json")).json();
  return TextTower.load(state.ort, "text.onnx", new Tokenizer(merges, known, context), state.content.templates);
}

/** A box to tick for each word, and the words of which a map can be seen. */
function fillWords(mapped = $("map-word").value) {
  $("words").replaceChildren(
    ...state.words.map((word) => {
      const label = document.createElement("label");
      label.dataset.word = word.name;
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: word.on });
      box.addEventListener("change", () => {
        if (!box.checked && state.words.filter((each) => each.on).length === 1) {
          box.checked = true; // a competition of nobody has no winner
          $("word-said").textContent = "One word has to stay.";
          return;
        }
        word.on = box.checked;
        redraw();
      });
      const swatch = Object.assign(document.createElement("span"), { className: "swatch" });
      swatch.style.background = word.colour;
      label.append(box, swatch, Object.assign(document.createElement("span"), { className: "name", textContent: word.name }));
      return label;
    }),
  );
  $("map-word").replaceChildren(...state.words.map((word) => new Option(`“${word.name}”`, word.name)));
  if (state.words.some((word) => word.name === mapped)) $("map-word").value = mapped;
}

/** Patches (N, D) of the read-outs that are chosen. */
function chosenPatches(choice) {
  const names = choice === OWN ? state.content.own : [choice];
  return names.map((name) => state.seen.patches[state.content.read_outs.indexOf(name)]);
}

/** The mean logits of a word over the chosen read-outs, on the grid. */
function logits(word, choice) {
  const each = chosenPatches(choice).map((patches) => cosines(patches, state.vectors.get(word.name)));
  return mean(each).map((cosine) => cosine * state.content.scale);
}

function labelsOf(choice) {
  const words = state.words.filter((word) => word.on);
  const { grid, side } = state.content;
  return { words, labels: labelled(words.map((word) => logits(word, choice)), grid, side) };
}

/** Which part of the picture each word has, the largest first. */
function shares(words, labels) {
  const counts = words.map(() => 0);
  labels.forEach((label) => counts[label]++);
  return words.map((word, i) => ({ word, share: counts[i] / labels.length })).sort((a, b) => b.share - a.share);
}

function inWords(parts) {
  const some = parts.filter(({ share }) => share >= 0.005);
  return some.map(({ word, share }) => `${word.name} ${percent(share)}`).join(", ");
}

function redraw() {
  const { grid, side } = state.content;
  const found = labelsOf(OWN);
  const parts = shares(found.words, found.labels);
  paintLabels("labels", found, inWords(parts));
  for (const label of $("words").children) {
    const part = parts.find(({ word }) => word.name === label.dataset.word);
    label.dataset.share = part ? percent(part.share) : "";
    label.querySelector(".name").textContent = `${label.dataset.word} ${label.dataset.share}`.trim();
  }
  window.explainer.labels = { names: found.words.map((word) => word.name), labels: found.labels, side };
  drawWordMap(grid);
  if (!$("similar-body").hidden) drawSimilar(grid);
  if (!$("look-body").hidden) drawLook(grid);
}

function paintLabels(id, { words, labels }, said) {
  drawLabels($(id), state.picture, labels, state.content.side, words.map((word) => word.colour));
  $(id).setAttribute("aria-label", `The picture with a colour for each word: ${said}`);
  $(`${id}-said`).textContent = said;
}

function drawWordMap(grid) {
  const word = state.words.find((each) => each.name === $("map-word").value);
  const values = mean(chosenPatches(OWN).map((patches) => cosines(patches, state.vectors.get(word.name))));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  drawMap($("map"), state.picture, values, grid, low, high);
  const best = values.indexOf(high);
  const said = `Cosines from ${low.toFixed(2)} (dark) to ${high.toFixed(2)} (bright), ${place(best, grid)}. Every map has a brightest patch, whether the thing is there or not.`;
  $("map").setAttribute("aria-label", `Map of “${word.name}”. ${said}`);
  $("map-said").textContent = said;
}

/** Where a patch is, in words. */
function place(patch, grid) {
  return `row ${Math.floor(patch / grid) + 1}, column ${(patch % grid) + 1}`;
}

/** The word that most of a patch's middle has. */
function wordAt(patch, { words, labels }) {
  const { grid, side } = state.content;
  const size = side / grid;
  const row = Math.floor((Math.floor(patch / grid) + 0.5) * size);
  return words[labels[row * side + Math.floor(((patch % grid) + 0.5) * size)]].name;
}

function drawSimilar(grid) {
  const width = state.content.width;
  const patch = state.patch;
  const maps = chosenPatches(OWN).map((patches) => cosines(patches, patches.slice(patch * width, (patch + 1) * width)));
  const values = mean(maps);
  const others = [...values.keys()].filter((i) => i !== patch).sort((a, b) => values[b] - values[a]);
  drawMap($("similar"), state.picture, values, grid, values[others.at(-1)], values[others[0]]);
  drawFrame($("similar"), patch, grid);
  const found = labelsOf(OWN);
  const own = wordAt(patch, found);
  const same = others.slice(0, NEAREST).filter((i) => wordAt(i, found) === own).length;
  $("similar-said").textContent = `The patch in ${place(patch, grid)} is labelled “${own}”. Of the ${NEAREST} patches most like it, ${same} have that label too.`;
}

function drawLook(grid) {
  const { read_outs: readOuts, own, looks } = state.content;
  const names = state.readOut === OWN ? own : [state.readOut];
  const attention = mean(names.map((name) => state.seen.attention[readOuts.indexOf(name)]));
  const length = grid * grid + 1; // the whole picture's token comes first
  const row = attention.slice((state.patch + 1) * length, (state.patch + 2) * length);
  const [whole, values] = [row[0], row.slice(1)];
  drawMap($("look"), state.picture, values, grid, 0, Math.max(...values));
  drawFrame($("look"), state.patch, grid);
  const near = [...values.keys()].filter((i) => i !== state.patch && distance(i, state.patch, grid) <= 1);
  const beside = near.reduce((sum, i) => sum + values[i], 0);
  $("look-said").textContent = `Of its attention the patch in ${place(state.patch, grid)} gives ${percent(values[state.patch])} to itself, ${percent(beside)} to the patches around it, and ${percent(whole)} to the whole picture's token.`;
  $("read-out-said").textContent = names.map((name) => looks[name]).join(" And: ");
  const found = labelsOf(state.readOut);
  paintLabels("look-labels", found, inWords(shares(found.words, found.labels)));
}

function distance(a, b, grid) {
  return Math.max(Math.abs(Math.floor(a / grid) - Math.floor(b / grid)), Math.abs((a % grid) - (b % grid)));
}

function point(event, element) {
  const box = element.getBoundingClientRect();
  const grid = state.content.grid;
  const at = (offset, length) => Math.min(grid - 1, Math.max(0, Math.floor((offset / length) * grid)));
  state.patch = at(event.clientY - box.top, box.height) * grid + at(event.clientX - box.left, box.width);
  redraw();
}

function move(event) {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!step) return;
  event.preventDefault();
  const grid = state.content.grid;
  const inside = (value) => Math.min(grid - 1, Math.max(0, value));
  const row = inside(Math.floor(state.patch / grid) + step[0]);
  state.patch = row * grid + inside((state.patch % grid) + step[1]);
  redraw();
}

start().catch((error) => {
  console.warn(error);
  say("");
  notice(error.message);
});
