// EXIF's orientation of WebP files: Chromium turns JPEG and PNG by it, and WebP not.

// 2 x 1 pixels that are to be shown as 1 x 2.
const TURNED = "UklGRk4AAABXRUJQVlA4WAoAAAAIAAAAAQAAAAAAVlA4TA4AAAAvAQAAAAcQEf0PRET/A0VYSUYaAAAATU0AKgAAAAgAAQESAAMA"
  + "AAABAAYAAAAAAAA=";

/** The orientation that a WebP file (its bytes) says, 1 to 8; 1 of other files and of those that say none. */
export function orientation(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (bytes.length < 12 || text(0) !== "RIFF" || text(8) !== "WEBP") return 1;
  for (let at = 12; at + 8 <= bytes.length;) {
    const size = view.getUint32(at + 4, true);
    if (text(at) === "EXIF") return ofExif(bytes.subarray(at + 8, at + 8 + size));
    at += 8 + size + (size % 2);
  }
  return 1;
}

// The tag 274 of the first directory.
function ofExif(bytes) {
  const start = bytes[0] === 0x45 ? 6 : 0; // "Exif" and two zeros, which some programs write
  if (bytes.length < start + 8) return 1;
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, bytes.length - start);
  const little = view.getUint8(0) === 0x49;
  const directory = view.getUint32(4, little);
  if (directory + 2 > view.byteLength) return 1;
  const count = view.getUint16(directory, little);
  for (let entry = directory + 2, left = count; left > 0 && entry + 12 <= view.byteLength; entry += 12, left -= 1) {
    if (view.getUint16(entry, little) === 274) return view.getUint16(entry + 8, little);
  }
  return 1;
}

let turns;

/** True if this browser rotates WebP files by itself; tested once. */
export function browserTurns() {
  turns ??= createImageBitmap(new Blob([Uint8Array.from(atob(TURNED), (one) => one.charCodeAt(0))], { type: "image/webp" }))
    .then(({ width, height }) => height > width, () => true);
  return turns;
}
