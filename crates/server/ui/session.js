// One conversation that is open on this page: what can be done in it. Views listen to `change`.

import { Answer, isOrphan, running } from './answer.js';
import { newId, titleOf, Tree } from './conversation.js';
import { preferences } from './preferences.js';
import { served } from './served.js';
import * as store from './store.js';
import { fixedResults } from './tools.js';

/** @typedef {import('./conversation.js').Message} Message */

/** Times that fixed results are given in a row, before a person is asked. */
const FIXED_ROUNDS = 8;

/** Those that are or were open. @type {Map<string, Session>} */
const sessions = new Map();

export class Session extends EventTarget {
  /** @param {store.Conversation} conversation @param {Message[]} messages @param {boolean} isKept */
  constructor(conversation, messages, isKept) {
    super();
    this.conversation = conversation;
    this.tree = new Tree(messages);
    this.leaf = this.tree.get(conversation.leaf)?.id ?? this.tree.newest();
    this.isKept = isKept;
    /** Ids of messages that are in the store, as far as this tab knows. */
    this.stored = new Set(messages.map((one) => one.id));
    sessions.set(conversation.id, this);
  }

  /** One that is kept once something is said. */
  static begin() {
    const now = Date.now();
    const params = { ...preferences().params };
    return new Session({ id: newId(), title: '', created: now, updated: now, leaf: null, params }, [], false);
  }

  /** @param {string} id @returns {Promise<Session | null>} null where there is none */
  static async open(id) {
    const known = sessions.get(id);
    if (known) return known;
    const [conversation, messages] = await Promise.all([store.conversation(id), store.messagesOf(id)]);
    if (!conversation) return null;
    return sessions.get(id) ?? new Session(conversation, messages.map(settled), true);
  }

  get id() {
    return this.conversation.id;
  }

  get path() {
    return this.tree.path(this.leaf);
  }

  /** The answer that is being written at the end of what is shown. @returns {Answer | undefined} */
  get answer() {
    return this.leaf ? running.get(this.leaf) : undefined;
  }

  changed() {
    this.dispatchEvent(new Event('change'));
  }

  /**
   * Asks something.
   * @param {string} text
   * @param {{files?: {name: string, text: string}[], pictures?: import('./attachments.js').Picture[]}} [along]
   */
  send(text, { files = [], pictures = [] } = {}) {
    if (!this.isKept) this.begin(text || [...files, ...pictures][0]?.name);
    const some = (/** @type {any[]} */ list) => (list.length > 0 ? list : undefined);
    const question = this.message('user', this.leaf, { text, files: some(files), pictures: some(pictures), state: 'done' });
    this.put(question);
    return this.answerTo(question.id);
  }

  /** Keeps the conversation for the first time. @param {string} text */
  begin(text) {
    this.isKept = true;
    this.conversation.title = titleOf(text);
    this.conversation.model = served.model;
    store.add([{ conversation: this.conversation, messages: [] }]).catch(() => {});
  }

  /** @param {Message['role']} role @param {string | null} parent @param {Partial<Message>} rest @returns {Message} */
  message(role, parent, rest) {
    return { id: newId(), conversation: this.id, parent, role, text: '', created: Date.now(), state: 'writing', ...rest };
  }

  /** Puts a message at the end of what is shown, at once: the store follows, in the same order. @param {Message} message */
  put(message) {
    this.tree.put(message);
    this.select(message.id);
    store.keep({ ...message, saved: Date.now() }).then(() => this.stored.add(message.id), () => {});
  }

  /** Has the model answer what ends with this message. @param {string | null} parent @param {number} [round] */
  answerTo(parent, round = 0) {
    const message = this.message('assistant', parent, { model: served.model });
    const answer = new Answer(message, this.tree.path(parent), this.conversation.params);
    this.put(message);
    return this.run(answer, round);
  }

  /** @param {Answer} answer @param {number} round */
  async run(answer, round) {
    const { message } = answer;
    this.changed();
    await answer.run();
    this.changed();
    const results = message.state === 'done' && message.calls && round < FIXED_ROUNDS && fixedResults(message.calls, this.conversation.params);
    if (results && this.leaf === message.id) await this.giveResults(message, results, round + 1);
  }

  /** Writes another version of an answer. @param {Message} message */
  regenerate(message) {
    return this.answerTo(message.parent);
  }

  /** Asks otherwise, in a branch of its own. @param {Message} question @param {string} text */
  edit(question, text) {
    const edited = this.message('user', question.parent, { text, files: question.files, pictures: question.pictures, state: 'done' });
    this.put(edited);
    return this.answerTo(edited.id);
  }

  /** Goes on where an answer ended. @param {Message} message */
  continueAnswer(message) {
    const path = this.tree.path(message.parent);
    return this.run(new Answer(message, path, this.conversation.params), 0);
  }

  /** Gives the model what its calls returned. @param {Message} message @param {Record<string, string>} results @param {number} [round] */
  giveResults(message, results, round = 0) {
    const given = this.message('tool', message.id, { results, state: 'done' });
    this.put(given);
    return this.answerTo(given.id, round);
  }

  /** Removes a message with all that follows it. @param {Message} message */
  async remove(message) {
    const gone = this.tree.remove(message);
    gone.forEach((id) => running.get(id)?.drop());
    if (this.leaf && gone.includes(this.leaf)) {
      const other = this.tree.versions(message).at(-1);
      await this.select(other ? this.tree.newest(other.id) : message.parent);
    }
    await store.removeMessages(this.id, gone);
    this.changed();
  }

  /** Shows the branch that ends with this message. @param {string | null} leaf */
  async select(leaf) {
    this.leaf = leaf;
    this.conversation.leaf = leaf;
    this.changed();
    if (this.isKept) await store.change(this.id, { leaf }).catch(() => {});
  }

  /** @param {Partial<store.Conversation>} change */
  async change(change) {
    Object.assign(this.conversation, change);
    this.changed();
    if (this.isKept) await store.change(this.id, change);
  }

  /** Takes over what another tab has changed. */
  async reload() {
    if (!this.isKept) return;
    const [conversation, messages] = await Promise.all([store.conversation(this.id), store.messagesOf(this.id)]);
    if (!conversation) {
      sessions.delete(this.id);
      this.dispatchEvent(new Event('gone'));
      return;
    }
    const wasEnd = !this.tree.children.get(this.leaf)?.length;
    const known = this.tree.messages;
    const theirs = messages.map((one) => newer(known.get(one.id), settled(one)));
    // What is not there was removed, unless it is on its way there.
    const ids = new Set(theirs.map((one) => one.id));
    const mine = [...known.values()].filter((one) => !ids.has(one.id) && !this.stored.has(one.id));
    this.tree = new Tree([...theirs, ...mine]);
    ids.forEach((id) => this.stored.add(id));
    this.conversation = { ...conversation, leaf: this.leaf };
    if (!this.tree.get(this.leaf)) this.leaf = this.tree.newest();
    else if (wasEnd) this.leaf = this.tree.newest(this.leaf);
    this.changed();
  }
}

/** A message as it was left: one that nobody writes any more broke off. @param {Message} message */
function settled(message) {
  return isOrphan(message) ? { ...message, state: /** @type {const} */ ('lost') } : message;
}

/** The newer form of a message, in the object that views hold. @param {Message | undefined} known @param {Message} other */
function newer(known, other) {
  const isOlder = known && (running.has(known.id) || (known.saved ?? 0) >= (other.saved ?? 0));
  return isOlder ? known : Object.assign(known ?? other, other);
}

store.onOthersChange((id) => {
  for (const session of id ? [sessions.get(id)] : sessions.values()) session?.reload();
});
