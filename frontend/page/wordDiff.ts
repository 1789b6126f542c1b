/** A stretch of a text, and whether the other text lacks it. */
export interface Stretch {
  text: string;
  differs: boolean;
}

/** Of each text; a prompt has at most some 400. The table has a cell for each pair. */
const MOST_WORDS = 1000;
/** Of the words of the shorter text. With fewer in common nearly all would be marked, which tells nothing. */
const LEAST_SHARED = 0.2;

interface Piece {
  text: string;
  isWord: boolean;
}

/**
 * Marks the words of two texts that the other lacks in that place. Case, spaces and punctuation are no difference.
 * Texts that are too long or have too little in common, and all in browsers that cannot tell words apart (Firefox
 * before 125), come back unmarked.
 */
export function wordDiff(one: string, other: string, languages: readonly [string, string]): [Stretch[], Stretch[]] {
  const unmarked: [Stretch[], Stretch[]] = [[{ text: one, differs: false }], [{ text: other, differs: false }]];
  if (!("Segmenter" in Intl)) return unmarked;
  const pieces = [piecesOf(one, languages[0]), piecesOf(other, languages[1])] as const;
  const words = pieces.map(wordsOf) as [string[], string[]];
  if (Math.max(...words.map(({ length }) => length)) > MOST_WORDS) return unmarked;
  const marks = sharedWords(...words);
  const shortest = Math.min(...words.map(({ length }) => length));
  if (marks[0].filter(Boolean).length < shortest * LEAST_SHARED) return unmarked;
  return [stretchesOf(pieces[0], marks[0]), stretchesOf(pieces[1], marks[1])];
}

function piecesOf(text: string, language: string): Piece[] {
  const segments = new Intl.Segmenter(language, { granularity: "word" }).segment(text);
  return Array.from(segments, ({ segment, isWordLike }) => ({ text: segment, isWord: isWordLike === true }));
}

function wordsOf(pieces: readonly Piece[]): string[] {
  return pieces.filter(({ isWord }) => isWord).map(({ text }) => text.toLowerCase());
}

/** Tells of each word whether it is in the longest sequence of words that both have. */
function sharedWords(one: readonly string[], other: readonly string[]): [boolean[], boolean[]] {
  const width = other.length + 1;
  // How many words are shared from here to the ends.
  const shared = new Uint16Array((one.length + 1) * width);
  const at = (i: number, j: number): number => shared[i * width + j] ?? 0;
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = other.length - 1; j >= 0; j--) {
      shared[i * width + j] = one[i] === other[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const marks: [boolean[], boolean[]] = [one.map(() => false), other.map(() => false)];
  for (let i = 0, j = 0; i < one.length && j < other.length;) {
    if (one[i] === other[j]) {
      marks[0][i++] = true;
      marks[1][j++] = true;
    } else if (at(i + 1, j) >= at(i, j + 1)) i++;
    else j++;
  }
  return marks;
}

/** Joins pieces; what stands between two words that differ differs with them. */
function stretchesOf(pieces: readonly Piece[], isShared: readonly boolean[]): Stretch[] {
  const stretches: Stretch[] = [];
  const add = (text: string, differs: boolean): void => {
    const last = stretches.at(-1);
    if (last?.differs === differs) last.text += text;
    else if (text !== "") stretches.push({ text, differs });
  };
  let word = 0;
  let between = "";
  for (const { text, isWord } of pieces) {
    if (!isWord) {
      between += text;
      continue;
    }
    const differs = isShared[word++] !== true;
    add(between, differs && stretches.at(-1)?.differs === true);
    add(text, differs);
    between = "";
  }
  add(between, false);
  return stretches;
}
