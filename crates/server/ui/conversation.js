// A conversation is a tree of messages: another version of an answer, or an edited question, is a sibling, and nothing is
// lost. What is shown is the path from the root to a leaf.

/**
 * A function that the model calls.
 * @typedef {{id: string, name: string, arguments: string}} Call
 */

/**
 * @typedef {object} Message
 * @property {string} id
 * @property {string} conversation the id of its conversation
 * @property {string | null} parent the id of the message before it
 * @property {'user' | 'assistant' | 'tool'} role
 * @property {string} text
 * @property {string} [reasoning]
 * @property {Call[]} [calls]
 * @property {Record<string, string>} [results] of a tool's message: what each call returned
 * @property {{name: string, text: string}[]} [files]
 * @property {import('./attachments.js').Picture[]} [pictures]
 * @property {number} created ms since 1970
 * @property {string} [model]
 * @property {'writing' | 'done' | 'stopped' | 'lost' | 'failed'} state
 * @property {number} [saved] of one that is being written: when it was last kept
 * @property {string} [error] what the server said
 * @property {string} [end] why it ended, in the API's words
 * @property {{valid: boolean, error?: string}} [check] whether it has the form that was asked for
 * @property {{prompt: number, cached: number, completion: number, reasoning: number}} [usage]
 * @property {{first: number, total: number, thinking?: number}} [times] ms until the first token, the last, the end of thought
 * @property {TokenScore[]} [tokens]
 */

/**
 * A token with its log-probability, and the likeliest in its place.
 * @typedef {[text: string, logprob: number, likeliest: [text: string, logprob: number][]]} TokenScore
 */

/** An id that nobody else has. Pages that come over plain http from another machine lack `crypto.randomUUID`. */
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

export class Tree {
  /** @param {Message[]} messages */
  constructor(messages = []) {
    /** @type {Map<string, Message>} */
    this.messages = new Map();
    /** @type {Map<string | null, string[]>} */
    this.children = new Map();
    for (const message of messages.sort((a, b) => a.created - b.created)) this.put(message);
  }

  /** Adds a message, or takes a newer form of one that is here. @param {Message} message */
  put(message) {
    const known = this.messages.get(message.id);
    if (known) {
      Object.assign(known, message);
      return;
    }
    this.messages.set(message.id, message);
    const siblings = this.children.get(message.parent);
    if (siblings) siblings.push(message.id);
    else this.children.set(message.parent, [message.id]);
  }

  /** @param {string | null | undefined} id */
  get(id) {
    return id ? this.messages.get(id) : undefined;
  }

  /** The messages from the first one to this one. @param {string | null} leaf @returns {Message[]} */
  path(leaf) {
    const path = [];
    for (let at = this.get(leaf); at && path.length <= this.messages.size; at = this.get(at.parent)) path.push(at);
    return path.reverse();
  }

  /**
   * All that may stand where a message does, oldest first: its versions, and what another tab asked at the same moment.
   * @param {Message} message
   * @returns {Message[]}
   */
  versions(message) {
    let before = this.get(message.parent);
    while (before?.role === 'tool') before = this.get(before.parent);
    return this.next(before?.id ?? null).sort((a, b) => a.created - b.created);
  }

  /** The messages that are shown right after this one: results of tools are a part of what called them. @param {string | null} id @returns {Message[]} */
  next(id) {
    return (this.children.get(id) ?? []).flatMap((child) => {
      const message = this.get(child);
      return message?.role === 'tool' ? this.next(child) : message ?? [];
    });
  }

  /** The end of the newest branch below a message, or of the whole. @param {string | null} [from] @returns {string | null} */
  newest(from = null) {
    let at = from;
    for (let below = this.children.get(at); below?.length; below = this.children.get(at)) at = below[below.length - 1];
    return at;
  }

  /** Removes a message and all below it; returns their ids. @param {Message} message */
  remove(message) {
    const gone = [message.id];
    for (let at = 0; at < gone.length; at += 1) gone.push(...(this.children.get(gone[at]) ?? []));
    for (const id of gone) {
      this.messages.delete(id);
      this.children.delete(id);
    }
    const siblings = this.children.get(message.parent) ?? [];
    this.children.set(message.parent, siblings.filter((id) => id !== message.id));
    return gone;
  }
}

/** A title from the first question. @param {string} text */
export function titleOf(text) {
  const line = text.trim().split('\n', 1)[0].replace(/\s+/g, ' ');
  const characters = [...line];
  return characters.length > 60 ? `${characters.slice(0, 58).join('')}…` : line;
}
