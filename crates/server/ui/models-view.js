// The models that are served, with what the server says of each.

import { h } from './elements.js';
import { served } from './served.js';
import { number, t } from './words.js';

export function view() {
  const node = h('section', { class: 'sheet', tabindex: 0, 'aria-label': t('models') });
  const refresh = () => node.replaceChildren(...served.models.map(card));
  refresh();
  served.addEventListener('change', refresh);
  return { node, close: () => served.removeEventListener('change', refresh) };
}

/** @param {import('./served.js').Served} model */
function card(model) {
  const { n_vocab: vocabulary, n_embd: width, n_ctx_train: trained, chat_format: format, sampling } = model.meta ?? {};
  const facts = [
    model.meta && [t('models.kind'), t(vocabulary ? 'models.writer' : 'models.encoder')],
    [t('models.state'), served.stateOf(model.id) || t('model.loaded')],
    model.max_model_len && [t('models.context'), number(model.max_model_len)],
    trained && [t('models.trained'), number(trained)],
    width && [t('models.width'), number(width)],
    vocabulary && [t('models.vocabulary'), number(vocabulary)],
    format && [t('models.format'), format],
    sampling && [t('sampling'), Object.entries(sampling).filter(([, value]) => value !== 0 && value !== 1).map(([name, value]) => `${t(/** @type {any} */ (`param.${name}`))} ${number(value, 3)}`).join(', ') || '–'],
  ].filter(Boolean);
  const isChosen = model.id === served.model;
  return h('article', { class: 'facts' }, h('h2', {}, model.id), h('dl', {}, facts.map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)])),
    (vocabulary || !model.meta) && h('button', { type: 'button', class: 'small', disabled: isChosen, click: () => { served.choose(model.id); location.hash = '#/'; } }, t(isChosen ? 'models.chosen' : 'models.choose')));
}
