// The page: which view is shown, and what is around it.

import { address, follow, parts, visit } from './address.js';
import { ChatView } from './chat-view.js';
import { draft } from './composer.js';
import { openDialog, openMenu, toast } from './dialogs.js';
import { h, icon, iconButton } from './elements.js';
import { keyView } from './key-view.js';
import { prefer, preferences } from './preferences.js';
import { served } from './served.js';
import { Session } from './session.js';
import { openSettings } from './settings-view.js';
import { Sidebar } from './sidebar.js';
import { languageTag, number, t } from './words.js';

const root = /** @type {HTMLElement} */ (document.getElementById('page'));

/** @typedef {{node: HTMLElement, close: () => void, composer?: any, followEnd?: () => void}} View */

/** Views beside the conversation, loaded when they are wanted. @type {Record<string, () => Promise<{view: (id?: string) => View}>>} */
const OTHERS = {
  models: () => import('./models-view.js'),
  status: () => import('./status-view.js'),
  vectors: () => import('./vectors-view.js'),
};

class Page {
  constructor() {
    document.documentElement.lang = languageTag();
    this.sidebar = new Sidebar();
    this.title = h('h1', { class: 'title' });
    this.model = h('button', { type: 'button', class: 'model', 'aria-haspopup': 'menu', click: () => this.chooseModel() });
    this.banner = h('div', { class: 'banner', role: 'status', hidden: true });
    this.look = iconButton('moon', t('page.theme'), () => this.toggleTheme());
    this.settings = iconButton('settings', t('settings'), () => this.openSettings());
    this.menu = iconButton('list', t('side.open'), () => this.sidebar.open(), { class: 'quiet round narrow-only', 'aria-controls': 'side' });
    this.place = h('div', { class: 'place' });
    /** The view that is shown, its address, and its conversation. @type {View | null} */
    this.view = null;
    this.shown = '';
    /** @type {Session | null} */
    this.session = null;
    /** Ends listening to that conversation, and to the browser. */
    this.leave = new AbortController();
    this.end = new AbortController();
    const shade = h('div', { class: 'shade', click: () => this.sidebar.close() });
    this.frame = h('div', { class: 'frame' }, h('a', { class: 'skip', href: '#', click: (event) => { event.preventDefault(); this.view?.composer?.focus(); } }, t('skip')),
      this.sidebar.node, shade, h('main', { class: 'main' }, h('header', { class: 'bar' }, this.menu, this.model, this.title, this.look, this.settings), this.banner, this.place));
    this.theme();
    this.listen(this.end);
    this.showState();
    served.refresh();
  }

  /** @param {AbortController} until */
  listen(until) {
    addEventListener('hashchange', () => this.go(), until);
    addEventListener('keydown', (event) => this.shortcut(event), until);
    addEventListener('online', () => served.refresh(), until);
    root.addEventListener('click', follow, until);
    served.addEventListener('change', () => this.showState(), until);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.theme(), until);
  }

  /** Everything anew, in another language. */
  rebuild() {
    this.end.abort();
    this.leave.abort();
    this.view?.close();
    new Page();
  }

  showState() {
    const { state, fault } = served;
    if (state === 'key') {
      if (!root.querySelector('.key-page')) root.replaceChildren(keyView());
      return;
    }
    if (!this.frame.isConnected) {
      root.replaceChildren(this.frame);
      this.go();
    }
    /** @type {Partial<Record<typeof state, string>>} */
    const texts = { lost: t('server.lost'), failed: t('server.failed', { error: fault }), loading: t('server.loading') };
    this.banner.hidden = !texts[state];
    this.banner.textContent = texts[state] ?? '';
    this.model.replaceChildren(h('span', {}, served.model || t('model.none')), icon('down'));
    this.model.setAttribute('aria-label', t('model.choose', { model: served.model || t('model.none') }));
  }

  /** Shows what the address names. */
  async go() {
    const wish = {};
    this.wish = wish;
    // What is typed from now on is not for the view that is left.
    this.place.inert = true;
    const [name, id] = parts();
    try {
      const session = Object.hasOwn(OTHERS, name) ? null : name === 'c' && await Session.open(id).catch(() => null) || Session.begin();
      const view = session ? new ChatView(session) : (await OTHERS[name]()).view(id);
      // Something else was wished for in the meantime.
      if (this.wish !== wish) view.close();
      else this.show(view, session);
    } catch {
      // The files of a view did not come.
      if (this.wish === wish) toast(t('server.lost'));
    }
    if (this.wish === wish) this.place.inert = false;
  }

  /** @param {View} view @param {Session | null} session of a conversation */
  show(view, session) {
    this.view?.close();
    this.leave.abort();
    this.view = view;
    this.session = session;
    this.shown = address();
    this.place.replaceChildren(view.node);
    this.settings.hidden = !session;
    this.showTitle();
    this.sidebar.refresh();
    if (!session) return;
    this.leave = new AbortController();
    session.addEventListener('change', () => this.named(session), this.leave);
    session.addEventListener('gone', () => { if (address() === this.shown) visit('#/'); }, this.leave);
    this.place.inert = false;
    if (!matchMedia('(pointer: coarse)').matches) view.composer?.focus();
    view.followEnd?.();
  }

  /** A conversation that is kept has an address of its own. @param {Session} session */
  named(session) {
    const own = `#/c/${session.id}`;
    // Unless another view was wished for, of which the browser has not told yet.
    if (session.isKept && address() === this.shown && own !== this.shown) {
      history.replaceState(null, '', own);
      this.shown = own;
    }
    this.showTitle();
    this.sidebar.later();
  }

  showTitle() {
    const title = this.session ? this.session.conversation.title : t(/** @type {any} */ (parts()[0]));
    this.title.textContent = title || t('side.new');
    document.title = title ? `${title} · Glimmer` : 'Glimmer';
  }

  async chooseModel() {
    // Models come and go.
    await served.refresh();
    const items = served.writers.map((one) => ({ label: one.id, detail: served.stateOf(one.id) || t('model.detail', { context: number(one.max_model_len ?? 0) }), checked: one.id === served.model, click: () => served.choose(one.id) }));
    if (items.length > 0) openMenu(this.model, items);
  }

  openSettings() {
    if (this.session) openSettings(this.session, { theme: () => this.theme(), language: () => this.rebuild() });
  }

  theme() {
    document.documentElement.dataset.theme = this.isDark() ? 'dark' : 'light';
    this.look.replaceChildren(icon(this.isDark() ? 'sun' : 'moon'));
  }

  isDark() {
    const { theme } = preferences();
    return theme ? theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  }

  toggleTheme() {
    prefer({ theme: this.isDark() ? 'light' : 'dark' });
    this.theme();
  }

  /** @param {KeyboardEvent} event */
  shortcut(event) {
    const isCommand = event.ctrlKey || event.metaKey;
    const isTyping = /** @type {Element} */ (event.target).matches('input, textarea, select');
    if (isCommand && event.shiftKey && event.key.toLowerCase() === 'o') visit('#/');
    else if (isCommand && event.key.toLowerCase() === 'k') this.search();
    else if (isCommand && event.key === ',') this.openSettings();
    else if (event.key === '/' && !isTyping) this.view?.composer?.focus();
    else if (event.key === '?' && !isTyping) showShortcuts();
    else if (event.key === 'Escape' && this.sidebar.node.classList.contains('open')) this.sidebar.close();
    else return;
    event.preventDefault();
  }

  search() {
    this.sidebar.open();
    this.sidebar.search.focus();
  }
}

function showShortcuts() {
  const keys = { '/': t('keys.write'), 'Ctrl+Shift+O': t('side.new'), 'Ctrl+K': t('side.search'), 'Ctrl+,': t('settings'), Enter: t('send'), 'Shift+Enter': t('keys.line'), Esc: t('stop') };
  openDialog(t('keys'), { class: 'ask' }, h('dl', { class: 'keys' }, Object.entries(keys).map(([key, text]) => [h('dt', {}, h('kbd', {}, key)), h('dd', {}, text)])));
}

// `/?q=...` brings a question. Anybody may link here, so that it is asked only when the person sends it.
const question = new URLSearchParams(location.search).get('q');
if (question) {
  draft(question);
  history.replaceState(null, '', `${location.pathname}#/`);
}

new Page();

// The page itself without a server: only where the browser allows it, which is on this machine and over https.
if ('serviceWorker' in navigator && isSecureContext) {
  const script = new URL('service-worker.js', import.meta.url).href;
  const trusted = /** @type {any} */ (window).trustedTypes?.createPolicy('glimmer', { createScriptURL: (/** @type {string} */ url) => (url === script ? url : '') }).createScriptURL(script) ?? script;
  navigator.serviceWorker.register(trusted, { scope: new URL('../', import.meta.url).pathname, type: 'module' }).catch(() => {});
}
