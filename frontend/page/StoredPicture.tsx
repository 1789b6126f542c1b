import { type ReactElement, useCallback, useState } from "react";

interface StoredPictureProps {
  /** Null if there is nothing to show. */
  blob: Blob | null;
  alt: string;
  className: string;
}

/** A picture that the page holds; its text where the browser cannot show it. */
export function StoredPicture({ blob, alt, className }: StoredPictureProps): ReactElement {
  const [unreadable, setUnreadable] = useState<Blob | null>(null);
  const show = useCallback(
    (image: HTMLImageElement) => {
      if (blob === null) return;
      const url = URL.createObjectURL(blob);
      image.src = url;
      return () => {
        URL.revokeObjectURL(url);
      };
    },
    [blob],
  );
  if (blob === unreadable) return <span className={`${className} stored-nothing`}>{alt}</span>;
  return (
    <img
      ref={show}
      className={className}
      alt={alt}
      loading="lazy"
      decoding="async"
      onError={() => {
        setUnreadable(blob);
      }}
    />
  );
}
