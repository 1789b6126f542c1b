/** Which pictures are taken: what the service reads, told by the first bytes, and whatever else the browser can show. */

/**
 * For a file input's `accept`: all that the system takes for pictures.
 *
 * HEIC is not named. An iPhone hands over a JPEG whatever stands here; Safari on a Mac counts HEIC to `image/*` and
 * shows it, so that it can be redrawn; other browsers' pickers need not offer what they cannot show.
 */
export const ACCEPTED_PICTURES = "image/*";

/** The service's `ACCEPTED_FORMATS`, each by how its files begin, a character for each byte. */
const BEGINNINGS = {
  JPEG: /^\xff\xd8\xff/,
  PNG: /^\x89PNG/,
  WEBP: /^RIFF[^]{4}WEBP/,
  GIF: /^GIF8/,
  BMP: /^BM/,
  TIFF: /^(?:II[*+]\0|MM\0[*+])/,
  AVIF: /^[^]{4}ftyp[^]*avi[fs]/,
};

/** The brands of AVIF are among the first of the file. */
const BEGINNING_BYTES = 64;

/**
 * Whether the service reads such files, whatever their name and type say: a HEIC may be called `.jpg`.
 * Rejects where the file itself cannot be read.
 */
export async function isReadByTheService(file: Blob): Promise<boolean> {
  const bytes = new Uint8Array(await file.slice(0, BEGINNING_BYTES).arrayBuffer());
  const beginning = String.fromCharCode(...bytes);
  return Object.values(BEGINNINGS).some((pattern) => pattern.test(beginning));
}
