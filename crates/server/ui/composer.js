// The field that questions are written in, with what goes along.

import { readFiles } from './attachments.js';
import { announce, h, icon, iconButton } from './elements.js';
import { served } from './served.js';
import { number, t } from './words.js';

/** Characters that are pasted into the field at most; what is longer becomes a file. */
const LONG_PASTE = 3000;

/** What was written and not sent, by conversation; all new ones have one. @type {Map<string, string>} */
const drafts = new Map();

/** @param {import('./session.js').Session} session */
const draftOf = (session) => (session.isKept ? session.id : '');

/** Puts a text into the field of new conversations. @param {string} text */
export function draft(text) {
  drafts.set('', text);
}

/** @param {import('./session.js').Session} session */
export function composer(session) {
  /** @type {{name: string, text: string}[]} */
  let files = [];
  /** @type {import('./attachments.js').Picture[]} */
  let pictures = [];
  const field = h('textarea', {
    class: 'field', rows: 1, dir: 'auto', placeholder: t('composer.hint'), 'aria-label': t('composer'), value: drafts.get(draftOf(session)) ?? '', enterkeyhint: 'send',
    input: () => { drafts.set(draftOf(session), field.value); grow(field); refresh(); },
    keydown: (event) => key(event),
    paste: (event) => paste(event),
  });
  const chooser = h('input', { type: 'file', multiple: true, hidden: true, change: () => { attach(chooser.files); chooser.value = ''; } });
  // Of pictures a phone offers its camera, too.
  const choose = (/** @type {string} */ accept) => {
    chooser.accept = accept;
    chooser.click();
  };
  const look = iconButton('picture', t('pictures.add'), () => choose('image/*'));
  const chips = h('ul', { class: 'chips', hidden: true });
  const fault = h('p', { class: 'fault', role: 'alert', hidden: true });
  const thinking = h('button', { type: 'button', class: 'pill', click: () => nextThinking() });
  const meter = h('div', { class: 'meter', role: 'meter', 'aria-label': t('meter'), 'aria-valuemin': 0, hidden: true }, h('span', {}), h('i', {}, h('b', {})));
  const send = h('button', { class: 'send round' });
  const form = h('form', { class: 'composer', submit: (event) => { event.preventDefault(); submit(); } },
    chips, fault, field, h('div', { class: 'row' },
      iconButton('attach', t('files.add'), () => choose('')), chooser, look, thinking, h('span', { class: 'gap' }), meter, send));
  form.addEventListener('dragover', (/** @type {DragEvent} */ event) => event.preventDefault());
  form.addEventListener('drop', (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    attach(event.dataTransfer?.files ?? []);
  });

  /** Files that are being read, which a question waits for. */
  let reading = Promise.resolve();

  /** @param {Iterable<File>} chosen */
  function attach(chosen) {
    // The list of a chooser is empty once the chooser is.
    const list = [...chosen];
    reading = reading.then(() => read(list));
  }

  /** Files go along, and so does what is too long to read in the field. @param {ClipboardEvent} event */
  function paste(event) {
    const text = event.clipboardData?.getData('text/plain') ?? '';
    const pasted = [...(event.clipboardData?.files ?? [])];
    if (text.length > LONG_PASTE) {
      event.preventDefault();
      pasted.push(new File([text], t('files.pasted', { time: new Date().toTimeString().slice(0, 8).replaceAll(':', '.') })));
    }
    if (pasted.length > 0) attach(pasted);
  }

  /** @param {File[]} chosen */
  async function read(chosen) {
    const there = files.length + pictures.length;
    const found = await readFiles(chosen, there, { model: served.model, sees: served.sees });
    files = [...files, ...found.files];
    pictures = [...pictures, ...found.pictures];
    say(found.refused.join(' '));
    showChips();
  }

  /** @param {string} text */
  function say(text) {
    fault.textContent = text;
    fault.hidden = !text;
  }

  function showChips() {
    chips.hidden = files.length + pictures.length === 0;
    const chip = (/** @type {{name: string}} */ one, /** @type {any} */ sign) => h('li', {}, sign, h('span', {}, one.name), iconButton('close', t('files.remove', { name: one.name }), () => {
      files = files.filter((other) => other !== one);
      pictures = pictures.filter((other) => other !== one);
      showChips();
      field.focus();
    }));
    chips.replaceChildren(
      ...pictures.map((picture) => chip(picture, h('img', { src: picture.url, alt: '' }))),
      ...files.map((file) => chip(file, icon('attach'))));
    refresh();
  }

  /** @param {KeyboardEvent} event */
  function key(event) {
    // While Chinese is being composed, Enter chooses a word; on a phone it ends a line.
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && !matchMedia('(pointer: coarse)').matches) {
      event.preventDefault();
      // Pressed twice, it does not stop what it has begun.
      if (!session.answer) submit();
    }
    if (event.key === 'Escape' && session.answer) session.answer.stop();
  }

  async function submit() {
    if (session.answer) {
      session.answer.stop();
      return;
    }
    await reading;
    const text = field.value.trim();
    if (isEmpty(text) || !served.model) return;
    const along = { files, pictures };
    put('');
    files = [];
    pictures = [];
    say('');
    showChips();
    session.send(text, along);
  }

  /** @param {string} text */
  function isEmpty(text) {
    return !text && files.length + pictures.length === 0;
  }

  function nextThinking() {
    const next = { undefined: 'on', on: 'off', off: undefined }[String(session.conversation.params.thinking)];
    session.change({ params: { ...session.conversation.params, thinking: /** @type {any} */ (next) } });
    announce(t(/** @type {any} */ (`thinking.${next ?? 'auto'}`)));
  }

  function refresh() {
    const isWriting = Boolean(session.answer);
    send.replaceChildren(icon(isWriting ? 'stop' : 'send'));
    send.setAttribute('aria-label', t(isWriting ? 'stop' : 'send'));
    send.title = t(isWriting ? 'stop' : 'send');
    send.disabled = !isWriting && (!served.model || isEmpty(field.value.trim()));
    look.hidden = !served.sees;
    const mode = session.conversation.params.thinking ?? 'auto';
    thinking.replaceChildren(icon('thought'), h('span', {}, t(`thinking.${mode}`)));
    thinking.classList.toggle('on', mode === 'on');
    showMeter(meter, session);
  }

  /** Puts a text into the field. @param {string} text */
  function put(text) {
    field.value = text;
    drafts.set(draftOf(session), text);
    grow(field);
    refresh();
    if (text) field.focus();
  }

  refresh();
  requestAnimationFrame(() => grow(field));
  return { node: form, refresh, put, close() {}, focus: () => field.focus() };
}

/** As high as what is written in it, where the browser does not do that by itself. @param {HTMLTextAreaElement} field */
function grow(field) {
  if (CSS.supports('field-sizing', 'content')) return;
  field.style.height = 'auto';
  field.style.height = `${field.scrollHeight}px`;
}

/** How much of the model's context the conversation takes. @param {any} meter @param {import('./session.js').Session} session */
function showMeter(meter, session) {
  const usage = session.path.findLast((one) => one.usage)?.usage;
  const most = served.one()?.max_model_len;
  meter.hidden = !usage || !most;
  if (!usage || !most) return;
  const used = usage.prompt + usage.completion;
  const text = t('meter.text', { used: number(used), most: number(most) });
  meter.title = `${text}. ${t('meter.cached', { cached: number(usage.cached), prompt: number(usage.prompt) })}`;
  meter.setAttribute('aria-valuenow', String(used));
  meter.setAttribute('aria-valuemax', String(most));
  meter.setAttribute('aria-valuetext', meter.title);
  meter.firstChild.textContent = text;
  meter.querySelector('b').style.width = `${Math.min(100, (100 * used) / most)}%`;
  meter.classList.toggle('full', used > 0.85 * most);
}
