"use client";

import type { Language, Length, ModelsAnswer, TargetsAnswer, Vision } from "./contract.ts";
import { aimOf, offered } from "./offered.ts";
import type { OptionFields, OptionValues } from "./OptionsBar.tsx";
import { useControllable } from "./useControllable.ts";

/** Each value as its host may hold it, with what tells the host of a change. */
type Held = {
  [Name in keyof OptionValues]?: OptionValues[Name] | undefined;
} & {
  [Name in keyof OptionValues as `on${Capitalize<Name>}Change`]?: ((value: OptionValues[Name]) => void) | undefined;
};

/** What is asked for, without what the service does not offer; and the language that the prompt will be in. */
export function useOptionFields(
  props: Held & { models?: ModelsAnswer | null | undefined },
  targets: TargetsAnswer | null,
): { fields: OptionFields; inLanguage: Language | undefined } {
  const language = useControllable<Language>(props.language, "en", props.onLanguageChange);
  const [model, setModel] = useControllable(props.model, "", props.onModelChange);
  const [target, setTarget] = useControllable(props.target, "", props.onTargetChange);
  const [weights, setWeights] = useControllable(props.weights, false, props.onWeightsChange);
  const can = offered({ model, target, weights }, props.models, targets);
  const aim = aimOf(targets, can.target);
  return {
    fields: {
      language,
      deepThinking: useControllable(props.deepThinking, false, props.onDeepThinkingChange),
      model: [can.model, setModel],
      seed: useControllable<number | null>(props.seed, null, props.onSeedChange),
      vision: useControllable<Vision>(props.vision, "auto", props.onVisionChange),
      target: [can.target, setTarget],
      length: useControllable<Length | null>(props.length, null, props.onLengthChange),
      weights: [can.weights, setWeights],
    },
    inLanguage: !aim || aim.languages.includes(language[0]) ? language[0] : aim.languages[0],
  };
}
