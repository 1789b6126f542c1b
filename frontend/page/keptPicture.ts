import { preparePicture, SHRINK_LIMITS } from "../src/index.ts";
import type { Kept } from "./history.ts";
import { smallWebp } from "./smallWebp.ts";

/** A larger picture is kept shrunk: 50 of this size fill the history's share of the disk. */
const KEPT_WHOLE_BYTES = 2_000_000;
/** The longer edge: a tile is up to 200 px wide, and screens have two pixels for one. */
const THUMBNAIL_PX = 400;

/** Makes of a picture what the history keeps of it. */
export async function keptPicture(file: File): Promise<Kept> {
  const shrunk = await preparePicture(file, {
    small: true,
    limits: { ...SHRINK_LIMITS, worthwhileBytes: KEPT_WHOLE_BYTES },
  }).catch(() => file);
  return { picture: shrunk === file ? await inMemory(file) : shrunk, thumbnail: await thumbnailOf(shrunk) };
}

/** A file from the disk can no longer be read once somebody saved another under its name. */
async function inMemory(file: File): Promise<Blob> {
  try {
    return new Blob([await file.arrayBuffer()], { type: file.type });
  } catch {
    return file;
  }
}

async function thumbnailOf(picture: Blob): Promise<Blob | null> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(picture);
  } catch {
    return null; // TIFF, in most browsers.
  }
  const scale = Math.min(1, THUMBNAIL_PX / Math.max(bitmap.width, bitmap.height));
  return await smallWebp(bitmap, bitmap.width * scale, bitmap.height * scale);
}
