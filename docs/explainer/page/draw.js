// What is drawn on canvases: pictures, labels, maps, a frame around a patch, and two curves.

/** A canvas with as many pixels as it is asked for; CSS says how large it is shown. */
export function sized(canvas, side) {
  canvas.width = canvas.height = side;
  return canvas.getContext("2d");
}

export function rgb(hex) {
  return [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
}

/** The picture, nearest pixels: a reader should see what the model sees. */
export function drawPicture(canvas, picture) {
  const context = sized(canvas, canvas.dataset.side ? Number(canvas.dataset.side) : 384);
  context.imageSmoothingEnabled = picture.width > 200;
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return context;
}

/** Colours of labels over the picture; one word can be shown alone. */
export function drawLabels(canvas, picture, labels, side, colours, alone = null) {
  const context = drawPicture(canvas, picture);
  const pixels = new ImageData(side, side);
  labels.forEach((label, i) => {
    const shown = alone === null || alone === label;
    pixels.data.set([...rgb(colours[label]), shown ? 150 : 0], 4 * i);
  });
  overlay(context, pixels);
}

/** A map from low (picture dimmed) to high (picture clear, framed in warm colour). */
export function drawMap(canvas, picture, values, grid, low, high) {
  const context = drawPicture(canvas, picture);
  const pixels = new ImageData(grid, grid);
  values.forEach((value, i) => {
    const heat = Math.min(1, Math.max(0, (value - low) / (high - low || 1)));
    pixels.data.set([...warm(heat), 205 - 60 * heat], 4 * i);
  });
  overlay(context, pixels);
}

/** Dark blue to yellow through rose, its lightness rising evenly: readable without telling hues apart. */
export function warm(heat) {
  const stops = [[13, 16, 64], [96, 23, 110], [187, 55, 84], [249, 142, 8], [252, 255, 164]];
  const at = heat * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  return stops[low].map((value, i) => Math.round(value + (stops[low + 1][i] - value) * (at - low)));
}

function overlay(context, pixels) {
  const small = document.createElement("canvas");
  sized(small, pixels.width).putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, context.canvas.width, context.canvas.height);
}

/** A frame that shows on dark and on light. */
export function drawFrame(canvas, patch, grid) {
  const context = canvas.getContext("2d");
  const size = canvas.width / grid;
  const [left, top] = [(patch % grid) * size, Math.floor(patch / grid) * size];
  for (const [colour, width] of [["#000", 6], ["#fff", 3]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.strokeRect(left, top, size, size);
  }
}

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  if (text !== undefined) element.textContent = text;
  return element;
}

/**
 * Curves over the steps of a training, with a mark at the step that is shown.
 * @param {{name: string, values: number[], dash: string, colour: string}[]} curves values in 0..1
 */
export function drawCurves(figure, steps, curves, current) {
  const [width, height, left, bottom] = [420, 210, 44, 34];
  const top = Math.max(0.1, ...curves.flatMap((curve) => curve.values));
  const most = Math.ceil(top * 10) / 10;
  const x = (step) => left + ((width - left - 16) * (step - steps[0])) / (steps[steps.length - 1] - steps[0] || 1);
  const y = (value) => 20 + (height - bottom - 20) * (1 - value / most);
  figure.replaceChildren();
  figure.setAttribute("viewBox", `0 0 ${width} ${height}`);
  for (const value of [0, most / 2, most]) {
    figure.append(svg("line", { x1: left, x2: width - 16, y1: y(value), y2: y(value), class: "rule" }));
    figure.append(svg("text", { x: left - 6, y: y(value) + 4, class: "tick end" }, `${Math.round(100 * value)}%`));
  }
  for (const step of steps.filter((_, i) => i % Math.ceil(steps.length / 6) === 0)) {
    figure.append(svg("text", { x: x(step), y: height - 16, class: "tick middle" }, String(step)));
  }
  figure.append(svg("text", { x: (width + left) / 2, y: height - 2, class: "tick middle" }, "step of the training"));
  figure.append(svg("line", { x1: x(steps[current]), x2: x(steps[current]), y1: 20, y2: height - bottom, class: "now" }));
  figure.append(svg("text", { x: left, y: 10, class: "tick" }, "mean intersection over union"));
  for (const { values, dash, colour } of curves) {
    const points = values.map((value, i) => `${x(steps[i])},${y(value)}`).join(" ");
    figure.append(svg("polyline", { points, fill: "none", stroke: colour, "stroke-width": 3, "stroke-dasharray": dash }));
    figure.append(svg("circle", { cx: x(steps[current]), cy: y(values[current]), r: 5, fill: colour }));
  }
}
