import type { ModelsAnswer, TargetsAnswer } from "./contract.ts";

/** What may be gone when it is asked for: it was remembered, or chosen for another target. */
interface Choice {
  model: string;
  target: string;
  weights: boolean;
}

/** What a prompt is written for: the target of this name, or the service's own where it is empty. */
export function aimOf(
  targets: TargetsAnswer | null | undefined,
  target: string,
): TargetsAnswer["targets"][number] | undefined {
  return targets?.targets.find(({ name }) => name === (target || targets.default));
}

/** Leaves out what the service does not offer; of which nothing is known, the service decides. */
export function offered<Asked extends Choice>(
  asked: Asked,
  models: ModelsAnswer | null | undefined,
  targets: TargetsAnswer | null | undefined,
): Asked {
  const target = targets && !targets.targets.some(({ name }) => name === asked.target) ? "" : asked.target;
  return {
    ...asked,
    target,
    model: models && !models.allowed.includes(asked.model) ? "" : asked.model,
    weights: asked.weights && aimOf(targets, target)?.weights === true,
  };
}
