import type { ReactElement } from "react";

import cat from "./samples/cat.jpg";
import coffee from "./samples/coffee.jpg";
import rocket from "./samples/rocket.jpg";

const SAMPLES = { coffee, cat, rocket };

/** Pictures to try the service with. */
export function Samples({ onPicture }: { onPicture: (file: File) => void }): ReactElement {
  const choose = async (name: string, url: string): Promise<void> => {
    const response = await fetch(url);
    onPicture(new File([await response.blob()], `${name}.jpg`, { type: "image/jpeg" }));
  };
  return (
    <p className="samples">
      Nothing at hand? Try{" "}
      {Object.entries(SAMPLES).map(([name, url]) => (
        <button key={name} type="button" onClick={() => void choose(name, url)}>
          {name}
        </button>
      ))}
    </p>
  );
}
