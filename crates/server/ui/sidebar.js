// The list of conversations: searched, renamed, pinned, exported and removed.

import { address, visit } from './address.js';
import { askFor, openMenu, toast } from './dialogs.js';
import { h, icon, iconButton } from './elements.js';
import { fromJson, saveFile, toJson, toMarkdown } from './exchange.js';
import { Session } from './session.js';
import * as store from './store.js';
import { languageTag, t } from './words.js';

const DAY = 24 * 3600 * 1000;

/** @typedef {import('./store.js').Conversation} Conversation */

export class Sidebar {
  constructor() {
    this.list = h('div', { class: 'conversations' });
    this.search = h('input', { type: 'search', placeholder: t('side.search'), 'aria-label': t('side.search'), input: () => this.later() });
    this.chooser = h('input', { type: 'file', accept: '.json,application/json', multiple: true, hidden: true, change: () => this.import() });
    this.node = h('nav', { class: 'side', id: 'side', 'aria-label': t('side') },
      h('div', { class: 'side-head' }, h('a', { class: 'brand', href: '#/' }, h('span', { class: 'spark', 'aria-hidden': 'true' }), 'Glimmer'),
        iconButton('close', t('side.close'), () => this.close(), { class: 'quiet round narrow-only' })),
      h('a', { class: 'new', href: '#/' }, icon('new'), t('side.new')),
      h('label', { class: 'search' }, icon('search'), this.search),
      this.list,
      h('div', { class: 'side-foot' },
        h('a', { href: '#/models' }, icon('list'), t('models')),
        h('a', { href: '#/status' }, icon('gauge'), t('status')),
        iconButton('dots', t('side.more'), (event) => this.more(/** @type {HTMLElement} */ (event.currentTarget)))), this.chooser);
    this.node.addEventListener('click', (/** @type {MouseEvent} */ event) => { if (/** @type {Element} */ (event.target).closest('a')) this.close(); });
    store.onOthersChange(() => this.later());
    this.refresh();
  }

  /** Where it covers the page, it is opened and closed. */
  open() {
    this.node.classList.add('open');
    /** @type {HTMLElement} */ (this.node.querySelector('.new')).focus();
  }

  close() {
    this.node.classList.remove('open');
  }

  /** Soon, and once. */
  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), 150);
  }

  async refresh() {
    const asked = {};
    this.asked = asked;
    const words = this.search.value.trim();
    let all = [];
    try {
      all = await store.conversations();
      if (words) {
        const found = await store.search(words);
        all = all.filter((one) => found.has(one.id));
      }
    } catch {
      this.list.replaceChildren(h('p', { class: 'muted' }, t('side.unkept')));
      return;
    }
    // It was asked again in the meantime.
    if (this.asked !== asked) return;
    const groups = all.length > 0 ? grouped(all).map(([title, some]) => h('section', {}, h('h2', {}, title), h('ul', {}, some.map((one) => this.item(one))))) : [h('p', { class: 'muted' }, words ? t('side.none') : t('side.empty'))];
    this.list.replaceChildren(...groups);
  }

  /** @param {Conversation} one */
  item(one) {
    const isHere = address() === `#/c/${one.id}`;
    return h('li', { class: isHere ? 'here' : '' }, h('a', { href: `#/c/${one.id}`, 'aria-current': isHere ? 'page' : null, dir: 'auto', title: one.title }, one.title),
      iconButton('dots', t('side.actions', { title: one.title }), (event) => this.actions(/** @type {HTMLElement} */ (event.currentTarget), one)));
  }

  /** @param {HTMLElement} button @param {Conversation} one */
  actions(button, one) {
    openMenu(button, [
      { label: t('rename'), icon: 'edit', click: () => this.rename(one) },
      { label: t(one.pinned ? 'unpin' : 'pin'), icon: 'pin', click: () => this.change(one, { pinned: !one.pinned }) },
      { label: t('export.json'), icon: 'download', click: () => this.export(one, 'json') },
      { label: t('export.markdown'), icon: 'download', click: () => this.export(one, 'md') },
      { label: t('delete'), icon: 'trash', danger: true, click: () => this.remove(one) },
    ]);
  }

  /** @param {HTMLElement} button */
  more(button) {
    openMenu(button, [
      { label: t('import'), icon: 'upload', click: () => this.chooser.click() },
      { label: t('export.all'), icon: 'download', click: () => this.exportAll() },
      { label: t('vectors'), icon: 'vectors', click: () => { visit('#/vectors'); } },
      { label: t('delete.all'), icon: 'trash', danger: true, click: () => this.removeAll() },
    ]);
  }

  /** @param {Conversation} one @param {Partial<Conversation>} change */
  async change(one, change) {
    await (await Session.open(one.id))?.change(change);
    this.refresh();
  }

  /** @param {Conversation} one */
  async rename(one) {
    const title = await askFor({ title: t('rename'), value: one.title, yes: t('save') });
    if (title) this.change(one, { title });
  }

  /** @param {Conversation} one @param {'json' | 'md'} kind */
  async export(one, kind) {
    const messages = await store.messagesOf(one.id);
    const content = kind === 'json' ? JSON.stringify(toJson(one, messages), null, 2)
      : toMarkdown(one, messages, (role) => t(/** @type {any} */ (`role.${role}`)));
    saveFile(`${one.title}.${kind}`, content, kind === 'json' ? 'application/json' : 'text/markdown');
  }

  async exportAll() {
    const all = await store.conversations();
    const shown = await Promise.all(all.map(async (one) => toJson(one, await store.messagesOf(one.id))));
    saveFile('glimmer.json', JSON.stringify(shown, null, 2), 'application/json');
  }

  async import() {
    let count = 0;
    for (const file of this.chooser.files) {
      try {
        const all = fromJson(await file.text());
        await store.add(all);
        count += all.length;
        if (all.length === 1) visit(`#/c/${all[0].conversation.id}`);
      } catch {
        toast(t('import.fault', { name: file.name }));
      }
    }
    this.chooser.value = '';
    if (count > 0) toast(t('import.done', { count }));
    this.refresh();
  }

  /** @param {Conversation} one */
  async remove(one) {
    if (!await askFor({ title: t('delete'), text: t('delete.sure', { title: one.title }), yes: t('delete'), danger: true })) return;
    await this.drop([one.id]);
  }

  async removeAll() {
    if (!await askFor({ title: t('delete.all'), text: t('delete.all.sure'), yes: t('delete'), danger: true })) return;
    await this.drop((await store.conversations()).map((one) => one.id));
  }

  /** @param {string[]} ids */
  async drop(ids) {
    await store.remove(ids);
    if (ids.some((id) => address() === `#/c/${id}`)) visit('#/');
    for (const id of ids) (await Session.open(id))?.reload();
    this.refresh();
  }
}

/** Pinned ones, then by when they were last changed. @param {Conversation[]} all @returns {[string, Conversation[]][]} */
function grouped(all) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const month = new Intl.DateTimeFormat(languageTag(), { month: 'long', year: 'numeric' });
  /** @param {Conversation} one */
  const group = ({ pinned, updated }) => {
    if (pinned) return t('side.pinned');
    if (updated >= midnight) return t('side.today');
    if (updated >= midnight - DAY) return t('side.yesterday');
    return updated >= midnight - 7 * DAY ? t('side.week') : month.format(updated);
  };
  const groups = new Map();
  for (const one of [...all.filter((one) => one.pinned), ...all.filter((one) => !one.pinned)]) {
    const name = group(one);
    groups.set(name, [...(groups.get(name) ?? []), one]);
  }
  return [...groups];
}
