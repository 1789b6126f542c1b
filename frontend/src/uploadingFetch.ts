/** `fetch` that tells how much of a picture is sent: XMLHttpRequest alone knows. */

/** Smaller pictures are sent before one could read how far they are. */
const TOLD_FROM_BYTES = 256 * 1024;

/** An upload that is over sooner is not told of. */
const TOLD_AFTER_MS = 400;

/** Told the share that is sent, 0 to 1; null once all is. */
export type OnUploaded = (share: number | null) => void;

/** Gives what sends a picture: the caller's own `fetch`, or one that tells how far it is; undefined for the browser's. */
export function fetchFor(
  picture: Blob,
  own: typeof fetch | undefined,
  onUploaded: OnUploaded,
): typeof fetch | undefined {
  const isTold = picture.size > TOLD_FROM_BYTES && "XMLHttpRequest" in globalThis;
  return own ?? (isTold ? uploadingFetch(onUploaded) : undefined);
}

/**
 * Gives a `fetch` for text answers, which come piece by piece as with the browser's own.
 *
 * Of what may be asked for it takes the address, `method`, `headers`, `body` and `signal`.
 */
export function uploadingFetch(onUploaded: OnUploaded, Xhr = XMLHttpRequest): typeof fetch {
  return (address, { method = "GET", headers, body, signal } = {}) =>
    new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const xhr = new Xhr();
      const startedMs = performance.now();
      xhr.upload.onprogress = ({ loaded, total }) => {
        if (performance.now() - startedMs > TOLD_AFTER_MS) onUploaded(loaded < total ? loaded / total : null);
      };
      let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
      let taken = 0;
      const take = (): void => {
        const text = xhr.responseText; // Never ends within a character.
        if (text.length > taken) controller?.enqueue(new TextEncoder().encode(text.slice(taken)));
        taken = text.length;
      };
      const fail = (error: Error): void => {
        reject(error);
        controller?.error(error);
      };
      const broken = (): void => {
        fail(new TypeError("No whole answer came."));
      };
      xhr.onreadystatechange = () => {
        if (xhr.readyState !== Xhr.HEADERS_RECEIVED) return;
        const stream = new ReadableStream<Uint8Array>({
          start: (its) => void (controller = its),
          cancel: () => {
            xhr.abort();
          },
        });
        try {
          resolve(new Response(stream, { status: xhr.status, headers: headersOf(xhr) }));
        } catch {
          broken(); // A status that has no body, as 204.
        }
      };
      xhr.onprogress = take;
      xhr.onload = () => {
        take();
        controller?.close();
      };
      xhr.onerror = broken;
      signal?.addEventListener("abort", () => {
        fail(signal.reason as Error);
        xhr.abort();
      });
      xhr.open(method, address instanceof Request ? address.url : address);
      new Headers(headers).forEach((value, name) => {
        xhr.setRequestHeader(name, value);
      });
      xhr.send(body as XMLHttpRequestBodyInit | null | undefined);
    });
}

function headersOf(xhr: XMLHttpRequest): Headers {
  const headers = new Headers();
  for (const [, name = "", value = ""] of xhr.getAllResponseHeaders().matchAll(/^(.+?): *(.*)/gm)) {
    headers.append(name, value);
  }
  return headers;
}
