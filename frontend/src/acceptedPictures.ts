/**
 * What the service reads: its `ACCEPTED_FORMATS`, as browsers name them.
 *
 * A picker that asks for no HEIC gets JPEG from an iPhone, which converts by itself.
 */

const ACCEPTED_TYPES: readonly string[] = [
  "image/jpeg",
  "image/png",
  "image/webp",
  "image/gif",
  "image/bmp",
  "image/tiff",
  "image/avif",
];

const ENDINGS: readonly string[] = [".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"];

/** For a file input's `accept`. */
export const ACCEPTED_PICTURES: string = [...ACCEPTED_TYPES, ...ENDINGS].join(",");

/** Whether the service reads files of this type; of one whose type the browser does not know, the service decides. */
export function isAccepted(file: Blob): boolean {
  return file.type === "" || ACCEPTED_TYPES.includes(file.type);
}
