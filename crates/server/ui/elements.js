// Making elements. Text only ever becomes text: no markup is read here.

const PROPERTIES = new Set(['value', 'checked', 'disabled', 'hidden', 'open', 'textContent', 'indeterminate', 'selected', 'tabIndex']);

/**
 * Attributes and properties by name, and listeners by the event that they listen to. What is null, undefined or false is not set.
 * @typedef {Record<string, string | number | boolean | null | undefined | ((event: any) => void)>} Props
 */

/**
 * Makes an element.
 * @param {string} tag
 * @param {Props} [props]
 * @param {...any} children elements, texts, lists of them; null, undefined and false are left out
 * @returns {any} the element, of the tag's kind
 */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  set(node, props);
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/**
 * Sets attributes and properties and adds listeners.
 * @param {any} node
 * @param {Props} props
 */
export function set(node, props) {
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === 'function') node.addEventListener(name, value);
    else if (PROPERTIES.has(name)) node[name] = value ?? '';
    else if (value === undefined || value === null || value === false) node.removeAttribute(name);
    else node.setAttribute(name, value === true ? '' : String(value));
  }
}

const SVG = 'http://www.w3.org/2000/svg';

/** Strokes of icons on a field of 24 by 24. */
const ICONS = {
  attach: 'M20 11.5l-8.2 8.2a5 5 0 0 1-7.1-7.1l8.7-8.7a3.4 3.4 0 0 1 4.8 4.8l-8.7 8.7a1.7 1.7 0 0 1-2.4-2.4l7.7-7.7',
  back: 'M15 5l-7 7 7 7',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  close: 'M6 6l12 12M18 6L6 18',
  copy: 'M9 9h10v11H9zM5 15V4h10',
  dots: 'M5 12h.01M12 12h.01M19 12h.01',
  down: 'M6 9l6 6 6-6',
  download: 'M12 4v11m-5-5l5 5 5-5M5 20h14',
  edit: 'M4 20l1-4L16.5 4.5l3 3L8 19z',
  forward: 'M9 5l7 7-7 7',
  gauge: 'M4 18a8 8 0 1 1 16 0M12 18l4-6',
  key: 'M14.5 9.5a4 4 0 1 0-3 3.870L13 15h2v2h2v2h3v-3l-5.8-5.8zM8.5 8.5h.01',
  list: 'M4 6h16M4 12h16M4 18h16',
  moon: 'M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z',
  new: 'M12 20H5V5h8M18 3l3 3-8 8-4 1 1-4z',
  picture: 'M4 5h16v14H4zM8.5 9.5h.01M4 17l5-5 4 4 3-3 4 4',
  pin: 'M9 4h6l-1 6 3 3H7l3-3zM12 13v7',
  play: 'M8 5l11 7-11 7z',
  plus: 'M12 5v14M5 12h14',
  retry: 'M4 12a8 8 0 1 0 2.5-5.8M4 4v4h4',
  search: 'M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.5 15.5L20 20',
  send: 'M12 19V5M6 11l6-6 6 6',
  settings: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5',
  stop: 'M7 7h10v10H7z',
  sun: 'M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4',
  thought: 'M9 18h6M10 21h4M8.5 15a6 6 0 1 1 7 0c-.7.6-1 1.2-1 2h-5c0-.8-.3-1.4-1-2z',
  tokens: 'M4 7h4v10H4zM10 7h6v10h-6zM18 7h2v10h-2z',
  tool: 'M14.5 6a4 4 0 0 1 5 5L11 19.5a2.1 2.1 0 0 1-3-3L16.5 8M14.5 6l2.5 2.5',
  trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5',
  upload: 'M12 15V4M7 9l5-5 5 5M5 20h14',
  vectors: 'M5 19L19 5M19 5h-6M19 5v6M5 19h14',
};

/**
 * An icon; it says nothing to a screen reader.
 * @param {keyof typeof ICONS} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', `icon icon-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * A shape of a drawing.
 * @param {string} tag
 * @param {Record<string, string | number>} props
 * @param {...any} children
 */
export function shape(tag, props, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}

/**
 * A button that shows an icon alone; the label is read aloud and shown as its tip.
 * @param {keyof typeof ICONS} name
 * @param {string} label
 * @param {(event: MouseEvent) => void} click
 * @param {Props} [props]
 * @returns {HTMLButtonElement}
 */
export function iconButton(name, label, click, props = {}) {
  return h('button', { type: 'button', class: 'quiet round', 'aria-label': label, title: label, click, ...props }, icon(name));
}

/** Says something to screen readers. @param {string} text */
export function announce(text) {
  const live = /** @type {HTMLElement} */ (document.getElementById('live'));
  // The same text twice would not be read the second time.
  live.textContent = live.textContent === text ? `${text}\u00a0` : text;
}

/** Fractions of a second, seconds, minutes: as short as it can be read. @param {number} ms */
export function duration(ms) {
  if (ms < 100) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return seconds < 60 ? `${Math.round(seconds)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}
