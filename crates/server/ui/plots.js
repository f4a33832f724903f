// Two drawings of what a model takes on a machine.

import { h, shape } from './elements.js';
import { number, t } from './words.js';

const [WIDTH, HEIGHT] = [420, 250];
const FIELD = { left: 46, right: 14, top: 14, bottom: 40 };

/** What a model takes with one quantization. @typedef {{quantization: string, bytes: number, total: number, fits: boolean, longest_context: number, predicted: {tokens_per_second: number, first_token_seconds?: number}}} Quantization */

/**
 * What a model takes on the server's machine, in bytes and tokens, as `glimmer fit --json` has it.
 * @typedef {object} Fit
 * @property {Quantization[]} quantizations
 * @property {{quantization: string | null, reason: string}} recommended
 * @property {number} context
 * @property {number} trained_context
 * @property {number} scratch
 * @property {number} cache
 * @property {number} room
 */

/** The same step for a few marks, as people count. @param {number} most */
function step(most) {
  const raw = most / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= raw) ?? raw;
}

/**
 * A field with marks at both axes.
 * @param {string} title
 * @param {{label: string, most: number}} across
 * @param {{label: string, most: number}} up
 */
function field(title, across, up) {
  const x = (/** @type {number} */ value) => FIELD.left + (value / across.most) * (WIDTH - FIELD.left - FIELD.right);
  const y = (/** @type {number} */ value) => HEIGHT - FIELD.bottom - (value / up.most) * (HEIGHT - FIELD.top - FIELD.bottom);
  const svg = shape('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: 'plot', role: 'img', 'aria-label': title });
  const text = (/** @type {string} */ content, /** @type {Record<string, string | number>} */ at) => svg.append(shape('text', at, content));
  for (let value = 0; value <= across.most; value += step(across.most)) text(number(value, 1), { x: x(value), y: HEIGHT - 22, 'text-anchor': 'middle' });
  for (let value = 0; value <= up.most; value += step(up.most)) {
    svg.append(shape('path', { d: `M${FIELD.left} ${y(value)}H${WIDTH - FIELD.right}`, class: 'grid' }));
    text(number(value, 2), { x: FIELD.left - 6, y: y(value) + 4, 'text-anchor': 'end' });
  }
  text(across.label, { x: WIDTH - FIELD.right, y: HEIGHT - 5, 'text-anchor': 'end', class: 'axis' });
  text(up.label, { x: 4, y: 11, class: 'axis' });
  return { svg, x, y, text, node: h('figure', {}, h('figcaption', {}, title), svg) };
}

/** Speed against memory, a point a quantization. @param {Fit} fit */
export function plotSpeed(fit) {
  const points = fit.quantizations.map((one) => ({ name: one.quantization, gb: one.total / 1e9, speed: one.predicted.tokens_per_second, fits: one.fits }));
  const { svg, x, y, text, node } = field(t('plot.speed'), { label: 'GB', most: 1.1 * Math.max(...points.map((one) => one.gb)) }, { label: t('catalogue.speed'), most: 1.15 * Math.max(...points.map((one) => one.speed)) });
  const named = new Set(['F16', 'Q8_0', 'Q6_K', 'Q4_K_M', fit.recommended.quantization]);
  for (const one of points) {
    svg.append(shape('circle', { cx: x(one.gb), cy: y(one.speed), r: one.name === fit.recommended.quantization ? 6 : 4, class: one.fits ? 'fits' : 'large' }));
    if (named.has(one.name)) text(one.name, { x: x(one.gb) + 8, y: y(one.speed) - 6 });
  }
  return node;
}

/** Memory against context, a line for each of a few quantizations; the memory that there is, dashed. @param {Fit} fit */
export function plotMemory(fit) {
  const most = Math.min(fit.trained_context, Math.max(32_768, 4 * fit.context));
  const chosen = fit.quantizations.filter((one) => ['F16', 'Q8_0', 'Q4_K_M'].includes(one.quantization));
  const bytes = (/** @type {Quantization} */ one, /** @type {number} */ context) => (one.bytes + fit.scratch + (fit.cache * context) / fit.context) / 1e9;
  const top = 1.12 * Math.max(...chosen.map((one) => bytes(one, most)));
  const { svg, x, y, text, node } = field(t('plot.memory'), { label: t('catalogue.context'), most: most / 1024 }, { label: 'GB', most: top });
  // Below the names of the lines.
  if (fit.room / 1e9 < top) svg.append(shape('path', { d: `M${x(0)} ${y(fit.room / 1e9)}H${WIDTH - FIELD.right}`, class: 'room' }));
  for (const one of chosen) {
    svg.append(shape('path', { d: `M${x(0)} ${y(bytes(one, 0))}L${x(most / 1024)} ${y(bytes(one, most))}`, class: 'line' }));
    text(one.quantization, { x: x(0) + 8, y: y(bytes(one, 0)) - 6 });
  }
  return node;
}
