/** Small pictures of large ones, decoded one after the other: one of 12 megapixels is 48 MB while it is open. */

import { smallWebp } from "./smallWebp.ts";

/** Of what is shown at most, on a screen with two pixels for one. */
const HEIGHT_PX = 360;

let turn: Promise<unknown> = Promise.resolve();

/** Gives a picture of some 15 KB; null if the browser cannot show it, or nobody wants it any more. */
export async function thumbnailOf(picture: Blob, signal: AbortSignal): Promise<Blob | null> {
  const made = turn.then(async () => (signal.aborted ? null : await shrunk(picture).catch(() => null)));
  turn = made;
  return await made;
}

async function shrunk(picture: Blob): Promise<Blob | null> {
  const bitmap = await createImageBitmap(picture, { resizeHeight: HEIGHT_PX, resizeQuality: "medium" });
  return await smallWebp(bitmap, bitmap.width, bitmap.height);
}
