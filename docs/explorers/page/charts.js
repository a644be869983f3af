// Charts in SVG, as wide as there is room: curves with bands, intervals in rows. Shapes differ, not colours alone.

import { element, svg } from "./parts.js";

export const MARKS = ["circle", "square", "diamond", "triangle", "cross", "down"];
const DASHES = ["", "7 4", "2 3", "9 3 2 3"];

export const colour = (place) => `var(--ex-${(place % 6) + 1})`;
export const dash = (place) => DASHES[place % DASHES.length];

/** A mark of one of six shapes; after the sixth they come again, in another colour. */
export function mark(shape, x, y, size, fill) {
  const paths = {
    circle: `M${x - size},${y}a${size},${size} 0 1,0 ${2 * size},0a${size},${size} 0 1,0 ${-2 * size},0`,
    square: `M${x - size},${y - size}h${2 * size}v${2 * size}h${-2 * size}z`,
    diamond: `M${x},${y - 1.3 * size}l${1.3 * size},${1.3 * size}l${-1.3 * size},${1.3 * size}l${-1.3 * size},${-1.3 * size}z`,
    triangle: `M${x},${y - 1.2 * size}l${1.2 * size},${2.2 * size}h${-2.4 * size}z`,
    cross: `M${x - size},${y - size}l${2 * size},${2 * size}m0,${-2 * size}l${-2 * size},${2 * size}`,
    down: `M${x},${y + 1.2 * size}l${1.2 * size},${-2.2 * size}h${-2.4 * size}z`,
  };
  return svg("path", { d: paths[shape], fill: shape === "cross" ? "none" : fill, stroke: fill, "stroke-width": shape === "cross" ? 2 : 0 });
}

/** Names of the curves of a chart, each with its line and mark. */
export function legend(series) {
  return element("ul", { class: "legend" }, ...series.map((each) => element("li", {}, sample(each), each.name)));
}

export function sample({ stroke, dashes = "", shape, band, line = true }) {
  const node = svg("svg", { viewBox: "0 0 34 12", "aria-hidden": "true", width: 34, height: 12 });
  if (band) node.append(svg("rect", { x: 1, y: 1, width: 32, height: 10, fill: stroke, class: "band" }));
  if (line) node.append(svg("line", { x1: 1, x2: 33, y1: 6, y2: 6, stroke, "stroke-width": 2.5, "stroke-dasharray": dashes }));
  if (shape) node.append(mark(shape, 17, 6, 4, stroke));
  return node;
}

/** Round steps of an axis, at most `most` of them. */
export function ticks(low, high, most = 5) {
  const rough = (high - low) / most || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * unit).find((each) => each >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  return found;
}

const short = (value) => String(Number(value.toPrecision(3)));

/**
 * Curves over an axis.
 * @param {object} chart width, height, label (its text alternative), x and y {label, low, high, say},
 *   series [{stroke, dashes, shape, points: [[x, y]], band: [[x, low, high]]}], at (a line upright), level {y, text}
 */
export function curves({ width, height = 240, label, x, y, series, at, level }) {
  const [left, right, top, bottom] = [52, 20, 24, 42];
  const figure = svg("svg", { role: "img", "aria-label": label, viewBox: `0 0 ${width} ${height}`, width, height });
  const px = (value) => left + ((width - left - right) * (value - x.low)) / (x.high - x.low || 1);
  const py = (value) => top + (height - top - bottom) * (1 - (value - y.low) / (y.high - y.low || 1));
  const inside = (value) => Math.min(y.high, Math.max(y.low, value));
  for (const value of ticks(y.low, y.high)) {
    figure.append(svg("line", { x1: left, x2: width - right, y1: py(value), y2: py(value), class: "rule" }));
    figure.append(svg("text", { x: left - 6, y: py(value) + 4, class: "tick end" }, (y.say ?? short)(value)));
  }
  for (const value of ticks(x.low, x.high, width < 420 ? 4 : 8)) {
    figure.append(svg("text", { x: px(value), y: height - bottom + 17, class: "tick middle" }, (x.say ?? short)(value)));
  }
  figure.append(svg("text", { x: (left + width - right) / 2, y: height - 6, class: "tick middle" }, x.label));
  figure.append(svg("text", { x: 2, y: 12, class: "tick" }, y.label));
  if (at !== undefined) figure.append(svg("line", { x1: px(at), x2: px(at), y1: top, y2: height - bottom, class: "now" }));
  for (const { stroke, band } of series.filter((each) => each.band)) {
    const upper = band.map(([place, , high]) => `${px(place)},${py(inside(high))}`);
    const lower = band.map(([place, low]) => `${px(place)},${py(inside(low))}`).reverse();
    figure.append(svg("polygon", { points: [...upper, ...lower].join(" "), fill: stroke, class: "band" }));
  }
  for (const { stroke, dashes = "", shape, points = [], line = true } of series) {
    const where = points.filter(([, value]) => value >= y.low && value <= y.high);
    const path = points.map(([place, value]) => `${px(place)},${py(inside(value))}`).join(" ");
    if (line) figure.append(svg("polyline", { points: path, fill: "none", stroke, "stroke-width": 2.5, "stroke-dasharray": dashes }));
    if (shape) figure.append(...where.map(([place, value]) => mark(shape, px(place), py(value), 4, stroke)));
  }
  if (level && level.y >= y.low && level.y <= y.high) {
    figure.append(svg("line", { x1: left, x2: width - right, y1: py(level.y), y2: py(level.y), class: "level" }));
    figure.append(svg("text", { x: left + 6, y: py(level.y) - 5, class: "tick" }, level.text));
  }
  return figure;
}

/**
 * Rows of intervals, the name beside its row or, where it is narrow, above it.
 * @param {object} chart width, label, x {label, low, high, say}, upright (where a line stands),
 *   rows [{name, low, high, at, stroke, shape}]
 */
export function intervals({ width, label, x, rows, upright, broad = false }) {
  const narrow = width < 560;
  const longest = Math.max(0, ...rows.map((row) => row.name.length));
  const left = narrow ? 10 : Math.min(0.5 * width, 20 + 6.9 * longest);
  const [line, top, bottom] = [narrow ? 36 : 22, 6, 40];
  const height = top + line * rows.length + bottom;
  const figure = svg("svg", { role: "img", "aria-label": label, viewBox: `0 0 ${width} ${height}`, width, height });
  const px = (value) => left + ((width - left - 16) * (value - x.low)) / (x.high - x.low || 1);
  for (const value of ticks(x.low, x.high, narrow ? 4 : 8)) {
    figure.append(svg("line", { x1: px(value), x2: px(value), y1: top, y2: height - bottom, class: "rule" }));
    figure.append(svg("text", { x: px(value), y: height - bottom + 16, class: "tick middle" }, (x.say ?? short)(value)));
  }
  figure.append(svg("text", { x: (left + width - 16) / 2, y: height - 5, class: "tick middle" }, x.label));
  if (upright !== undefined) figure.append(svg("line", { x1: px(upright), x2: px(upright), y1: top, y2: height - bottom, class: "now" }));
  rows.forEach(({ name, low, high, at, stroke, shape }, i) => {
    const y = top + line * (i + 1) - 11;
    const place = narrow ? { x: left, y: y - 9, class: "tick" } : { x: left - 10, y: y + 4, class: "tick end" };
    figure.append(svg("text", place, name));
    figure.append(svg("line", { x1: px(low), x2: px(high), y1: y, y2: y, stroke, "stroke-width": broad ? 7 : 2.5 }));
    figure.append(mark(shape, px(at), y, 4, broad ? "var(--ex-ink)" : stroke));
  });
  return figure;
}

const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const DIVERGING = [[178, 58, 54], [226, 150, 142], [246, 244, 242], [140, 172, 214], [36, 100, 176]];

function between(stops, part) {
  const at = Math.min(1, Math.max(0, part)) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  return stops[low].map((value, i) => Math.round(value + (stops[low + 1][i] - value) * (at - low)));
}

export const viridis = (part) => between(VIRIDIS, part);

/** Colour of a difference, and black or white, whichever is read on it; `most` either way is the strongest. */
export function diverging(value, most) {
  const shade = between(DIVERGING, 0.5 + value / (2 * most));
  const light = (0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2]) / 255;
  return { ground: `rgb(${shade.join()})`, ink: light > 0.52 ? "#000" : "#fff" };
}

/** A picture as a canvas of whole pixels, `scale` times as large. */
export function canvas(label, side) {
  return element("canvas", { role: "img", "aria-label": label, width: side, height: side });
}

/** A map (side x side numbers), from dark (lowest, or the first of `range`) to bright (highest). */
export function paintMap(target, values, side, range = null) {
  const [low, high] = range ?? [Math.min(...values), Math.max(...values)];
  const pixels = new ImageData(side, side);
  values.forEach((value, i) => pixels.data.set([...viridis((value - low) / (high - low || 1)), 255], 4 * i));
  paintPixels(target, pixels);
  return [low, high];
}

export function paintPixels(target, pixels) {
  const small = element("canvas", { width: pixels.width, height: pixels.height });
  small.getContext("2d").putImageData(pixels, 0, 0);
  const context = target.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, target.width, target.height);
}

export function paintPicture(target, picture, part = 0, parts = 1) {
  const context = target.getContext("2d");
  const height = picture.height / parts;
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, 0, part * height, picture.width, height, 0, 0, target.width, target.height);
}

/** A frame around a patch that shows on dark and on light. */
export function frame(target, patch, side) {
  const context = target.getContext("2d");
  const size = target.width / side;
  for (const [stroke, width] of [["#000", 6], ["#fff", 3]]) {
    context.strokeStyle = stroke;
    context.lineWidth = width;
    context.strokeRect((patch % side) * size, Math.floor(patch / side) * size, size, size);
  }
}

export async function decoded(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
}
