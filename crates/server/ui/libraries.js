// The two libraries that every page needs, as their packages ship them. They put themselves into the global scope.

import './vendor/markdown-it/markdown-it.umd.min.js';
import './vendor/dompurify/purify.min.js';

/** @type {any} */
const { markdownit, DOMPurify } = /** @type {any} */ (globalThis);

export { DOMPurify, markdownit };
