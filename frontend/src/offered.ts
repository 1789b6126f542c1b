import type { ModelsAnswer, TargetsAnswer } from "./contract.ts";

/** What may be gone when it is asked for: it was remembered, or chosen for another target. */
interface Choice {
  model: string;
  target: string;
  weights: boolean;
}

/** Leaves out what the service does not offer; of which nothing is known, the service decides. */
export function offered<Asked extends Choice>(
  asked: Asked,
  models: ModelsAnswer | null | undefined,
  targets: TargetsAnswer | null | undefined,
): Asked {
  const target = targets && !targets.targets.some(({ name }) => name === asked.target) ? "" : asked.target;
  const aim = targets?.targets.find(({ name }) => name === (target || targets.default));
  return {
    ...asked,
    target,
    model: models && !models.allowed.includes(asked.model) ? "" : asked.model,
    weights: asked.weights && aim?.weights === true,
  };
}
