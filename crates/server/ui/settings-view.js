// How answers are asked for in this conversation, presets of that, and how the page looks.

import { SAMPLING } from './answer.js';
import { askFor, openDialog, toast } from './dialogs.js';
import { h, icon, iconButton } from './elements.js';
import { forgetKey, key } from './key.js';
import { prefer, preferences } from './preferences.js';
import { served } from './served.js';
import { faultOfTools } from './tools.js';
import { language, number, t } from './words.js';

/** @typedef {import('./preferences.js').Params} Params */

/** Smallest and largest values, and steps, as the API has them. */
const BOUNDS = {
  temperature: [0, 100, 0.05], top_p: [0, 1, 0.01], top_k: [0, 2147483647, 1], min_p: [0, 1, 0.01], repetition_penalty: [0.01, 100, 0.01],
  presence_penalty: [-2, 2, 0.1], frequency_penalty: [-2, 2, 0.1], max_tokens: [1, 2147483647, 1], seed: [0, Number.MAX_SAFE_INTEGER, 1],
};

/**
 * @param {import('./session.js').Session} session
 * @param {{theme: () => void, language: () => void}} looks are told when the page is to look otherwise
 */
export function openSettings(session, looks) {
  const params = () => session.conversation.params;
  /** @param {Partial<Params>} change */
  const change = (change) => session.change({ params: pruned({ ...params(), ...change }) });
  const dialog = openDialog(t('settings'), { class: 'settings' });
  const body = h('div', { class: 'settings-body' });
  dialog.append(body);
  const fill = () => body.replaceChildren(presets(params, (chosen) => { session.change({ params: chosen }); fill(); }),
    instructions(params(), change), sampling(params(), change), thinking(params(), change), ...forms(params(), change), page(looks, dialog));
  fill();
}

/** Without what is left open. @param {Params} params @returns {Params} */
function pruned(params) {
  return Object.fromEntries(Object.entries(params).filter(([, value]) => value !== undefined && value !== '' && value !== false));
}

/** @param {string} title @param {...any} content */
function section(title, ...content) {
  return h('section', {}, h('h3', {}, title), content);
}

/** @param {() => Params} params @param {(params: Params) => void} choose */
function presets(params, choose) {
  const all = () => preferences().presets ?? {};
  const select = h('select', { 'aria-label': t('presets') }, h('option', { value: '' }, t('presets.choose')),
    Object.keys(all()).sort().map((name) => h('option', { value: name }, name)));
  select.addEventListener('change', () => { if (all()[select.value]) choose({ ...all()[select.value] }); });
  const save = async () => {
    const name = await askFor({ title: t('presets.save'), value: '', yes: t('save') });
    if (!name) return;
    prefer({ presets: { ...all(), [name]: params() } });
    choose(params());
  };
  const remove = async () => {
    const name = await askFor({ title: t('presets.remove'), text: t('presets.remove.which'), value: Object.keys(all())[0] ?? '', yes: t('delete'), danger: true });
    if (!name) return;
    const { [name]: _, ...rest } = all();
    prefer({ presets: rest });
    choose(params());
  };
  return section(t('presets'), h('div', { class: 'row' }, select, iconButton('plus', t('presets.save'), save), iconButton('trash', t('presets.remove'), remove, { disabled: Object.keys(all()).length === 0 })),
    h('div', { class: 'row' },
      h('button', { type: 'button', class: 'small', click: () => { prefer({ params: params() }); toast(t('presets.default.done')); } }, t('presets.default')),
      h('button', { type: 'button', class: 'small', click: () => choose({}) }, t('presets.reset'))));
}

/** Takes what is to be otherwise. @typedef {(change: Partial<Params>) => void} Change */

/** @param {Params} params @param {Change} change */
function instructions(params, change) {
  return section(t('system'), h('textarea', { rows: 4, dir: 'auto', value: params.system ?? '', placeholder: t('system.hint'), 'aria-label': t('system'), change: (event) => change({ system: event.target.value }) }));
}

/** @param {Params} params @param {Change} change */
function sampling(params, change) {
  const defaults = served.one()?.meta?.sampling ?? {};
  /** @param {typeof SAMPLING[number]} name */
  const field = (name) => {
    const [min, max, step] = BOUNDS[name];
    const own = defaults[name] !== undefined ? number(defaults[name], 3) : t('sampling.own');
    const id = `param-${name}`;
    const input = h('input', {
      id, type: 'number', min, max, step: 'any', inputmode: 'decimal', value: params[name] ?? '', placeholder: own, 'data-step': step,
      change: () => { if (input.reportValidity()) change({ [name]: input.value === '' ? undefined : Number(input.value) }); },
    });
    return h('div', { class: 'number' }, h('label', { for: id, title: t(`param.${name}.hint`) }, t(`param.${name}`)), input);
  };
  return section(t('sampling'), h('p', { class: 'muted' }, t('sampling.hint')), h('div', { class: 'numbers' }, SAMPLING.map(field)));
}

/** @param {Params} params @param {Change} change */
function thinking(params, change) {
  const budget = h('input', { id: 'thinking-budget', type: 'number', min: 0, max: 2147483647, value: params.thinkingBudget ?? '', placeholder: t('thinking.unlimited'), change: () => change({ thinkingBudget: budget.value === '' ? undefined : Number(budget.value) }) });
  return section(t('thinking'), choice(t('thinking'), params.thinking ?? 'auto', { auto: t('thinking.auto'), on: t('thinking.on'), off: t('thinking.off') },
    (value) => change({ thinking: value === 'auto' ? undefined : value })), h('div', { class: 'number' }, h('label', { for: 'thinking-budget' }, t('thinking.budget')), budget));
}

/**
 * A field for JSON that says what is wrong with it.
 * @param {string} label @param {string} hint @param {string | undefined} value
 * @param {(text: string) => string} fault in words, if there is any
 * @param {(text: string) => void} keep takes a text without one
 */
function jsonField(label, hint, value, fault, keep) {
  const wrong = h('p', { class: 'fault', role: 'alert', hidden: true });
  const field = h('textarea', {
    rows: 5, class: 'mono', spellcheck: 'false', dir: 'ltr', value: value ?? '', placeholder: hint, 'aria-label': label,
    change: () => {
      wrong.textContent = fault(field.value);
      wrong.hidden = !wrong.textContent;
      if (wrong.hidden) keep(field.value);
    },
  });
  return [field, wrong];
}

/** What answers are made of: their form, calls of tools, tokens with their probabilities. @param {Params} params @param {Change} change */
function forms(params, change) {
  const schemaFault = (/** @type {string} */ text) => {
    try {
      const value = JSON.parse(text || '{}');
      return value !== null && typeof value === 'object' ? '' : t('schema.fault');
    } catch {
      return t('schema.fault');
    }
  };
  const toolFault = (/** @type {string} */ text) => ({ '': '', json: t('schema.fault'), list: t('tools.fault') })[faultOfTools(text)];
  const logprobs = h('input', { type: 'checkbox', checked: params.logprobs ?? false, change: () => change({ logprobs: logprobs.checked || undefined }) });
  return [section(t('schema'), h('p', { class: 'muted' }, t('schema.hint')), jsonField(t('schema'), '{"type": "object", …}', params.schema, schemaFault, (schema) => change({ schema }))),
    section(t('tools'), h('p', { class: 'muted' }, t('tools.hint')),
      jsonField(t('tools'), '[{"type": "function", "function": {"name": "weather", …}, "result": "22 °C"}]', params.tools, toolFault, (tools) => change({ tools }))),
    section(t('tokens'), h('label', { class: 'check' }, logprobs, t('tokens.want')))];
}

/** @param {{theme: () => void, language: () => void}} looks @param {HTMLDialogElement} dialog */
function page(looks, dialog) {
  const { theme, language: chosen } = preferences();
  return section(t('page'),
    choice(t('page.theme'), theme ?? 'system', { system: t('page.system'), light: t('page.light'), dark: t('page.dark') }, (value) => {
      prefer({ theme: value === 'system' ? undefined : value });
      looks.theme();
    }),
    choice(t('page.language'), chosen ?? 'system', { system: t('page.system'), en: 'English', zh: '中文' }, (value) => {
      const before = language();
      prefer({ language: value === 'system' ? undefined : value });
      if (language() === before) return;
      dialog.close();
      looks.language();
    }),
    key() && h('button', { type: 'button', class: 'small', click: () => { forgetKey(); served.refresh(); dialog.close(); } }, icon('key'), t('key.forget')),
    h('p', { class: 'muted' }, h('a', { href: 'docs' }, t('page.docs'))));
}

/** One of a few. @param {string} label @param {string} value @param {Record<string, string>} options @param {(value: any) => void} choose */
function choice(label, value, options, choose) {
  const name = `choice-${Math.random().toString(36).slice(2)}`;
  return h('fieldset', { class: 'choice' }, h('legend', {}, label), Object.entries(options).map(([one, text]) =>
    h('label', {}, h('input', { type: 'radio', name, value: one, checked: one === value, change: () => choose(one) }), h('span', {}, text))));
}
