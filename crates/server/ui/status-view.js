// What the server is doing, second by second: read from `/metrics`, in its own names or in vLLM's.

import { ask } from './api.js';
import { duration, h, shape } from './elements.js';
import { number, t } from './words.js';

/** Points of a line, one a second. */
const POINTS = 120;

/** @typedef {{name: string, labels: Record<string, string>, value: number}} Sample */

/** Reads the Prometheus text format. @param {string} text @returns {Sample[]} */
export function samples(text) {
  const found = [];
  for (const line of text.split('\n')) {
    const [, name, labels, value] = line.match(/^([\w:]+)(?:\{(.*)\})? (\S+)/) ?? [];
    if (!name) continue;
    const pairs = [...(labels ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text]) => [key, text]);
    found.push({ name, labels: Object.fromEntries(pairs), value: Number(value) });
  }
  return found;
}

/** The figures that are shown, by their two names. */
const FIGURES = {
  running: ['glimmer_requests_running', 'vllm:num_requests_running'],
  waiting: ['glimmer_requests_waiting', 'vllm:num_requests_waiting'],
  cache: ['glimmer_cache_used_ratio', 'vllm:kv_cache_usage_perc'],
  prompt: ['glimmer_prompt_tokens_total', 'vllm:prompt_tokens_total'],
  cached: ['glimmer_cached_tokens_total', 'vllm:prefix_cache_hits_total'],
  answer: ['glimmer_answer_tokens_total', 'vllm:generation_tokens_total'],
};
const HISTOGRAMS = {
  first: ['glimmer_first_token_seconds', 'vllm:time_to_first_token_seconds'],
  between: ['glimmer_between_tokens_seconds', 'vllm:inter_token_latency_seconds', 'vllm:time_per_output_token_seconds'],
  whole: ['glimmer_answer_seconds', 'vllm:e2e_request_latency_seconds'],
};

/** @param {Sample} sample */
const modelOf = ({ labels }) => labels.model ?? labels.model_name;

/** @param {Sample[]} all @param {string} model @param {string[]} names */
function figure(all, model, names) {
  return all.find((one) => names.includes(one.name) && modelOf(one) === model)?.value ?? 0;
}

/** The time within which this share of what a histogram counts lies. @param {Sample[]} all @param {string} model @param {string[]} names @param {number} share */
function quantile(all, model, names, share) {
  const buckets = all.filter((one) => names.some((name) => one.name === `${name}_bucket`) && modelOf(one) === model);
  const total = buckets.at(-1)?.value ?? 0;
  if (total === 0) return '–';
  const bucket = buckets.find((one) => one.value >= share * total);
  const le = bucket?.labels.le ?? '+Inf';
  return le === '+Inf' ? '∞' : `≤ ${duration(Number(le) * 1000)}`;
}

export function view() {
  /** @type {Map<string, ModelStatus>} */
  const models = new Map();
  const place = h('div', {});
  const fault = h('p', { class: 'fault', role: 'status', hidden: true });
  const node = h('section', { class: 'sheet', tabindex: 0, 'aria-label': t('status') }, fault, place);
  let timer = 0;
  let isOpen = true;
  const look = async () => {
    try {
      const all = samples(await (await ask('metrics')).text());
      fault.hidden = true;
      for (const model of new Set(all.map(modelOf).filter(Boolean))) {
        const status = models.get(model) ?? new ModelStatus(model, place);
        models.set(model, status);
        status.take(all);
      }
    } catch (error) {
      fault.textContent = t('status.fault', { error: error.message });
      fault.hidden = false;
    }
    if (isOpen) timer = window.setTimeout(look, 1000);
  };
  look();
  return { node, close() { isOpen = false; clearTimeout(timer); } };
}

/** One model's figures. */
class ModelStatus {
  /** @param {string} model @param {HTMLElement} place */
  constructor(model, place) {
    this.model = model;
    /** Figures of the look before this one. @type {Record<string, number> | null} */
    this.before = null;
    /** @type {Record<string, number[]>} */
    this.lines = { answer: [], prompt: [], running: [], cache: [] };
    this.tiles = h('div', { class: 'tiles' });
    this.table = h('table', {});
    this.total = h('p', { class: 'muted' });
    place.append(h('h2', {}, model), this.tiles, h('div', { class: 'wide' }, this.table), this.total);
  }

  /** @param {Sample[]} all */
  take(all) {
    const now = Object.fromEntries(Object.entries(FIGURES).map(([key, names]) => [key, figure(all, this.model, names)]));
    const time = performance.now();
    const seconds = this.before ? (time - this.before.time) / 1000 : 1;
    const rate = (/** @type {keyof typeof FIGURES} */ key) => (this.before ? Math.max(0, (now[key] - this.before[key]) / seconds) : 0);
    const points = { answer: rate('answer'), prompt: rate('prompt'), running: now.running, cache: 100 * now.cache };
    for (const [key, value] of Object.entries(points)) this.lines[key] = [...this.lines[key], value].slice(-POINTS);
    this.before = { ...now, time };
    this.tiles.replaceChildren(
      tile(t('status.answer'), number(points.answer), this.lines.answer),
      tile(t('status.prompt'), number(points.prompt), this.lines.prompt),
      tile(t('status.requests', { waiting: number(now.waiting) }), number(now.running), this.lines.running),
      tile(t('status.cache'), `${number(points.cache, 1)} %`, this.lines.cache, 100));
    const row = (/** @type {string} */ name, /** @type {string[]} */ cells) => h('tr', {}, h('th', { scope: 'row' }, name), cells.map((cell) => h('td', {}, cell)));
    this.table.replaceChildren(
      h('thead', {}, h('tr', {}, ['', '50\u00a0%', '95\u00a0%', '99\u00a0%'].map((text) => h(text ? 'th' : 'td', text ? { scope: 'col' } : {}, text)))),
      h('tbody', {}, Object.entries(HISTOGRAMS).map(([key, names]) => row(t(/** @type {any} */ (`status.${key}`)), [0.5, 0.95, 0.99].map((share) => quantile(all, this.model, names, share))))));
    this.total.textContent = t('status.total', { prompt: number(now.prompt), cached: number(now.cached), answer: number(now.answer) });
  }
}

/** A figure with its course. @param {string} title @param {string} value @param {number[]} line @param {number} [top] */
function tile(title, value, line, top) {
  const most = top ?? Math.max(1, ...line);
  const at = (/** @type {number} */ value, /** @type {number} */ index) => `${(index + POINTS - line.length) * (240 / (POINTS - 1))},${(46 - (44 * value) / most).toFixed(1)}`;
  const svg = shape('svg', { viewBox: '0 0 240 48', preserveAspectRatio: 'none', class: 'course', 'aria-hidden': 'true' },
    shape('polyline', { points: line.map(at).join(' '), 'vector-effect': 'non-scaling-stroke' }));
  return h('div', { class: 'tile' }, h('p', { class: 'muted' }, title), h('p', { class: 'big' }, value), svg);
}
