// From whatever a reader drops to the numbers that the image tower takes. Nothing leaves the page.

// Pixels a side: a larger crop is reduced by the browser when it decodes, so that 50 megapixels fit a phone.
export const LARGEST = 1024;

/**
 * The middle square of a picture, upright by its EXIF tag, on a white ground.
 * @param {Blob} file
 * @returns {Promise<ImageData>} at most LARGEST pixels a side
 * @throws {TypeError} a file that is no picture
 */
export async function squareOf(file) {
  const address = URL.createObjectURL(file);
  try {
    const image = new Image();
    image.src = address;
    await loaded(image, file);
    const side = Math.min(image.naturalWidth, image.naturalHeight);
    const size = Math.min(side, LARGEST);
    const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "white"; // what a file stores under full transparency is arbitrary
    context.fillRect(0, 0, size, size);
    context.imageSmoothingQuality = "high";
    const left = Math.floor((image.naturalWidth - side) / 2);
    const top = Math.floor((image.naturalHeight - side) / 2);
    context.drawImage(image, left, top, side, side, 0, 0, size, size);
    return context.getImageData(0, 0, size, size);
  } finally {
    URL.revokeObjectURL(address);
  }
}

async function loaded(image, file) {
  try {
    await image.decode();
  } catch {
    const name = file.name ? `“${file.name}”` : "This file";
    throw new TypeError(`${name} is no picture that this browser can read; choose a JPEG, PNG, WebP or AVIF file.`);
  }
  if (!image.naturalWidth) throw new TypeError("This picture says no size of its own; choose a JPEG or PNG file.");
}

/**
 * Channels first, 0 to 1, reduced to the side that the model was trained with.
 * @param {ImageData} square
 * @param {number} side
 * @returns {Float32Array} 3 * side * side
 */
export function tensorOf(square, side) {
  const from = square.width;
  const weights = triangles(from, side);
  const out = new Float32Array(3 * side * side);
  for (let channel = 0; channel < 3; channel++) {
    const plane = new Float32Array(from * from);
    for (let i = 0; i < plane.length; i++) plane[i] = square.data[4 * i + channel] / 255;
    // Along rows, and then along the columns of what that gave, which are rows when it is turned.
    const narrow = resampled(plane, from, weights);
    const small = resampled(transposed(narrow, side), from, weights);
    out.set(transposed(small, side), channel * side * side);
  }
  return out;
}

/**
 * Bilinear weights that widen as a picture shrinks, as PyTorch's `antialias=True` and Pillow have them.
 * @returns {{start: number, weights: number[]}[]} of each pixel that comes out
 */
function triangles(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, place) => {
    const centre = scale * (place + 0.5);
    const start = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), from);
    const raw = Array.from({ length: end - start }, (_, i) =>
      Math.max(0, 1 - Math.abs((i + start - centre + 0.5) / support)),
    );
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    return { start, weights: raw.map((weight) => weight / total) };
  });
}

/** Rows of `width` values, each brought to as many as there are weights. */
function resampled(plane, width, weights) {
  const height = plane.length / width;
  const out = new Float32Array(height * weights.length);
  for (let row = 0; row < height; row++) {
    weights.forEach(({ start, weights: each }, column) => {
      let sum = 0;
      for (let i = 0; i < each.length; i++) sum += each[i] * plane[row * width + start + i];
      out[row * weights.length + column] = sum;
    });
  }
  return out;
}

/** Rows of `width` values turned into columns. */
function transposed(plane, width) {
  const height = plane.length / width;
  const out = new Float32Array(plane.length);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) out[column * height + row] = plane[row * width + column];
  }
  return out;
}
