/**
 * Makes an upload smaller where that loses nothing: the service looks at 512×512 pixels at most. What the service does
 * not read and the browser does, as Safari HEIC, becomes a JPEG.
 */

import { isAccepted } from "./acceptedPictures.ts";

/** How far a picture is shrunk. */
export interface ShrinkLimits {
  /** Files up to this many bytes are sent as they are: re-encoding would take longer than sending. */
  worthwhileBytes: number;
  /** The shorter edge is not made smaller than this many pixels: twice what the service looks at. */
  shorterEdgePx: number;
  /** JPEG quality, 0 to 1. */
  quality: number;
}

export const SHRINK_LIMITS: ShrinkLimits = { worthwhileBytes: 500_000, shorterEdgePx: 1024, quality: 0.92 };

/** Reads and writes pictures: the browser, or a stand-in for it. */
export interface PictureCodec {
  /** Upright, as its EXIF says. Rejects what the browser cannot read. */
  decode(file: Blob): Promise<ImageBitmap>;
  /** A JPEG of that size, transparency laid on white as the service does; null if the browser cannot. */
  encode(picture: ImageBitmap, width: number, height: number, quality: number): Promise<Blob | null>;
}

/**
 * Gives a smaller JPEG of the picture, or the file itself: if it is small, unreadable here, or would not get smaller.
 * Of what the service does not read gives a JPEG whatever its size.
 */
export async function shrinkPicture(
  file: Blob,
  limits: ShrinkLimits = SHRINK_LIMITS,
  codec: PictureCodec = browserCodec,
): Promise<Blob> {
  const accepted = isAccepted(file);
  if (accepted && file.size <= limits.worthwhileBytes) return file;
  let picture: ImageBitmap;
  try {
    picture = await codec.decode(file);
  } catch {
    return file; // The service may read it, or says why it cannot.
  }
  try {
    const scale = Math.min(1, limits.shorterEdgePx / Math.min(picture.width, picture.height));
    if (accepted && scale === 1) return file;
    const [width, height] = [picture.width * scale, picture.height * scale].map(Math.round) as [number, number];
    const shrunk = await codec.encode(picture, width, height, limits.quality);
    return shrunk !== null && (!accepted || shrunk.size < file.size) ? shrunk : file;
  } finally {
    picture.close();
  }
}

const browserCodec: PictureCodec = {
  decode: (file) => createImageBitmap(file),
  async encode(picture, width, height, quality) {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    if (context === null) return null;
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, width, height);
    return await new Promise((resolve) => {
      canvas.toBlob(resolve, "image/jpeg", quality);
    });
  },
};
