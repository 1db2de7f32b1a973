// The lock that `mobileclip-deploy publish` writes: the SHA-256 of each file of a commit.

import { MobileCLIPError } from "./errors.js";
import { object, plain, text, whole } from "./manifest.js";

const NEWEST_SCHEMA = 1;
const refused = (message) => new MobileCLIPError("bundle", message);
const hex = (value, length) => text(value) && value.length === length && /^[0-9a-f]*$/.test(value);
const folder = (path) => path === "." || plain(path);

const RULES = {
  repository: (name) => text(name) && /^[A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9][\w.-]{0,95}$/.test(name),
  commit: (oid) => hex(oid, 40),
  bundles: (folders) => Array.isArray(folders) && folders.length > 0 && folders.every(folder),
  files: (files) => object(files) && Object.entries(files).every(([path, file]) => plain(path) && hex(file?.sha256, 64)),
};

function check(lock) {
  const version = lock?.schema_version;
  if (!whole(version)) throw refused("the lock is not one of `publish`: pass the object in OWNER--NAME.lock.json");
  if (version > NEWEST_SCHEMA) throw new MobileCLIPError("newer", `the lock has schema version ${version}, and this package reads up to ${NEWEST_SCHEMA}: update it`);
  const wrong = Object.keys(RULES).find((name) => !RULES[name](lock[name]));
  if (wrong) throw refused(`the lock's \`${wrong}\` is missing or not valid: publish again`);
}

/** `read` that refuses each file whose hash is not in the lock. manifest.json is read first: its hash says which of the
 * lock's bundles this is. */
export function locked(read, lock) {
  check(lock);
  if (!globalThis.crypto?.subtle) throw refused("a lock needs crypto.subtle, which browsers have over https and on localhost alone: serve the page so");
  let prefix;
  return async (name) => {
    const bytes = await read(name);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    const isLocked = (start) => lock.files[start + name]?.sha256 === sha256;
    if (name === "manifest.json") prefix = lock.bundles.map((path) => (path === "." ? "" : `${path}/`)).find(isLocked);
    if (prefix === undefined || !isLocked(prefix)) throw refused(`${name} is not the file in the lock of ${lock.repository}@${lock.commit}: download the bundle again`);
    return bytes;
  };
}
