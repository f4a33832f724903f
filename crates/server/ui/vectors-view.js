// How near two texts are to each other, by an embedding model.

import { ask } from './api.js';
import { h } from './elements.js';
import { served } from './served.js';
import { number, t } from './words.js';

export function view() {
  const texts = [0, 1].map((at) => h('textarea', { rows: 5, dir: 'auto', 'aria-label': t('vectors.text', { number: at + 1 }), placeholder: t('vectors.text', { number: at + 1 }) }));
  const result = h('div', { 'aria-live': 'polite' });
  const compare = h('button', { class: 'main' }, t('vectors.compare'));
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    compare.disabled = true;
    try {
      const body = { model: served.encoders[0].id, input: texts.map((field) => field.value || ' ') };
      const { data } = await (await ask('v1/embeddings', { body })).json();
      result.replaceChildren(...shown(cosine(data[0].embedding, data[1].embedding), data[0].embedding.length));
    } catch (error) {
      result.replaceChildren(h('p', { class: 'fault' }, error.message));
    }
    compare.disabled = false;
  };
  const form = h('form', { class: 'vectors', submit }, h('div', { class: 'pair' }, texts), h('div', { class: 'row' }, compare), result);
  const none = h('p', { class: 'notice' }, t('vectors.none'));
  const refresh = () => {
    none.hidden = served.encoders.length > 0;
    form.hidden = !none.hidden;
  };
  refresh();
  served.addEventListener('change', refresh);
  return { node: h('section', { class: 'sheet' }, h('p', { class: 'muted' }, t('vectors.hint')), none, form), close: () => served.removeEventListener('change', refresh) };
}

/** @param {number[]} a @param {number[]} b */
const dot = (a, b) => a.reduce((sum, value, at) => sum + value * b[at], 0);

/** @param {number[]} a @param {number[]} b */
function cosine(a, b) {
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

/** @param {number} value @param {number} width */
function shown(value, width) {
  const bar = h('b', {});
  bar.style.width = `${Math.max(0, Math.min(1, value)) * 100}%`;
  return [h('p', { class: 'big' }, number(value, 3)), h('div', { class: 'meter wide-meter' }, h('i', {}, bar)), h('p', { class: 'muted' }, t('vectors.result', { width: number(width) }))];
}
