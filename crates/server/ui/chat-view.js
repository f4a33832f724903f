// The conversation on the screen: its messages, where it is scrolled to, and the field below.

import { h, iconButton } from './elements.js';
import { composer } from './composer.js';
import { MessageView } from './message-view.js';
import { served } from './served.js';
import { t } from './words.js';
import { welcome } from './welcome.js';

/** @typedef {import('./session.js').Session} Session */

/** Pixels from the end within which the end is followed. */
const NEAR = 60;
/** Messages at the end that are shown before the first frame. */
const FIRST = 4;
/** Milliseconds of a frame after which no further message is rendered in it. */
const RENDER_TIME = 2;

export class ChatView {
  /** @param {Session} session */
  constructor(session) {
    this.session = session;
    /** @type {Map<string, MessageView>} */
    this.views = new Map();
    /** Those near the screen that are still plain text. @type {Set<MessageView>} */
    this.waiting = new Set();
    this.follows = true;
    /** The id of the last message. @type {string | undefined} */
    this.end = undefined;
    /** Where it was scrolled to. */
    this.before = 0;
    /** The frame in which messages are rendered. @type {number | null} */
    this.request = null;
    this.thread = h('div', { class: 'thread' });
    this.scroll = h('div', { class: 'scroll', scroll: () => this.scrolled() }, this.thread);
    this.toEnd = iconButton('down', t('chat.end'), () => this.followEnd(), { class: 'to-end round', hidden: true });
    this.composer = composer(session);
    this.node = h('section', { class: 'chat', 'aria-label': t('chat') }, this.scroll, h('div', { class: 'below' }, this.toEnd, this.composer.node));
    this.near = new IntersectionObserver((entries) => this.approach(entries), { root: this.scroll, rootMargin: '1200px 0px' });
    this.size = new ResizeObserver(() => this.follows && this.jump());
    this.size.observe(this.thread);
    this.size.observe(this.scroll);
    this.change = () => this.show();
    session.addEventListener('change', this.change);
    served.addEventListener('change', this.change);
    this.show();
  }

  /** The view is taken away. */
  close() {
    this.near.disconnect();
    this.size.disconnect();
    this.session.removeEventListener('change', this.change);
    served.removeEventListener('change', this.change);
    this.composer.close();
  }

  show() {
    const path = this.session.path;
    this.node.classList.toggle('empty', path.length === 0);
    if (path.length === 0) this.thread.replaceChildren(welcome((text) => this.composer.put(text)));
    else this.showPath(path);
    this.composer.refresh();
  }

  /** @param {import('./conversation.js').Message[]} path */
  showPath(path) {
    const shown = path.filter((one) => one.role !== 'tool');
    const nodes = shown.map((message, at) => {
      const view = this.view(message);
      if (at >= shown.length - FIRST) view.render();
      const next = path[path.indexOf(message) + 1];
      view.refresh({ isLast: message.id === this.session.leaf, results: next?.role === 'tool' ? next.results : undefined });
      return view.node;
    });
    // What stands where it belongs is not touched.
    nodes.forEach((node, at) => {
      if (this.thread.children[at] !== node) this.thread.insertBefore(node, this.thread.children[at] ?? null);
    });
    while (this.thread.children.length > nodes.length) this.thread.lastChild.remove();
    const asked = shown.at(-1)?.id;
    if (asked !== this.end) this.followEnd();
    this.end = asked;
  }

  /** @param {import('./conversation.js').Message} message */
  view(message) {
    let view = this.views.get(message.id);
    if (!view) {
      view = new MessageView(message, this.session);
      this.views.set(message.id, view);
      view.node.dataset.id = message.id;
      this.near.observe(view.node);
    }
    return view;
  }

  /** Messages that come near the screen are rendered, a few each frame. @param {IntersectionObserverEntry[]} entries */
  approach(entries) {
    for (const { target, isIntersecting } of entries) {
      const view = this.views.get(/** @type {HTMLElement} */ (target).dataset.id ?? '');
      if (!view || view.isRendered) continue;
      if (isIntersecting) this.waiting.add(view);
      else this.waiting.delete(view);
    }
    this.request ??= requestAnimationFrame(() => this.renderSome());
  }

  renderSome() {
    this.request = null;
    const until = performance.now() + RENDER_TIME;
    // Those nearest to the end first: that is where people begin to read.
    for (const view of [...this.waiting].reverse()) {
      this.waiting.delete(view);
      view.render();
      if (performance.now() > until) break;
    }
    if (this.waiting.size > 0) this.request = requestAnimationFrame(() => this.renderSome());
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroll;
    const isNear = scrollHeight - scrollTop - clientHeight < NEAR;
    // Scrolling up is a wish; becoming longer is none.
    if (isNear) this.follows = true;
    else if (scrollTop < this.before - 2) this.follows = false;
    this.before = scrollTop;
    this.toEnd.hidden = isNear;
  }

  followEnd() {
    this.follows = true;
    this.jump();
  }

  jump() {
    this.scroll.scrollTop = this.scroll.scrollHeight;
    this.before = this.scroll.scrollTop;
  }
}
