// An answer token by token: the surer the model was, the calmer the colour; what else it might have written stands below.

import { h } from './elements.js';
import { number, t } from './words.js';

/** Log-probabilities from which a token has the next stronger colour. */
const STEPS = [-0.1, -0.7, -1.6, -3];

/** @param {import('./conversation.js').TokenScore[]} tokens */
export function tokensView(tokens) {
  const detail = h('div', { class: 'token-detail', 'aria-live': 'polite' }, t('tokens.hint'));
  const show = (/** @type {import('./conversation.js').TokenScore} */ token) => detail.replaceChildren(...likeliest(token));
  const list = h('div', { class: 'token-list', dir: 'auto' }, tokens.map((token) => {
    const sureness = STEPS.filter((step) => token[1] < step).length;
    return h('button', {
      type: 'button', class: `token sure-${sureness}`, 'aria-label': `${JSON.stringify(token[0])}, ${percent(token[1])}`,
      mouseenter: () => show(token), focus: () => show(token),
    }, visible(token[0]));
  }));
  return h('div', { class: 'tokens' }, list, detail);
}

/** @param {import('./conversation.js').TokenScore} token */
function likeliest([text, logprob, others]) {
  /** @type {[string, number][]} */
  const all = others.some(([other]) => other === text) ? others : [[text, logprob], ...others];
  return all.map(([other, score]) => h('span', { class: other === text ? 'chosen' : '' }, h('code', {}, visible(other)), ` ${percent(score)}`));
}

/** @param {number} logprob */
function percent(logprob) {
  return `${number(100 * Math.exp(logprob), 1)} %`;
}

/** Spaces and ends of lines as signs. @param {string} text */
function visible(text) {
  return text.replace(/\n/g, '⏎').replace(/^ | $/g, '\u00a0') || '·';
}
