// CLIP's byte pair encoding, as open_clip's SimpleTokenizer does it: the same numbers for the same words.

const START = "<start_of_text>";
const END = "<end_of_text>";
const WORDS = /<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/giu;
const LIGATURES = { "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "ſt", "ﬆ": "st", "ĳ": "ij" };

/** One printable character for each byte, so that merges can be written down as text. */
function byteCharacters() {
  const printable = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  const order = [];
  const rest = [];
  for (let byte = 0; byte < 256; byte++) (printable(byte) ? order : rest).push(byte);
  const characters = new Array(256);
  order.forEach((byte) => (characters[byte] = String.fromCharCode(byte)));
  rest.forEach((byte, place) => (characters[byte] = String.fromCharCode(256 + place)));
  return { characters, order: [...order, ...rest].map((byte) => characters[byte]) };
}

export class Tokenizer {
  /**
   * @param {string} merges lines of two parts each, the most frequent first
   * @param {number[]} known token ids that the text tower was taught, ascending
   * @param {number} context tokens that it reads at most
   */
  constructor(merges, known, context) {
    const { characters, order } = byteCharacters();
    const lines = merges.trimEnd().split("\n");
    const entries = [...order, ...order.map((c) => `${c}</w>`), ...lines.map((line) => line.replace(" ", ""))];
    this.characters = characters;
    this.context = context;
    this.ranks = new Map(lines.map((line, rank) => [line, rank]));
    this.ids = new Map([...entries, START, END].map((entry, id) => [entry, id]));
    // The tower's table has a row for each known token, after the first, which is the filling.
    this.rows = new Map(known.map((id, place) => [id, place + 1]));
    this.cache = new Map([START, END].map((word) => [word, [word]]));
  }

  /** Token ids of a text, without its begin and end. */
  encode(text) {
    const utf8 = new TextEncoder();
    const pieces = cleaned(text).match(WORDS) ?? [];
    return pieces.flatMap((piece) => {
      const bytes = [...utf8.encode(piece)].map((byte) => this.characters[byte]);
      return this.pieces(bytes.join("")).map((part) => this.ids.get(part));
    });
  }

  /** The parts of a word: pairs are merged, the most frequent first, until no pair is left. */
  pieces(word) {
    const found = this.cache.get(word);
    if (found) return found;
    let parts = [...word];
    parts[parts.length - 1] += "</w>";
    while (parts.length > 1) {
      let best = Infinity;
      let pair = null;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = this.ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (rank < best) [best, pair] = [rank, [parts[i], parts[i + 1]]];
      }
      if (pair === null) break;
      parts = merged(parts, pair);
    }
    this.cache.set(word, parts);
    return parts;
  }

  /** Whether the tower was taught every token of a text. */
  knows(text) {
    return this.encode(text).every((id) => this.rows.has(id));
  }

  /**
   * Rows of the tower's table for a sentence, filled up to the context.
   * @throws {RangeError} a sentence longer than the context
   */
  sentence(text) {
    const ids = [this.ids.get(START), ...this.encode(text), this.ids.get(END)];
    if (ids.length > this.context) {
      throw new RangeError(`“${text.slice(0, 40)}…” is ${ids.length} tokens long; the model reads at most ${this.context}.`);
    }
    const rows = new BigInt64Array(this.context);
    ids.forEach((id, place) => (rows[place] = BigInt(this.rows.get(id) ?? 0)));
    return rows;
  }
}

function merged(parts, [first, second]) {
  const out = [];
  for (let i = 0; i < parts.length; i++) {
    const both = parts[i] === first && parts[i + 1] === second;
    out.push(both ? first + second : parts[i]);
    if (both) i++;
  }
  return out;
}

/** Straight quotes, one form for each letter, small letters, single spaces: what is done to text before. */
function cleaned(text) {
  return text
    .normalize("NFC")
    .replace(/[\u2018\u2019\u201b\u02bc]/g, "'")
    .replace(/[\u201c\u201d\u201f]/g, '"')
    .replace(/[ﬀ-ﬆĳ]/g, (ligature) => LIGATURES[ligature])
    .replace(/[\uff01-\uff5e]/g, (wide) => String.fromCharCode(wide.charCodeAt(0) - 0xfee0))
    .replace(/[\u3000\s]+/g, " ")
    .trim()
    .toLowerCase();
}
