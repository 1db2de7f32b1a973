// Keeps what was loaded, so that a page that was opened once opens again without a network.

const NAME = "mobileclip-deploy";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET") return;
  // The network first: a bundle that was exchanged on the server must not be mixed with one that was kept.
  event.respondWith((async () => {
    const cache = await caches.open(NAME);
    try {
      const answer = await fetch(event.request);
      if (answer.ok) await cache.put(event.request, answer.clone());
      return answer;
    } catch (error) {
      const found = await cache.match(event.request);
      if (found) return found;
      throw error;
    }
  })());
});
