// The page without its server: files come from the server where it can be reached, else as they came last. Answers of the API
// are never kept.

/** The worker's own scope, which is not that of a page: its listeners take events of workers. @type {{addEventListener: (name: string, listener: (event: any) => void) => void} & Record<string, any>} */
const worker = self;
const KEPT = 'glimmer-page';
const root = new URL('../', worker.location.href);

/** @param {URL} url */
function isOfThePage(url) {
  return url.origin === root.origin && (url.pathname === root.pathname || url.pathname.startsWith(`${root.pathname}ui/`));
}

worker.addEventListener('install', (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(KEPT);
    /** @type {string[]} */
    const files = await (await fetch(new URL('files.json', worker.location.href))).json();
    await cache.addAll([root.href, ...files.map((file) => new URL(file, worker.location.href).href)]);
    await worker.skipWaiting();
  })());
});

worker.addEventListener('activate', (event) => event.waitUntil(worker.clients.claim()));

worker.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || !isOfThePage(new URL(request.url))) return;
  event.respondWith((async () => {
    const cache = await caches.open(KEPT);
    try {
      const response = await fetch(request);
      if (response.ok) await cache.put(request, response.clone());
      return response;
    } catch (error) {
      const kept = await cache.match(request, { ignoreSearch: true });
      if (kept) return kept;
      throw error;
    }
  })());
});
