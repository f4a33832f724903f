// What a model writes is hostile until it went through here: Markdown without HTML, then DOMPurify, then elements. Nothing is
// fetched: pictures are shown as links to them.

import { DOMPurify, markdownit } from './libraries.js';
import { mathsRules, showMaths } from './maths.js';
import { frameCode, highlight } from './code.js';
import { h } from './elements.js';
import { t } from './words.js';

const md = markdownit({ html: false, linkify: true });
md.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
md.validateLink = (/** @type {string} */ url) => /^(https?:\/\/|mailto:)/i.test(url.trim());
md.use(mathsRules);

const CLEAN = {
  ALLOWED_TAGS: ['a', 'blockquote', 'br', 'code', 'del', 'em', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'hr', 'li', 'ol', 'p', 'pre', 's',
    'span', 'strong', 'table', 'tbody', 'td', 'th', 'thead', 'tr', 'ul'],
  ALLOWED_ATTR: ['href', 'class', 'dir', 'rel', 'start', 'target', 'title'],
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  // Of the others DOMPurify wants to know that they hold an address.
  ADD_URI_SAFE_ATTR: ['dir', 'rel', 'start', 'target'],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/** A rule of markdown-it's renderer. @typedef {(tokens: any[], at: number, options: any, env: any, renderer: any) => string} Rule */

// Each block has the direction of its own text.
for (const rule of ['paragraph_open', 'heading_open', 'list_item_open', 'blockquote_open', 'th_open', 'td_open']) {
  md.renderer.rules[rule] = /** @type {Rule} */ ((tokens, at, options, _, renderer) => {
    const token = tokens[at];
    token.attrSet('dir', 'auto');
    // The alignment of a cell comes as a style; the page's policy knows classes alone.
    const style = token.attrGet('style');
    if (style) {
      token.attrs = token.attrs.filter((/** @type {string[]} */ [name]) => name !== 'style');
      token.attrJoin('class', style.replace('text-align:', 'align-'));
    }
    return renderer.renderToken(tokens, at, options);
  });
}

md.renderer.rules.link_open = /** @type {Rule} */ ((tokens, at, options, _, renderer) => {
  const token = tokens[at];
  token.attrSet('target', '_blank');
  token.attrSet('rel', 'noopener noreferrer nofollow');
  // Where it leads is told before it is followed.
  token.attrSet('title', token.attrGet('href'));
  return renderer.renderToken(tokens, at, options);
});

md.renderer.rules.image = /** @type {Rule} */ ((tokens, at) => {
  const { escapeHtml } = md.utils;
  const source = escapeHtml(tokens[at].attrGet('src') ?? '');
  const text = escapeHtml(tokens[at].content || tokens[at].attrGet('src') || '');
  return `<a class="picture" href="${source}" title="${source}" target="_blank" rel="noopener noreferrer nofollow">${text}</a>`;
});

md.renderer.rules.fence = /** @type {Rule} */ ((tokens, at) => {
  const language = tokens[at].info.trim().split(/\s/, 1)[0].replace(/[^\w+#.-]/g, '').slice(0, 30);
  return `<pre><code class="language-${language || 'text'}">${md.utils.escapeHtml(tokens[at].content)}</code></pre>\n`;
});
md.renderer.rules.code_block = md.renderer.rules.fence;

/**
 * Elements of a text.
 * @param {any[]} tokens of markdown-it
 * @param {any} env
 * @param {boolean} isLive whether more is to come: what costs time waits
 * @returns {DocumentFragment}
 */
function render(tokens, env, isLive) {
  const fragment = DOMPurify.sanitize(md.renderer.render(tokens, md.options, env), CLEAN);
  for (const pre of fragment.querySelectorAll('pre')) frameCode(pre);
  for (const table of fragment.querySelectorAll('table')) {
    const frame = h('div', { class: 'wide', tabindex: 0, role: 'region', 'aria-label': t('message.table') });
    table.replaceWith(frame);
    frame.append(table);
  }
  showMaths(fragment);
  if (!isLive) for (const code of fragment.querySelectorAll('pre > code')) highlight(code);
  return fragment;
}

/** Characters of a line after which it is taken for what it looks like: a list's next item may begin with a lone `2`. */
const CERTAIN = 12;

/**
 * A text that grows. Blocks that are complete are made once; only the last one is made again when more has come, and an open
 * block of code only grows.
 */
export class MarkdownView {
  /** @param {HTMLElement} node an empty element that is this view's alone */
  constructor(node) {
    this.node = node;
    /** @type {HTMLElement} */
    this.live = h('div', { class: 'live' });
    /** What markdown-it keeps of a text: where its links lead. @type {{references?: object}} */
    this.env = {};
    /** Where the text begins that is not complete. */
    this.at = 0;
    /** An open block of code: its text, and how much of the source it shows. @type {{text: Text, shown: number} | null} */
    this.fence = null;
    this.clear();
  }

  clear() {
    this.live.replaceChildren();
    this.node.replaceChildren(this.live);
    this.env = {};
    this.at = 0;
    this.fence = null;
  }

  /** Shows a text that will not grow. @param {string} source */
  show(source) {
    this.clear();
    this.live.append(render(md.parse(source, this.env), this.env, false));
  }

  /** Shows a text that begins with what was shown before. @param {string} source */
  grow(source) {
    if (this.fence && this.growFence(this.fence, source)) return;
    this.fence = null;
    const tail = source.slice(this.at);
    const tokens = md.parse(tail, this.env);
    const first = this.firstOfLast(tokens, tail);
    if (first > 0) {
      const done = tokens.splice(0, first);
      this.live.before(render(done, this.env, false));
      this.at += offsetOfLine(tail, tokens[0].map[0]);
    }
    this.live.replaceChildren(render(tokens, this.env, true));
    this.openFence(tokens, source);
  }

  /** The text is whole. @param {string} source */
  end(source) {
    // A link's target may stand after the link.
    if (Object.keys(this.env.references ?? {}).length > 0) return this.show(source);
    this.fence = null;
    const tail = source.slice(this.at);
    this.live.replaceChildren(render(md.parse(tail, this.env), this.env, false));
  }

  /** Where the last block begins among the tokens, if all before it are certainly complete. @param {any[]} tokens @param {string} tail */
  firstOfLast(tokens, tail) {
    let first = tokens.length - 1;
    while (first > 0 && !(tokens[first].level === 0 && tokens[first].nesting >= 0)) first -= 1;
    if (first <= 0) return 0;
    const text = tail.slice(offsetOfLine(tail, tokens[first].map[0]));
    return text.trimEnd().includes('\n') || text.length > CERTAIN ? first : 0;
  }

  /** Notes that the text ends within a block of code. @param {any[]} tokens @param {string} source */
  openFence(tokens, source) {
    const last = tokens.at(-1);
    if (tokens.length !== 1 || last.type !== 'fence' || last.markup.length !== 3) return;
    const code = this.live.querySelector('pre > code');
    const start = source.indexOf('\n', this.at) + 1;
    if (!code?.firstChild || closes(source.slice(start))) return;
    const text = /** @type {Text} */ (code.firstChild);
    text.data = source.slice(start);
    this.fence = { text, shown: source.length };
  }

  /** Whether all that is new belongs to the open block of code. @param {{text: Text, shown: number}} fence @param {string} source */
  growFence(fence, source) {
    // The sign of the end may have begun before.
    if (closes(source.slice(Math.max(this.at, fence.shown - 8)))) return false;
    fence.text.appendData(source.slice(fence.shown));
    fence.shown = source.length;
    return true;
  }
}

/** Whether a line may be the end of a block of code. @param {string} text */
function closes(text) {
  return /(^|\n) {0,3}(`{3}|~{3})/.test(text);
}

/** @param {string} text @param {number} line */
function offsetOfLine(text, line) {
  let at = 0;
  for (let n = 0; n < line; n += 1) at = text.indexOf('\n', at) + 1;
  return at;
}
