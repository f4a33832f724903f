// What an empty conversation shows.

import { h, icon } from './elements.js';
import { served } from './served.js';
import { t } from './words.js';

const QUESTIONS = /** @type {const} */ (['welcome.1', 'welcome.2', 'welcome.3', 'welcome.4']);
const DEMO_QUESTIONS = /** @type {const} */ (['welcome.demo.1', 'welcome.demo.2', 'welcome.demo.3', 'welcome.demo.4']);

/** @param {(text: string) => void} put takes a question */
export function welcome(put) {
  const { state } = served;
  if (state === 'loading' || state === 'asking') return h('div', { class: 'welcome' }, h('p', { class: 'wait' }, h('span', { class: 'pulse' }), t('server.loading')));
  const isDemo = served.model === 'demo';
  const questions = isDemo ? DEMO_QUESTIONS : QUESTIONS;
  return h('div', { class: 'welcome' },
    h('span', { class: 'spark', 'aria-hidden': 'true' }),
    h('h1', {}, t('welcome')),
    isDemo && h('p', { class: 'muted' }, t('welcome.demo')),
    state === 'ready' && !served.model && h('p', { class: 'notice' }, t('welcome.none')),
    served.model && h('ul', { class: 'suggestions' }, questions.map((key) =>
      h('li', {}, h('button', { type: 'button', click: () => put(t(key)) }, t(key), icon('forward'))))));
}
