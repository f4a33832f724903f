// Calls of functions as cards: what is called with which arguments, what it returned, or a form for a person to say so.

import { h, icon } from './elements.js';
import { t } from './words.js';

/**
 * @param {import('./conversation.js').Call[]} calls
 * @param {Record<string, string> | undefined} results
 * @param {((results: Record<string, string>) => void) | null} give takes what a person says that they return
 */
export function toolCards(calls, results, give) {
  /** @type {Map<string, HTMLTextAreaElement>} */
  const fields = new Map();
  const cards = calls.map((call) => {
    const parts = [h('summary', {}, icon('tool'), h('code', {}, call.name), icon('down')), h('pre', { tabindex: 0, 'aria-label': t('tool.arguments') }, pretty(call.arguments))];
    if (results?.[call.id] !== undefined) parts.push(h('p', { class: 'label' }, t('tool.result')), h('pre', { tabindex: 0, dir: 'auto' }, pretty(results[call.id])));
    else if (give) {
      const field = h('textarea', { rows: 2, dir: 'auto', placeholder: t('tool.result.hint') });
      fields.set(call.id, field);
      parts.push(h('label', { class: 'label' }, t('tool.result'), field));
    }
    return h('details', { class: 'card', open: true }, parts);
  });
  if (!give || fields.size === 0) return cards;
  const submit = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    give(Object.fromEntries([...fields].map(([id, field]) => [id, field.value])));
  };
  return [h('form', { submit }, cards, h('div', { class: 'row end' }, h('button', { class: 'small main' }, t('tool.give'))))];
}

/** JSON with line breaks; anything else as it is. @param {string} text */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
