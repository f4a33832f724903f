// What a person prefers in this browser, and their presets. Small, so that it lies in localStorage.

const NAME = 'glimmer.preferences';

/**
 * How answers are asked for. What is left open is the model's own.
 * @typedef {object} Params
 * @property {string} [system] what the model is told before the conversation
 * @property {number} [temperature]
 * @property {number} [top_p]
 * @property {number} [top_k]
 * @property {number} [min_p]
 * @property {number} [repetition_penalty]
 * @property {number} [presence_penalty]
 * @property {number} [frequency_penalty]
 * @property {number} [max_tokens]
 * @property {number} [seed]
 * @property {'on' | 'off'} [thinking]
 * @property {number} [thinkingBudget]
 * @property {string} [schema] a JSON schema that answers keep to
 * @property {boolean} [logprobs]
 * @property {string} [tools] a JSON list of functions; a `result` beside one is its fixed answer
 */

/**
 * @typedef {object} Preferences
 * @property {'dark' | 'light'} [theme]
 * @property {'en' | 'zh'} [language]
 * @property {string} [model]
 * @property {Params} [params] those that new conversations begin with
 * @property {Record<string, Params>} [presets]
 */

/** @returns {Preferences} */
export function preferences() {
  try {
    return JSON.parse(localStorage.getItem(NAME) ?? '{}') ?? {};
  } catch {
    return {};
  }
}

/** Changes some of them; undefined forgets one. @param {Partial<Preferences>} change */
export function prefer(change) {
  try {
    localStorage.setItem(NAME, JSON.stringify({ ...preferences(), ...change }));
  } catch { /* a browser that keeps nothing: the change lasts as long as the page does not ask again */ }
}
