import { act, renderHook, waitFor } from "@testing-library/react";
import { expect, it } from "vitest";

import { useTargets } from "../src/index.ts";
import { standIn, TARGETS } from "./service.ts";

it("gives the targets that the service lists", async () => {
  const service = standIn();
  const hook = renderHook(() => useTargets({ fetch: service.fetch }));
  expect(hook.result.current).toBeNull();
  await waitFor(() => {
    expect(service.asked).toHaveLength(1);
  });
  expect(service.latest().url).toBe("/api/images/targets");
  await act(async () => {
    service.latest().json(TARGETS);
    await new Promise((resolve) => setTimeout(resolve));
  });
  expect(hook.result.current).toEqual(TARGETS);
});
