// What the page says, in the language that was chosen.

import en from './words/en.js';
import zh from './words/zh.js';
import { preferences } from './preferences.js';

const LANGUAGES = { en, zh };

/** The language of the page: the one chosen, else the first of the browser's that there is. @returns {keyof typeof LANGUAGES} */
export function language() {
  const chosen = preferences().language;
  if (chosen && chosen in LANGUAGES) return chosen;
  const wanted = navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase());
  return /** @type {keyof typeof LANGUAGES | undefined} */ (wanted.find((tag) => tag in LANGUAGES)) ?? 'en';
}

/** The tag of that language, for numbers, dates and screen readers. */
export function languageTag() {
  return language() === 'zh' ? 'zh-CN' : 'en';
}

/**
 * A text of the page with its blanks filled.
 * @param {keyof typeof en} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  const text = /** @type {string} */ (LANGUAGES[language()][key]);
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/** A number as the language writes it. @param {number} value @param {number} [digits] at most behind the point @param {number} [least] of them */
export function number(value, digits = 0, least = 0) {
  return value.toLocaleString(languageTag(), { maximumFractionDigits: digits, minimumFractionDigits: least });
}
