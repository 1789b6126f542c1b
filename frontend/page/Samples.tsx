import type { ReactElement } from "react";

import cat from "./samples/cat.jpg";
import coffee from "./samples/coffee.jpg";
import rocket from "./samples/rocket.jpg";

const SAMPLES = { coffee, cat, rocket };

/** Pictures to try the service with. */
export function Samples({ onPicture }: { onPicture: (file: File) => void }): ReactElement {
  const choose = async (name: string, url: string): Promise<void> => {
    const response = await fetch(url).catch(() => null);
    if (response?.ok !== true) return; // The status tells that the service does not answer.
    onPicture(new File([await response.blob()], `${name}.jpg`, { type: "image/jpeg" }));
  };
  return (
    <div className="samples">
      <span>Nothing at hand? Try one of these:</span>
      {Object.entries(SAMPLES).map(([name, url]) => (
        <button key={name} type="button" title={name} onClick={() => void choose(name, url)}>
          <img src={url} alt={name} width="72" height="54" loading="lazy" />
        </button>
      ))}
    </div>
  );
}
