import { useEffect, useState } from "react";

import { type Ask, PictureQueue } from "./queue.ts";

/** One queue for as long as the component is there; each picture is asked for as the page stands when its turn comes. */
export function usePictureQueue(ask: Ask): PictureQueue {
  const [queue] = useState(() => new PictureQueue(ask));
  useEffect(() => {
    queue.askBy(ask);
  });
  useEffect(
    () => () => {
      queue.cancel();
    },
    [queue],
  );
  return queue;
}
