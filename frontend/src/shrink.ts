/**
 * Makes of any picture that the browser shows one that the service takes, and a smaller one where that loses nothing:
 * the service looks at 512×512 pixels at most.
 */

import { isReadByTheService } from "./acceptedPictures.ts";
import { AnalyzerError } from "./client.ts";
import { type DrawPicture, drawPicture } from "./drawPicture.ts";

/** How far a picture is shrunk. */
export interface ShrinkLimits {
  /** Larger files are shrunk wherever the service is: its `max_upload_mib` as it comes. It may be set to less: see `sendPicture`. */
  mostBytes: number;
  /** Files up to this many bytes are sent as they are: re-encoding would take longer than sending. */
  worthwhileBytes: number;
  /** The shorter edge is not made smaller than this many pixels: twice what the service looks at. */
  shorterEdgePx: number;
  /** The longer edge is made no longer than this many pixels: with the shorter one, what a canvas on an iPhone holds. */
  longerEdgePx: number;
  /** JPEG quality, 0 to 1. */
  quality: number;
}

export const SHRINK_LIMITS: ShrinkLimits = {
  mostBytes: 20 * 2 ** 20,
  worthwhileBytes: 500_000,
  shorterEdgePx: 1024,
  longerEdgePx: 16384,
  quality: 0.92,
};

/** When a picture is drawn anew. */
export interface PrepareOptions {
  /** Also where that only saves bytes: for a service that is not on this machine. */
  small?: boolean | undefined;
  /** In any case: the service has refused the file. */
  always?: boolean | undefined;
  limits?: ShrinkLimits | undefined;
  /** The browser, or a stand-in for it. */
  draw?: DrawPicture | undefined;
}

/**
 * Gives the file itself where the service reads it and it is small enough, otherwise a JPEG of what the browser shows.
 *
 * Throws an `AnalyzerError`, `unreadable_image`, of what neither the service reads nor the browser shows.
 */
export async function preparePicture(file: Blob, options: PrepareOptions = {}): Promise<Blob> {
  const { small = false, always = false, limits = SHRINK_LIMITS, draw = drawPicture } = options;
  const isRead = await isReadByTheService(file).catch(() => {
    throw unreadable(file, "cannot be read any more: choose it again.");
  });
  const isDue = always || !isRead || file.size > limits.mostBytes;
  if (!isDue && !(small && file.size > limits.worthwhileBytes)) return file;
  const drawn = await draw(
    file,
    ({ widthPx, heightPx, isVector }) => {
      const edges = [widthPx, heightPx];
      const scale = Math.min(
        isVector ? Infinity : 1,
        limits.shorterEdgePx / Math.min(...edges),
        limits.longerEdgePx / Math.max(...edges),
      );
      if (!isDue && scale === 1) return null;
      return edges.map((edge) => Math.max(1, Math.round(edge * scale))) as [number, number];
    },
    limits.quality,
  ).catch(() => {
    if (isRead) return file; // The service may read it, or says why it cannot.
    throw unreadable(file, "cannot be shown by this browser: save it as JPEG, and choose that.");
  });
  return drawn !== null && (always || !isRead || drawn.size < file.size) ? drawn : file;
}

/** The service's codes for pictures that may be taken when the browser has drawn them. */
const MENDED_BY_DRAWING: ReadonlySet<string> = new Set([
  "upload_too_large",
  "too_many_pixels",
  "format_not_accepted",
  "unreadable_image",
]);

/** Sends a picture as prepared, and if the service refuses the file itself, once more as the browser draws it. */
export async function sendPicture<Answer>(
  file: Blob,
  send: (image: Blob) => Promise<Answer>,
  options: PrepareOptions = {},
): Promise<Answer> {
  const image = await preparePicture(file, options);
  try {
    return await send(image);
  } catch (refusal) {
    if (image !== file || !(refusal instanceof AnalyzerError && MENDED_BY_DRAWING.has(refusal.code))) throw refusal;
    const drawn = await preparePicture(file, { ...options, always: true });
    if (drawn === file) throw refusal;
    return await send(drawn);
  }
}

function unreadable(file: Blob, why: string): AnalyzerError {
  return new AnalyzerError(`${file instanceof File ? file.name : "The picture"} ${why}`, "unreadable_image");
}
