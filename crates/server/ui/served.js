// What the server serves, and whether it can be reached.

import { ask, ApiError } from './api.js';
import { prefer, preferences } from './preferences.js';
import { number, t } from './words.js';

/**
 * @typedef {object} Served
 * @property {string} id
 * @property {{value: 'loaded' | 'loading' | 'unloaded', progress?: number, error?: string}} [status] where it is
 * @property {string[]} [model_ability] what it can do, as far as is known
 * @property {number} [max_model_len] of one that is loaded
 * @property {{n_vocab?: number, n_embd?: number, n_labels?: number, n_ctx_train?: number, chat_format?: string, sampling?: Record<string, number>}} [meta] of one that is loaded
 */

/** How often a server is asked that was not reached or is loading, in ms. */
const AGAIN = 2000;

class ServedModels extends EventTarget {
  /** @type {'asking' | 'ready' | 'loading' | 'lost' | 'key' | 'failed'} */
  state = 'asking';
  /** @type {Served[]} */
  models = [];
  fault = '';
  timer = 0;

  /** Those that converse, as far as one that is not loaded tells. */
  get writers() {
    return this.models.filter((one) => !one.meta || one.meta.n_vocab);
  }

  /** Those that make vectors. */
  get encoders() {
    return this.models.filter((one) => one.meta && !one.meta.n_vocab && !one.meta.n_labels);
  }

  /** The name of the model that is asked. */
  get model() {
    const wanted = preferences().model;
    return this.writers.find((one) => one.id === wanted)?.id ?? this.writers[0]?.id ?? '';
  }

  /** Whether the model that is asked sees pictures. */
  get sees() {
    return this.one()?.model_ability?.includes('vision') ?? false;
  }

  /** What there is to say of a model that is not loaded. @param {string} id @returns {string} empty of one that is */
  stateOf(id) {
    const { value = 'loaded', progress, error } = this.one(id)?.status ?? {};
    if (error) return t('model.failed', { error });
    if (value === 'loading') return t('model.loading', { percent: number(100 * (progress ?? 0)) });
    return value === 'unloaded' ? t('model.unloaded') : '';
  }

  /** What is known of a model. @param {string} [id] */
  one(id = this.model) {
    return this.writers.find((one) => one.id === id);
  }

  /** @param {string} id */
  choose(id) {
    prefer({ model: id });
    this.dispatchEvent(new Event('change'));
  }

  /** Asks what is served; asks again by itself while there is no answer. */
  async refresh() {
    clearTimeout(this.timer);
    try {
      const list = await (await ask('v1/models')).json();
      this.models = list.data;
      this.become('ready');
    } catch (error) {
      this.fault = error.message;
      this.become(STATES[error instanceof ApiError ? error.status : 0] ?? 'failed');
      if (this.state !== 'key') this.timer = window.setTimeout(() => this.refresh(), AGAIN);
    }
  }

  /** @param {ServedModels['state']} state */
  become(state) {
    this.state = state;
    this.dispatchEvent(new Event('change'));
  }
}

/** @type {Record<number, ServedModels['state']>} */
const STATES = { 0: 'lost', 401: 'key', 503: 'loading' };

export const served = new ServedModels();
