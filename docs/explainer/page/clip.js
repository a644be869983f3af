// The two towers, run by ONNX Runtime Web, and what is made of their vectors.

// The smallest module with a SIMD instruction: engines without them refuse it.
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

/** What keeps this browser from running the model, in words; null if nothing does. */
export function obstacle() {
  if (typeof WebAssembly !== "object") {
    return "This browser has no WebAssembly, which the model needs.";
  }
  if (!WebAssembly.validate(SIMD)) {
    return "This browser has WebAssembly but not its SIMD instructions, which the runtime needs: Chrome and Edge have them from version 91, Firefox from 89, Safari from 16.4.";
  }
  return null;
}

/**
 * The runtime, its WebAssembly fetched by hand: so that a server that sends it wrongly is told what to send.
 * @param {(warning: string) => void} warn
 * @returns {Promise<object>} ONNX Runtime
 */
export async function loadRuntime(warn) {
  const [ort, binary] = await Promise.all([import("./vendor/ort.js"), fetched("vendor/ort.wasm")]);
  const kind = binary.headers.get("content-type") ?? "nothing";
  if (!kind.startsWith("application/wasm")) {
    warn(`The server sends vendor/ort.wasm as “${kind}”; it must send it as “application/wasm”. The page goes on without its compiler's fast way.`);
  }
  const bytes = new Uint8Array(await binary.arrayBuffer());
  if (String.fromCharCode(...bytes.slice(0, 4)) !== "\0asm") {
    throw new Error(`vendor/ort.wasm is no WebAssembly (the server calls it “${kind}”): it must send the file itself, as “application/wasm”.`);
  }
  ort.env.wasm.wasmBinary = bytes.buffer;
  // Threads need two headers (COOP and COEP) that a plain server does not send; one thread does.
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  return ort;
}

export async function fetched(address) {
  const answer = await fetch(address).catch((error) => {
    throw new Error(`${address} cannot be read (${error.message}): is the server still there?`);
  });
  if (!answer.ok) throw new Error(`${address} is not there (the server says ${answer.status}): build the page again with “make docs”.`);
  return answer;
}

export class ImageTower {
  /** @param {object} content side, grid, width and read-outs of the model */
  static async load(ort, address, content) {
    const bytes = new Uint8Array(await (await fetched(address)).arrayBuffer());
    return new ImageTower(ort, await ort.InferenceSession.create(bytes), content);
  }

  constructor(ort, session, content) {
    Object.assign(this, { ort, session, content });
  }

  /**
   * @param {Float32Array} pixels (3, side, side) in 0..1
   * @returns {Promise<{embedding: Float32Array, patches: Float32Array[], attention: Float32Array[]}>} of each
   *   read-out: patches (N, D) of unit length, attention (1 + N, 1 + N)
   */
  async encode(pixels) {
    const { side, read_outs: readOuts } = this.content;
    const image = new this.ort.Tensor("float32", pixels, [1, 3, side, side]);
    const { embedding, patches, attention } = await this.session.run({ image });
    const each = (tensor) => {
      const size = tensor.data.length / readOuts.length;
      return readOuts.map((_, i) => tensor.data.slice(i * size, (i + 1) * size));
    };
    return { embedding: embedding.data, patches: each(patches), attention: each(attention) };
  }
}

export class TextTower {
  static async load(ort, address, tokenizer, templates) {
    const bytes = new Uint8Array(await (await fetched(address)).arrayBuffer());
    return new TextTower(ort, await ort.InferenceSession.create(bytes), tokenizer, templates);
  }

  constructor(ort, session, tokenizer, templates) {
    Object.assign(this, { ort, session, tokenizer, templates });
  }

  /** Unit vectors (n, D) of whole sentences. */
  async sentences(texts) {
    const context = this.tokenizer.context;
    const rows = new BigInt64Array(texts.length * context);
    texts.forEach((text, i) => rows.set(this.tokenizer.sentence(text), i * context));
    const { embeddings } = await this.session.run({ rows: new this.ort.Tensor("int64", rows, [texts.length, context]) });
    const width = embeddings.data.length / texts.length;
    return texts.map((_, i) => embeddings.data.slice(i * width, (i + 1) * width));
  }

  /** The unit vector of one word: the mean over the model's templates; “ox|cow” are synonyms. */
  async word(name) {
    const words = name.split(/[|,]/).map((word) => word.trim()).filter(Boolean);
    return unit(mean(await this.sentences(words.flatMap((word) => this.templates.map((t) => t.replace("{}", word))))));
  }
}

export function mean(vectors) {
  const out = new Float32Array(vectors[0].length);
  for (const vector of vectors) for (let i = 0; i < out.length; i++) out[i] += vector[i] / vectors.length;
  return out;
}

export function unit(vector) {
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}

/** Cosines of N patches (N, D) with a vector of unit length: (N,). */
export function cosines(patches, vector) {
  const out = new Float32Array(patches.length / vector.length);
  for (let n = 0; n < out.length; n++) {
    let sum = 0;
    for (let i = 0; i < vector.length; i++) sum += patches[n * vector.length + i] * vector[i];
    out[n] = sum;
  }
  return out;
}

/** A grid (grid, grid) enlarged to (side, side), bilinear, pixels as areas: PyTorch's align_corners=False. */
export function enlarged(values, grid, side) {
  const places = Array.from({ length: side }, (_, i) => {
    const at = Math.max(0, ((i + 0.5) * grid) / side - 0.5);
    const low = Math.min(Math.floor(at), grid - 1);
    return { low, high: Math.min(low + 1, grid - 1), part: at - low };
  });
  const out = new Float32Array(side * side);
  places.forEach((y, row) => {
    places.forEach((x, column) => {
      const line = (r) => values[r * grid + x.low] * (1 - x.part) + values[r * grid + x.high] * x.part;
      out[row * side + column] = line(y.low) * (1 - y.part) + line(y.high) * y.part;
    });
  });
  return out;
}

/**
 * The best word of every pixel.
 * @param {Float32Array[]} maps one (grid, grid) map of logits a word
 * @returns {Uint8Array} (side, side) indices of words; a tie goes to the first
 */
export function labelled(maps, grid, side) {
  const best = new Float32Array(side * side).fill(-Infinity);
  const labels = new Uint8Array(side * side);
  maps.forEach((map, word) => {
    enlarged(map, grid, side).forEach((value, pixel) => {
      if (value > best[pixel]) [best[pixel], labels[pixel]] = [value, word];
    });
  });
  return labels;
}
