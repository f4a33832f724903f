// One message as it is shown: a question, or an answer with its thought, its calls, how it ended and what can be done with it.

import { running } from './answer.js';
import { announce, duration, h, icon, iconButton } from './elements.js';
import { copyButton } from './code.js';
import { MarkdownView } from './markdown.js';
import { served } from './served.js';
import { toolCards } from './tool-cards.js';
import { tokensView } from './tokens-view.js';
import { Typewriter } from './typewriter.js';
import { number, t } from './words.js';

/** @typedef {import('./conversation.js').Message} Message */
/** @typedef {import('./session.js').Session} Session */

/** Milliseconds of an answer below which its speed says nothing: its tokens came together. */
const SHORT = 150;

/** Where a message stands. @typedef {{isLast: boolean, results?: Record<string, string>}} Place */

export class MessageView {
  /** @param {Message} message @param {Session} session */
  constructor(message, session) {
    this.message = message;
    this.session = session;
    const isQuestion = message.role === 'user';
    this.body = h('div', { class: isQuestion ? 'bubble' : 'answer' });
    this.thought = h('div', {});
    this.cards = h('div', {});
    this.notice = h('div', {});
    this.foot = h('footer', {});
    this.node = h('article', { class: `message ${message.role}`, 'aria-label': isQuestion ? t('message.question') : t('message.answer') },
      this.thought, this.body, this.cards, this.notice, this.foot);
    /** Whether the body is more than its plain text. */
    this.isRendered = false;
    /** @type {Place} */
    this.place = { isLast: false };
    /** The text as it was shown last. @type {string | undefined} */
    this.shown = undefined;
    /** What is being written into this message, and what shows it. @type {import('./answer.js').Answer | undefined} */
    this.answer = undefined;
    this.markdown = new MarkdownView(this.body);
    this.typewriter = new Typewriter((text) => this.markdown.grow(text));
    /** @type {ReturnType<typeof setInterval> | undefined} */
    this.clock = undefined;
    /** The frame in which what has come is shown. @type {number | null} */
    this.frame = null;
    this.thinking = h('pre', { class: 'thinking', dir: 'auto', tabindex: 0 });
    this.wait = h('p', { class: 'wait' }, h('span', { class: 'pulse', 'aria-hidden': 'true' }), h('span', {}));
    /** The answer token by token, while that is shown. @type {HTMLElement | null} */
    this.tokens = null;
    this.showPlain();
  }

  /** The text as it is, at no cost: what is far away looks like this, and can be found. */
  showPlain() {
    this.body.classList.add('plain');
    this.body.dir = 'auto';
    this.body.textContent = this.message.text;
  }

  /** Shows the message as it is to be. */
  render() {
    if (this.isRendered) return;
    this.isRendered = true;
    if (this.message.role === 'user') return this.renderQuestion();
    this.body.classList.remove('plain');
    this.body.removeAttribute('dir');
    this.markdown.clear();
    this.listen();
    if (!this.answer) this.markdown.show(this.message.text);
  }

  renderQuestion() {
    const { text, files, pictures } = this.message;
    const chips = (files ?? []).map((file) => h('details', { class: 'file' }, h('summary', {}, icon('attach'), file.name), h('pre', { tabindex: 0 }, file.text)));
    const shown = (pictures ?? []).map(({ name, url }) => {
      const picture = h('button', { type: 'button', class: 'picture', 'aria-pressed': 'false', 'aria-label': t('pictures.show', { name }), click: () => {
        picture.setAttribute('aria-pressed', String(picture.classList.toggle('large')));
      } }, h('img', { src: url, alt: name }));
      return picture;
    });
    this.body.replaceChildren(...shown, ...chips, text);
  }

  /** Follows the answer that is being written into this message. */
  listen() {
    const answer = running.get(this.message.id);
    if (!answer || answer === this.answer) return;
    this.answer = answer;
    this.typewriter.stop();
    this.typewriter = new Typewriter((text) => this.markdown.grow(text));
    // What was there before is not typed again.
    this.typewriter.shown = this.message.text.length;
    if (this.message.text) this.markdown.grow(this.message.text);
    this.node.setAttribute('aria-busy', 'true');
    announce(t('message.begins'));
    answer.addEventListener('change', () => this.grow());
    answer.addEventListener('end', () => this.ended(answer), { once: true });
    this.grow();
    this.clock = setInterval(() => this.showThought(), 500);
  }

  /** Shows what has come, once a frame however much that is. */
  grow() {
    this.typewriter.write(this.message.text);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.showThought();
      this.showCards();
      this.showWaiting();
    });
  }

  /** @param {import('./answer.js').Answer} answer */
  async ended(answer) {
    clearInterval(this.clock);
    await this.typewriter.end();
    if (this.answer !== answer) return;
    this.answer = undefined;
    this.node.removeAttribute('aria-busy');
    this.markdown.end(this.message.text);
    announce(`${t('message.ended')} ${this.message.text.slice(0, 600)}`);
    this.refresh(this.place);
  }

  /**
   * Brings everything but the body up to date.
   * @param {Place} place
   */
  refresh(place) {
    this.place = place;
    const { message } = this;
    if (this.isRendered && message.role === 'assistant') {
      this.listen();
      // Another tab writes it.
      if (!this.answer && this.shown !== undefined && this.shown !== message.text) this.markdown.show(message.text);
    }
    this.shown = message.text;
    this.body.hidden = !message.text && Boolean(message.calls);
    this.showThought();
    this.showCards();
    this.notice.replaceChildren(...this.noticeParts());
    this.showWaiting();
    this.foot.replaceChildren(...this.footParts());
    this.foot.hidden = Boolean(this.answer);
  }

  /** While nothing has come: that something is being done, and how far the prompt is read. */
  showWaiting() {
    const { message, answer } = this;
    const isWaiting = message.state === 'writing' && !message.text && !message.reasoning && !message.calls;
    this.node.classList.toggle('waiting', isWaiting);
    if (!isWaiting) return this.wait.remove();
    if (!this.wait.isConnected) this.body.before(this.wait);
    this.wait.lastChild.textContent = progressText(answer?.progress) || served.stateOf(message.model ?? '') || t('message.reading');
  }

  showThought() {
    const { reasoning, times, state } = this.message;
    if (!reasoning) return this.thought.replaceChildren();
    if (!this.thought.firstChild) {
      this.thinking.textContent = '';
      this.thought.append(h('details', { class: 'thought' }, h('summary', {}, icon('thought'), h('span', {}), icon('down')), this.thinking));
    }
    const isThinking = state === 'writing' && times?.thinking === undefined && !this.message.text;
    const time = isThinking && this.answer ? performance.now() - this.answer.start : times?.thinking ?? times?.total ?? 0;
    const label = this.thought.querySelector('summary span');
    label.textContent = t(isThinking ? 'thought.now' : 'thought.done', { time: duration(time) });
    label.classList.toggle('shimmer', isThinking);
    // Only what is new is added: a thought may be long.
    const shown = this.thinking.textContent.length;
    if (reasoning.length > shown) this.thinking.append(reasoning.slice(shown));
  }

  showCards() {
    const { calls } = this.message;
    if (!calls?.length) return this.cards.replaceChildren();
    const canAnswer = this.message.state === 'done' && this.place.isLast;
    // A form that somebody is filling in stays.
    if (canAnswer && this.cards.contains(document.activeElement)) return;
    this.cards.replaceChildren(...toolCards(calls, this.place.results, canAnswer ? (results) => this.session.giveResults(this.message, results) : null));
  }

  /** How it ended, where that is not as it should, and what can be done. */
  noticeParts() {
    const { message, session } = this;
    if (message.role !== 'assistant' || message.state === 'writing' || this.answer) return [];
    const retry = h('button', { type: 'button', class: 'small', click: () => session.regenerate(message) }, icon('retry'), t('retry'));
    const goOn = message.text && !message.calls && h('button', { type: 'button', class: 'small', click: () => session.continueAnswer(message) }, icon('play'), t('continue'));
    const isEnd = this.place.isLast;
    const notice = (/** @type {string} */ text, /** @type {any[]} */ ...buttons) => h('div', { class: 'notice' }, h('span', {}, text), isEnd && buttons);
    const told = [];
    if (message.state === 'lost') told.push(notice(t('end.lost'), retry, goOn));
    else if (message.state === 'failed') told.push(notice(t('end.failed', { error: message.error ?? '' }), retry));
    else if (message.state === 'stopped') told.push(notice(t('end.stopped'), goOn));
    else if (message.end === 'length') told.push(notice(t('end.length'), goOn));
    else if (message.end === 'repetition') told.push(notice(t('end.repetition')));
    if (message.check && !message.check.valid) told.push(notice(t('end.schema', { error: message.check.error ?? '' })));
    return told;
  }

  footParts() {
    const { message, session } = this;
    if (message.role === 'tool') return [];
    const versions = session.tree.versions(message);
    const parts = [];
    if (versions.length > 1) parts.push(this.versions(versions));
    parts.push(copyButton(() => message.text));
    if (message.role === 'user') parts.push(iconButton('edit', t('edit'), () => this.edit()));
    else {
      parts.push(iconButton('retry', t('regenerate'), () => session.regenerate(message)));
      if (message.tokens?.length) parts.push(iconButton('tokens', t('tokens.show'), () => this.toggleTokens()));
    }
    parts.push(iconButton('trash', t('delete'), () => session.remove(message)));
    const figures = message.role === 'assistant' && this.figures();
    if (figures) parts.push(h('span', { class: 'figures' }, figures));
    return parts;
  }

  /** Buttons that go through the versions. @param {Message[]} versions */
  versions(versions) {
    const at = versions.indexOf(this.message);
    const go = (/** @type {number} */ to) => this.session.select(this.session.tree.newest(versions[to].id));
    return h('span', { class: 'versions', role: 'group', 'aria-label': t('versions') },
      iconButton('back', t('versions.before'), () => go(at - 1), { disabled: at === 0 }),
      h('span', {}, `${at + 1} / ${versions.length}`),
      iconButton('forward', t('versions.after'), () => go(at + 1), { disabled: at === versions.length - 1 }));
  }

  figures() {
    const { usage, times, model, end, state } = this.message;
    const parts = [model];
    if (usage) parts.push(t('figures.tokens', { count: number(usage.completion) }));
    const ms = times ? times.total - times.first : 0;
    if (usage && ms > SHORT && usage.completion > 1) parts.push(t('figures.speed', { speed: number(((usage.completion - 1) * 1000) / ms, 1) }));
    if (times?.first) parts.push(t('figures.first', { time: duration(times.first) }));
    if (state === 'done' && end === 'stop') parts.push(t('end.stop'));
    return parts.filter(Boolean).join(' · ');
  }

  /** Turns a question into a field. */
  edit() {
    const field = h('textarea', { class: 'edit', value: this.message.text, 'aria-label': t('edit'), dir: 'auto', rows: Math.min(12, this.message.text.split('\n').length + 1) });
    const close = () => {
      form.replaceWith(this.body);
      this.foot.hidden = false;
    };
    const send = (/** @type {Event} */ event) => {
      event.preventDefault();
      const text = field.value.trim();
      close();
      if (text && text !== this.message.text) this.session.edit(this.message, text);
    };
    const form = h('form', { class: 'editing', submit: send }, field, h('div', { class: 'row end' },
      h('button', { type: 'button', class: 'small', click: close }, t('cancel')), h('button', { class: 'small main' }, t('edit.send'))));
    field.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
      if (event.key === 'Escape') close();
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) send(event);
    });
    this.body.replaceWith(form);
    this.foot.hidden = true;
    field.focus();
  }

  /** Shows the answer token by token, or as text again. */
  toggleTokens() {
    if (this.tokens) {
      this.tokens.replaceWith(this.body);
      this.tokens = null;
    } else {
      this.tokens = tokensView(this.message.tokens ?? []);
      this.body.replaceWith(this.tokens);
    }
  }
}

/** @param {{total: number, processed: number, cache?: number, time_ms?: number} | undefined} progress */
function progressText(progress) {
  if (!progress?.total) return '';
  const { total, processed, cache = 0, time_ms: ms = 0 } = progress;
  const percent = number((100 * processed) / total);
  const rest = processed > cache ? (ms * (total - processed)) / (processed - cache) : 0;
  return rest > 1000 ? t('message.progress.rest', { percent, time: duration(rest) }) : t('message.progress', { percent });
}
