const QUALITY = 0.8;

/** Draws a picture so large, and closes it; null where the browser makes none of it. */
export async function smallWebp(picture: ImageBitmap, widthPx: number, heightPx: number): Promise<Blob | null> {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(widthPx));
  canvas.height = Math.max(1, Math.round(heightPx));
  canvas.getContext("2d")?.drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  return await new Promise((resolve) => {
    canvas.toBlob(resolve, "image/webp", QUALITY);
  });
}
