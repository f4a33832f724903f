// A server that wants a key: the page asks for it.

import { h } from './elements.js';
import { key, setKey } from './key.js';
import { served } from './served.js';
import { t } from './words.js';

export function keyView() {
  const field = h('input', { type: 'password', id: 'key', autocomplete: 'off', required: true, spellcheck: 'false' });
  const remember = h('input', { type: 'checkbox' });
  const fault = h('p', { class: 'fault', role: 'alert', hidden: !key() }, t('key.wrong'));
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    // A header holds visible ASCII alone.
    if (/^[\x21-\x7e]+$/.test(field.value.trim())) {
      setKey(field.value.trim(), remember.checked);
      await served.refresh();
    }
    fault.hidden = false;
  };
  const node = h('main', { class: 'key-page' }, h('form', { submit },
    h('span', { class: 'spark', 'aria-hidden': 'true' }), h('h1', {}, t('key')), h('p', { class: 'muted' }, t('key.hint')),
    h('label', { for: 'key' }, t('key.label')), field, fault,
    h('label', { class: 'check' }, remember, t('key.remember')), h('button', { class: 'main' }, t('key.use'))));
  requestAnimationFrame(() => field.focus());
  return node;
}
