/** Says in the wish what is to be left out, as the service reads it: "at dusk, without cats, cups or saucers". */
export function wishWithout(userPrompt: string, without: readonly string[]): string {
  const last = without.at(-1);
  if (last === undefined) return userPrompt;
  const list = [without.slice(0, -1).join(", "), last].filter(Boolean).join(" or ");
  return [userPrompt.trim().replace(/[,;.\s]+$/, ""), `without ${list}`].filter(Boolean).join(", ");
}
