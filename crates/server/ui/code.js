// Blocks of code: their frame, and colours by highlight.js, which is loaded when the first block is complete.

import { DOMPurify } from './libraries.js';
import { h, icon } from './elements.js';
import { t } from './words.js';

/** Characters beyond which a block stays without colours. */
const LONGEST = 60_000;

/** @type {Promise<any> | undefined} */
let loading;

/** Copies a text; pages that come over plain http lack the clipboard's own way. @param {string} text */
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h('textarea', { class: 'unseen', value: text });
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
}

/**
 * A button that copies, and says so.
 * @param {() => string} text
 * @param {Record<string, any>} [props]
 */
export function copyButton(text, props = {}) {
  const button = h('button', { type: 'button', class: 'quiet round', 'aria-label': t('copy'), title: t('copy'), ...props }, icon('copy'));
  button.addEventListener('click', async () => {
    await copyText(text());
    button.replaceChildren(icon('check'));
    button.setAttribute('aria-label', t('copied'));
    setTimeout(() => {
      button.replaceChildren(icon('copy'));
      button.setAttribute('aria-label', t('copy'));
    }, 1500);
  });
  return button;
}

/** Puts a block into its frame: the language, a button to copy. @param {Element} pre */
export function frameCode(pre) {
  const code = pre.querySelector('code');
  const language = code?.className.replace('language-', '') ?? 'text';
  pre.setAttribute('tabindex', '0');
  const frame = h('div', { class: 'code' }, h('div', { class: 'code-head' }, h('span', {}, language),
    copyButton(() => code?.textContent ?? '')));
  pre.replaceWith(frame);
  frame.append(pre);
}

/** Colours a block that is complete. @param {Element} code */
export async function highlight(code) {
  const language = code.className.replace('language-', '');
  if (language === 'text' || code.textContent.length > LONGEST) return;
  loading ??= import('./vendor/highlightjs/highlight.min.js');
  const { default: library } = await loading.catch(() => { loading = undefined; return {}; });
  if (!library?.getLanguage(language)) return;
  // Each block in a task of its own: a message may have many.
  await new Promise((resolve) => { setTimeout(resolve); });
  const { value } = library.highlight(code.textContent, { language, ignoreIllegals: true });
  code.replaceChildren(DOMPurify.sanitize(value, { ALLOWED_TAGS: ['span'], ALLOWED_ATTR: ['class'], ALLOW_ARIA_ATTR: false, ALLOW_DATA_ATTR: false, RETURN_DOM_FRAGMENT: true }));
}
