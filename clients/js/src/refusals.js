// Queries that are refused, in every language and in Python (clients/vectors/refusals.json).

import { MobileCLIPError } from "./errors.js";

const refused = (what) => new MobileCLIPError("query", what);

/** The same texts, in an array. */
export function checkedTexts(texts) {
  if (!Array.isArray(texts)) throw refused("texts are a list, even where there is one");
  const other = texts.find((text) => typeof text !== "string");
  if (other !== undefined || texts.includes(undefined)) throw refused(`a text is a string, and not ${String(other)}`);
  return texts;
}

export function checkQuery(text) {
  if (!checkedTexts([text])[0].trim()) throw refused("the text is empty: give words");
}

export function checkThreshold(threshold) {
  if (threshold != null && !(threshold >= -1 && threshold <= 1)) throw refused(`the threshold ${threshold} is not a cosine: give a number from -1 to 1`);
}

export function checkLabels(names, template) {
  if (checkedTexts(names).length < 2) throw refused(`${names.length} labels tell nothing apart: give two or more`);
  if (typeof template !== "string" || !template.includes("{}")) throw refused("the template has no {}, where the label goes: every prompt would be the same");
  if (new Set(names).size !== names.length) throw refused("a label is there twice: it would share its probability with itself");
}

/** `rows`: the ids of each label's prompt. */
export function checkPrompts(names, rows) {
  const first = new Map();
  rows.forEach((row, index) => {
    const other = first.get(String(row));
    if (other !== undefined) throw refused(`the labels ${other} and ${names[index]} are the same prompt to the tokenizer: leave one out, or rephrase it`);
    first.set(String(row), names[index]);
  });
}
