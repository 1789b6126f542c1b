/** Draws whatever the browser shows as a JPEG. */

/** Of a picture, upright as its EXIF says. */
export interface PictureSize {
  widthPx: number;
  heightPx: number;
  /** An SVG, which is as sharp at any size. */
  isVector: boolean;
}

/**
 * Gives the first frame as a JPEG, transparency laid on white as the service does.
 *
 * `choose` is told the picture's size and gives [width, height] in pixels, or null where drawing is needless: then null
 * is given, as it is where there is no canvas (a test's DOM). Rejects what the browser does not show.
 */
export type DrawPicture = (
  file: Blob,
  choose: (size: PictureSize) => readonly [number, number] | null,
  quality: number,
) => Promise<Blob | null>;

/**
 * The most pixels that are decoded whole, beside the page's own work: 100 MB. Larger pictures are drawn from an `<img>`,
 * which Chromium decodes at a fraction: 300 megapixels took 47 MB in place of 1.2 GB, and 12 held the page for 0.1 s.
 */
const MOST_PIXELS_DECODED = 25e6;

/** Draws by an `<img>` and a canvas. */
export const drawPicture: DrawPicture = async (file, choose, quality) => {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  if (context === null) return null;
  const vector = await sizedVector(file);
  const url = URL.createObjectURL(vector ?? file);
  try {
    const image = new Image();
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = reject;
      image.src = url;
    });
    const { naturalWidth: widthPx, naturalHeight: heightPx } = image;
    const chosen = choose({ widthPx, heightPx, isVector: vector !== null });
    if (chosen === null) return null;
    const [width, height] = chosen;
    const resized = { resizeWidth: width, resizeHeight: height, resizeQuality: "high" } as const;
    const source =
      widthPx * heightPx > MOST_PIXELS_DECODED ? image : await createImageBitmap(file, resized).catch(() => image);
    canvas.width = width;
    canvas.height = height;
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(source, 0, 0, width, height);
    if (source instanceof ImageBitmap) source.close();
    return await new Promise((resolve, reject) => {
      canvas.toBlob(
        (drawn) => {
          if (drawn === null) reject(new Error("The canvas is too large."));
          else resolve(drawn);
        },
        "image/jpeg",
        quality,
      );
    });
  } finally {
    URL.revokeObjectURL(url);
  }
};

const SVG_ROOT = /<(?:\w+:)?svg(?=[\s/>])(?:[^>"']|"[^"]*"|'[^']*')*>/;
const SVG_LOOKED_AT_BYTES = 64;

/** What CSS gives to a drawing that tells nothing of its size. */
const UNTOLD_SIZE = [300, 150] as const;

/**
 * Gives an SVG as one that has a size, which a canvas needs in Firefox, and the type, without which no browser takes it
 * for one; null for anything else. Not parsed: the page's content security policy would complain of styles in it.
 */
async function sizedVector(file: Blob): Promise<Blob | null> {
  if (!(await file.slice(0, SVG_LOOKED_AT_BYTES).text()).trimStart().startsWith("<")) return null;
  const text = (await file.text()).replace(/^\s*<\?xml[^>]*\?>/, ""); // It may name another encoding than ours.
  const root = SVG_ROOT.exec(text)?.[0];
  if (root === undefined) return null;
  const told = (name: string): string => new RegExp(`\\s${name}\\s*=\\s*["']([^"']*)`).exec(root)?.[1] ?? "";
  let sized = root;
  if (![told("width"), told("height")].every((length) => parseFloat(length) > 0 && !length.includes("%"))) {
    const [, , width = 0, height = 0] = told("viewBox")
      .trim()
      .split(/[\s,]+/)
      .map(Number);
    const [widthPx, heightPx] = width > 0 && height > 0 ? [width, height] : UNTOLD_SIZE;
    sized = root
      .replace(/\s(?:width|height)\s*=\s*(?:"[^"]*"|'[^']*')/g, "")
      .replace(/svg/, `svg width="${String(widthPx)}" height="${String(heightPx)}"`);
  }
  return new Blob([text.replace(root, () => sized)], { type: "image/svg+xml" });
}
