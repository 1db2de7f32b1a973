// What open_clip does to a text before it splits it into words: ftfy's repairs but for mojibake, HTML's references
// unescaped twice, white space collapsed, lower case.

import { named, prefixed } from "./entities.js";

// What bytes 0x80 to 0x9f mean in Windows-1252; those that mean nothing stay.
const WINDOWS_1252 = "€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ";
const LIGATURES = {
  Ĳ: "IJ", ĳ: "ij", ŉ: "\u02bcn", Ǳ: "DZ", ǲ: "Dz", ǳ: "dz", Ǆ: "DŽ", ǅ: "Dž", ǆ: "dž", Ǉ: "LJ", ǈ: "Lj", ǉ: "lj",
  Ǌ: "NJ", ǋ: "Nj", ǌ: "nj", ﬀ: "ff", ﬁ: "fi", ﬂ: "fl", ﬃ: "ffi", ﬄ: "ffl", ﬅ: "ſt", ﬆ: "st",
};
const REPLACED = new RegExp(`[\\u0080-\\u009f\\u3000\\uff01-\\uffef${Object.keys(LIGATURES).join("")}]`, "gu");
const TERMINAL_ESCAPES = /\u001b\[[\p{Nd};]*[a-zA-Z]/gu;
const CONTROLS = /[\u0000-\u0008\u000b\u000e-\u001f\u007f\u206a-\u206f\ufeff\ufff9-\ufffc]/g;
// What Python's str.split takes for white space; JavaScript's \s has others.
const SPACES = /[\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/g;

/** A text as open_clip's tokenizer splits it. */
export function clean(text) {
  return unescape(unescape(repair(text))).replace(SPACES, " ").replace(/^ | $/g, "").toLowerCase();
}

// ftfy.fix_text: line by line, each until nothing changes any more.
function repair(text) {
  let unescapes = true;
  return text.split(/(?<=\n)/).map((line) => {
    if (line.includes("<")) unescapes = false; // looks like HTML: its references are left alone from here on
    for (let current = line; ;) {
      const next = repairOnce(current, unescapes);
      if (next === current) return next;
      current = next;
    }
  }).join("");
}

function repairOnce(line, unescapes) {
  return (unescapes ? unescapeUnambiguous(line) : line)
    .replace(REPLACED, replacement)
    .replace(/[\u02bc\u2018-\u201b]/g, "'")
    .replace(/[\u201c-\u201f]/g, '"')
    .replace(/\r\n|[\r\u0085\u2028\u2029]/g, "\n")
    .replace(TERMINAL_ESCAPES, "")
    .replace(CONTROLS, "")
    .normalize("NFC");
}

// C1 controls as Windows-1252, ligatures as letters, full and half width as the usual one.
function replacement(character) {
  const code = character.codePointAt(0);
  if (code <= 0x9f) return WINDOWS_1252[code - 0x80];
  if (code === 0x3000) return " ";
  return code >= 0xff01 ? character.normalize("NFKC") : LIGATURES[character];
}

// Python's html.unescape: with or without semicolon, the longest name that is known.
function unescape(text) {
  return text.replace(/&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)/gu, (whole, name) => {
    if (name.startsWith("#")) return numeric(name);
    return prefixed(name) ?? whole;
  });
}

// ftfy's: only what ends in a semicolon, and names in capitals where they are not ambiguous.
function unescapeUnambiguous(text) {
  return text.replace(/&(#?[0-9A-Za-z]{1,24};)/g, (whole, name) => {
    if (name.startsWith("#")) {
      const value = unescape(whole);
      return value.includes(";") ? whole : value; // ftfy takes a semicolon for a sign that not all was read
    }
    const known = named(name);
    if (known !== undefined) return known;
    const small = name === name.toUpperCase() ? named(name.toLowerCase()) : undefined;
    return small !== undefined && unescape(whole) === whole ? small.toUpperCase() : whole;
  });
}

function numeric(name) {
  const digits = name.replace(/[#;]/g, "");
  const code = /^x/i.test(digits) ? parseInt(digits.slice(1), 16) : parseInt(digits, 10);
  if (code === 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return "\ufffd";
  if (code === 0x0d) return "\r";
  if (code >= 0x80 && code <= 0x9f) return WINDOWS_1252[code - 0x80];
  const nothing = (code < 0x20 && ![0x09, 0x0a, 0x0c].includes(code)) || code === 0x7f
    || (code >= 0xfdd0 && code <= 0xfdef) || (code & 0xfffe) === 0xfffe;
  return nothing ? "" : String.fromCodePoint(code);
}
