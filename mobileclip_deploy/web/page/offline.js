// Keeps what was loaded, so that a page that was opened once opens again without a network.

const NAME = "mobileclip-deploy";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET") return;
  // The network first: a bundle that was exchanged on the server must not be mixed with one that was kept.
  event.respondWith((async () => {
    let answer;
    try {
      answer = await fetch(event.request);
    } catch (error) {
      const found = await caches.match(event.request, { cacheName: NAME });
      if (found) return found;
      throw error;
    }
    if (answer.ok) await keep(event.request, answer.clone());
    return answer;
  })());
});

// A full disk or a private window keeps nothing: the page works all the same, and shows it.
async function keep(request, answer) {
  const cache = await caches.open(NAME);
  try {
    await cache.put(request, answer);
  } catch (error) {
    await cache.delete(request); // an older one must not be mixed with what is newer
    for (const page of await self.clients.matchAll()) page.postMessage({ notKept: error.message });
  }
}
