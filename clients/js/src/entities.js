// HTML 5's named character references.

import { ENTITY_TABLE } from "./entity_table.js";

// Name, with its semicolon and for some also without -> what it means.
const NAMES = new Map(ENTITY_TABLE.trim().split(/\s+/).flatMap((entry) => {
  const [name, value] = entry.split("=");
  const meaning = String.fromCodePoint(...value.split("+").map((one) => parseInt(one, 16)));
  const bare = name.replace("!", "");
  return bare === name ? [[`${name};`, meaning]] : [[`${bare};`, meaning], [bare, meaning]];
}));

/** Text of a name that ends in a semicolon, or may be without one; undefined: unknown. */
export const named = (name) => NAMES.get(name);

/** A text with the longest name that it begins with replaced; undefined where it begins with none. */
export function prefixed(text) {
  for (let end = text.length; end > 1; end -= 1) {
    const known = NAMES.get(text.slice(0, end));
    if (known !== undefined) return known + text.slice(end);
  }
  return undefined;
}
