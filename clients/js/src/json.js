// JSON that one reader takes as another does.

const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\]:]/gs;

/** The value of a JSON text, or an exception of JSON.parse's. `refuse(key)` is called with the first key that occurs twice
 * in one object: readers differ in which of the two they take. */
export function parseJson(text, refuse) {
  const value = JSON.parse(text);
  const objects = [];
  let word;
  for (const [token] of text.matchAll(TOKENS)) {
    if (token === "{" || token === "[") objects.push(new Set());
    else if (token === "}" || token === "]") objects.pop();
    else if (token !== ":") word = token;
    else {
      const [key, keys] = [JSON.parse(word), objects.at(-1)];
      if (keys.has(key)) refuse(key);
      keys.add(key);
    }
  }
  return value;
}
