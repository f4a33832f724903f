// Menus below buttons, and questions in dialogs: the browser's own `popover` and `dialog`, which know the keyboard.

import { h, icon, set } from './elements.js';
import { t } from './words.js';

/**
 * Opens a menu at a button.
 * @param {HTMLElement} button
 * @param {{label: string, icon?: any, click: () => void, checked?: boolean, danger?: boolean, detail?: string}[]} items
 */
export function openMenu(button, items) {
  const entries = items.map((item) => h('button', {
    type: 'button', role: item.checked === undefined ? 'menuitem' : 'menuitemradio', 'aria-checked': item.checked?.toString(), class: item.danger ? 'danger' : '', tabIndex: -1,
    click: () => { menu.hidePopover(); item.click(); },
  }, item.icon ? icon(item.icon) : item.checked !== undefined && h('span', { class: 'tick' }, item.checked && icon('check')),
  h('span', {}, item.label, item.detail && h('small', {}, item.detail))));
  const menu = h('div', { class: 'menu', popover: 'auto', role: 'menu' }, entries);
  menu.addEventListener('toggle', (/** @type {ToggleEvent} */ event) => {
    if (event.newState === 'open') return;
    button.setAttribute('aria-expanded', 'false');
    if (menu.contains(document.activeElement) || document.activeElement === document.body) button.focus();
    menu.remove();
  });
  menu.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
    const at = entries.indexOf(document.activeElement);
    /** @type {Record<string, number>} */
    const targets = { ArrowDown: at + 1, ArrowUp: at - 1 + entries.length, Home: 0, End: entries.length - 1 };
    const to = targets[event.key];
    if (to === undefined) return;
    event.preventDefault();
    entries[to % entries.length].focus();
  });
  document.body.append(menu);
  set(button, { 'aria-haspopup': 'menu', 'aria-expanded': 'true' });
  menu.showPopover();
  place(menu, button.getBoundingClientRect());
  (entries.find((_, at) => items[at].checked) ?? entries[0])?.focus();
}

/** Below the button where there is room, else above. @param {HTMLElement} menu @param {DOMRect} button */
function place(menu, { left, right, top, bottom }) {
  const { offsetWidth: width, offsetHeight: height } = menu;
  const x = left + width > innerWidth - 8 ? right - width : left;
  const y = bottom + height > innerHeight - 8 ? top - height - 4 : bottom + 4;
  menu.style.left = `${Math.max(8, x)}px`;
  menu.style.top = `${Math.max(8, y)}px`;
}

/**
 * A dialog that is opened at once and goes when it is closed.
 * @param {string} title
 * @param {import('./elements.js').Props} props
 * @param {...any} content
 * @returns {HTMLDialogElement}
 */
export function openDialog(title, props, ...content) {
  const dialog = h('dialog', { 'aria-label': title, ...props }, h('header', {}, h('h2', {}, title),
    h('button', { type: 'button', class: 'quiet round', 'aria-label': t('close'), click: () => dialog.close() }, icon('close'))), content);
  dialog.addEventListener('close', () => dialog.remove());
  // A click beside it closes it.
  dialog.addEventListener('mousedown', (/** @type {MouseEvent} */ event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Asks for a line of text, or for a yes.
 * @param {{title: string, text?: string, value?: string, yes: string, danger?: boolean}} question
 * @returns {Promise<string | null>} null when it was not given
 */
export function askFor({ title, text, value, yes, danger = false }) {
  return new Promise((resolve) => {
    /** @type {string | null} */
    let given = null;
    const field = value !== undefined && h('input', { value, 'aria-label': title, dir: 'auto', maxlength: 200 });
    const submit = (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      given = field ? field.value.trim() : 'yes';
      dialog.close();
    };
    const dialog = openDialog(title, { class: 'ask' }, h('form', { submit }, text && h('p', {}, text), field, h('div', { class: 'row end' },
      h('button', { type: 'button', click: () => dialog.close() }, t('cancel')), h('button', { class: danger ? 'danger main' : 'main' }, yes))));
    dialog.addEventListener('close', () => resolve(given || null));
    if (field) field.select();
  });
}

/** Says something for a while. @param {string} text */
export function toast(text) {
  document.querySelector('.toast')?.remove();
  const node = h('div', { class: 'toast', role: 'status', popover: 'manual' }, text);
  document.body.append(node);
  node.showPopover();
  setTimeout(() => node.remove(), 5000);
}
