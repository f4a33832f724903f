// The models that are served, and those of the catalogue: what they are, and what they take on the server's machine.

import { visit } from './address.js';
import { ask } from './api.js';
import { h, iconButton } from './elements.js';
import { plotMemory, plotSpeed } from './plots.js';
import { served } from './served.js';
import { languageTag, number, t } from './words.js';

/** @param {string} [name] of the model whose page is shown */
export function view(name) {
  const node = h('section', { class: 'sheet', tabindex: 0, 'aria-label': t('models') });
  if (name) {
    showPage(node, decodeURIComponent(name));
    return { node, close() {} };
  }
  const mine = h('div', {});
  const refresh = () => mine.replaceChildren(...served.models.map(card));
  refresh();
  served.addEventListener('change', refresh);
  node.append(mine, published());
  return { node, close: () => served.removeEventListener('change', refresh) };
}

/** @param {import('./served.js').Served} model */
function card(model) {
  const { n_vocab: vocabulary, n_embd: width, n_labels: labels, n_ctx_train: trained, chat_format: format, sampling } = model.meta ?? {};
  const facts = [
    model.meta && [t('models.kind'), t(vocabulary ? 'models.writer' : labels ? 'models.reranker' : 'models.encoder')],
    [t('models.state'), served.stateOf(model.id) || t('model.loaded')],
    model.max_model_len && [t('models.context'), number(model.max_model_len)],
    trained && [t('models.trained'), number(trained)],
    width && [t('models.width'), number(width)],
    vocabulary && [t('models.vocabulary'), number(vocabulary)],
    format && [t('models.format'), format],
    sampling && [t('sampling'), Object.entries(sampling).filter(([, value]) => value !== 0 && value !== 1).map(([name, value]) => `${t(/** @type {any} */ (`param.${name}`))} ${number(value, 3)}`).join(', ') || '–'],
  ].filter((fact) => fact !== undefined && fact !== 0 && fact !== '');
  const isChosen = model.id === served.model;
  return h('article', { class: 'facts' }, h('h2', {}, model.id), list(facts),
    (vocabulary || !model.meta) && h('button', { type: 'button', class: 'small', disabled: isChosen, click: () => { served.choose(model.id); visit('#/'); } }, t(isChosen ? 'models.chosen' : 'models.choose')));
}

/** @param {any[]} facts pairs of a name and what is said */
function list(facts) {
  return h('dl', {}, facts.map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));
}

/** @param {(string | Node)[]} heads @param {(string | Node)[][]} rows the first cell of each is its name */
function table(heads, rows) {
  return h('div', { class: 'wide', tabindex: 0, role: 'region', 'aria-label': t('message.table') }, h('table', {},
    h('thead', {}, h('tr', {}, heads.map((head) => h('th', { scope: 'col' }, head)))),
    h('tbody', {}, rows.map(([name, ...cells]) => h('tr', {}, h('th', { scope: 'row' }, name), cells.map((cell) => h('td', {}, cell)))))));
}

/** Those of the catalogue that the page has words for. */
const ABILITIES = new Set(['chat', 'generate', 'hybrid', 'reasoning', 'tools', 'vision']);

/** Bytes as people say them. @param {number} bytes */
export function size(bytes) {
  return bytes >= 1e9 ? `${number(bytes / 1e9, 1, 1)} GB` : `${number(bytes / 1e6)} MB`;
}

/** A model of the catalogue's list. @typedef {{name: string, family: string, abilities: string[], licence: string, size?: number, activated?: number, context?: number, q4_k_m?: number}} Published */

/** The catalogue, with a field to search it. */
function published() {
  const place = h('div', {});
  const words = h('input', { type: 'search', 'aria-label': t('side.search'), placeholder: t('side.search'), input: () => show() });
  /** @type {Published[]} */
  let all = [];
  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = all.filter((one) => wanted.every((/** @type {string} */ word) => `${one.name} ${one.family} ${one.abilities.join(' ')} ${abilities(one.abilities)} ${one.licence}`.toLowerCase().includes(word)));
    place.replaceChildren(table([t('catalogue.name'), t('catalogue.size'), t('catalogue.context'), t('catalogue.memory'), t('catalogue.abilities')], found.map((one) => [
      h('a', { href: `#/models/${encodeURIComponent(one.name)}` }, one.name),
      one.size ? `${one.size}${one.activated ? `-A${one.activated}` : ''}B` : '', one.context ? number(one.context) : '', one.q4_k_m ? size(one.q4_k_m) : '–', abilities(one.abilities),
    ])));
  };
  ask('catalogue').then((response) => response.json()).then((models) => {
    all = models;
    section.hidden = all.length === 0;
    show();
  }).catch((error) => place.replaceChildren(h('p', { class: 'fault' }, error.message)));
  const section = h('section', {}, h('h2', {}, t('catalogue')), words, place);
  return section;
}

/**
 * A page of the catalogue, as `glimmer show --json` has it.
 * @typedef {object} Shown
 * @property {string} [description]
 * @property {string[]} [abilities]
 * @property {string[]} [languages]
 * @property {number} [context]
 * @property {string} [licence]
 * @property {{name: string}} [licence_terms]
 * @property {string} [released]
 * @property {{repositories?: {hub: string, id: string}[]}[]} [formats]
 * @property {{model: string, name: string, score: number}[]} [benchmarks]
 */

/** A model's page. @param {HTMLElement} node @param {string} name */
async function showPage(node, name) {
  const back = h('div', { class: 'row' }, iconButton('back', t('models'), () => { visit('#/models'); }), h('h2', {}, name));
  const wait = h('p', { class: 'wait' }, h('span', { class: 'pulse' }), t('catalogue.measuring'));
  node.append(back, wait);
  try {
    const { show, fit } = await (await ask(`catalogue/${encodeURIComponent(name)}`)).json();
    wait.replaceWith(...about(show, name), ...(fit ? memory(fit) : [h('p', { class: 'notice' }, t('catalogue.unknown'))]), ...scores(show, name));
  } catch (error) {
    wait.replaceWith(h('p', { class: 'fault', role: 'alert' }, error.message));
  }
}

/** What is known of it. @param {Shown} show @param {string} name */
function about(show, name) {
  const repositories = (show.formats ?? []).flatMap((form) => (form.repositories ?? []).map((one) => `${one.hub}: ${one.id}`));
  return [h('p', { lang: 'en' }, show.description), list([
    [t('catalogue.abilities'), abilities(show.abilities ?? [])],
    [t('catalogue.languages'), (show.languages ?? []).map(languageName).join(', ')],
    [t('models.trained'), show.context ? number(show.context) : '–'],
    [t('catalogue.licence'), show.licence_terms?.name ?? show.licence ?? '–'],
    [t('catalogue.released'), show.released ?? '–'],
    [t('catalogue.files'), h('span', { class: 'mono' }, [...new Set(repositories)].slice(0, 8).join('\n'))],
    [t('catalogue.get'), h('code', {}, `glimmer pull ${name}`)],
  ])];
}

/** What a model can do, in words. @param {string[]} names */
function abilities(names) {
  return names.map((name) => (ABILITIES.has(name) ? t(/** @type {any} */ (`ability.${name}`)) : name)).join(', ');
}

/** What it reaches in benchmarks. @param {Shown} show @param {string} name */
function scores(show, name) {
  const rows = (show.benchmarks ?? []).filter((one) => one.model === name).map((one) => [one.name, number(one.score, 2)]);
  return rows.length > 0 ? [h('h2', {}, t('catalogue.scores')), table([t('catalogue.score.name'), t('catalogue.score')], rows)] : [];
}

/** @param {string} tag */
function languageName(tag) {
  try {
    return new Intl.DisplayNames(languageTag(), { type: 'language' }).of(tag);
  } catch {
    return tag;
  }
}

/** What it takes here. @param {import('./plots.js').Fit} fit */
function memory(fit) {
  const { quantization, reason } = fit.recommended;
  const rows = fit.quantizations.map((one) => [
    one.quantization, size(one.bytes), size(one.total), t(one.fits ? 'yes' : 'no'), number(one.longest_context), number(one.predicted.tokens_per_second, 1, 1),
    one.predicted.first_token_seconds ? `${number(one.predicted.first_token_seconds, 1, 1)} s` : '–',
  ]);
  return [h('h2', {}, t('catalogue.fit')), h('p', { class: 'notice', lang: 'en' }, quantization ? `${quantization}: ${reason}` : reason),
    h('p', { class: 'muted' }, t('catalogue.fit.hint', { context: number(fit.context), room: size(fit.room) })),
    h('div', { class: 'plots' }, plotSpeed(fit), plotMemory(fit)),
    table([t('catalogue.quantization'), t('catalogue.weights'), t('catalogue.total'), t('catalogue.fits'), t('catalogue.longest'), t('catalogue.speed'), t('catalogue.first')], rows)];
}
