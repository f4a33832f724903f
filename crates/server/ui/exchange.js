// Conversations as files: JSON in the shape of the OpenAI API, with the whole tree beside it, and Markdown to read.

import { apiMessages } from './answer.js';
import { newId, titleOf, Tree } from './conversation.js';

/** @typedef {import('./conversation.js').Message} Message */
/** @typedef {import('./store.js').Conversation} Conversation */

/** @param {Conversation} conversation @param {Message[]} messages */
export function toJson(conversation, messages) {
  const tree = new Tree(messages.map((message) => ({ ...message })));
  const path = tree.path(conversation.leaf ?? tree.newest());
  return {
    title: conversation.title,
    model: conversation.model,
    messages: apiMessages(path, conversation.params.system),
    glimmer: { version: 1, conversation, messages },
  };
}

/** @param {Conversation} conversation @param {Message[]} messages @param {(role: string) => string} speaker */
export function toMarkdown(conversation, messages, speaker) {
  const tree = new Tree(messages.map((message) => ({ ...message })));
  const parts = [`# ${conversation.title}`];
  if (conversation.params.system?.trim()) parts.push(`## ${speaker('system')}`, conversation.params.system.trim());
  for (const { role, content, tool_calls: calls } of apiMessages(tree.path(conversation.leaf ?? tree.newest()))) {
    const said = typeof content === 'string' ? [content] : content.map((/** @type {any} */ part) => part.text ?? `![](${part.image_url.url})`);
    parts.push(`## ${speaker(role)}`, ...said);
    for (const call of calls ?? []) parts.push(`\`${call.function.name}\`\n\n\`\`\`json\n${call.function.arguments}\n\`\`\``);
  }
  return `${parts.filter(Boolean).join('\n\n')}\n`;
}

/**
 * Reads a file that was exported here, or any list of messages of the OpenAI API. Everything gets a new id.
 * @param {string} text
 * @returns {{conversation: Conversation, messages: Message[]}[]}
 * @throws {Error} when there is no conversation in it
 */
export function fromJson(text) {
  const value = JSON.parse(text);
  const list = Array.isArray(value) && value.every((one) => one?.role) ? [{ messages: value }] : [value].flat();
  const all = list.map((one) => (one?.glimmer?.messages ? ownTree(one) : fromMessages(one)));
  if (all.length === 0) throw new Error('empty');
  return all;
}

/** @param {unknown} value */
const text = (value, otherwise = '') => (typeof value === 'string' ? value : otherwise);
/** @param {any} value @param {number} otherwise @returns {number} */
const time = (value, otherwise) => (Number.isFinite(value) ? value : otherwise);
/** @param {any} value @returns {Record<string, any> | undefined} */
const plain = (value) => (value && typeof value === 'object' && !Array.isArray(value) ? value : undefined);

/** @param {any} given @param {string} [title] @returns {Conversation} */
function newConversation(given, title) {
  const now = Date.now();
  return {
    id: newId(),
    title: text(given?.title, title) || '…',
    pinned: given?.pinned === true,
    created: time(given?.created, now),
    updated: time(given?.updated, now),
    leaf: null,
    model: text(given?.model) || undefined,
    params: plain(given?.params) ?? {},
  };
}

/** A tree of our own, as far as it is one: a message whose parent is not there is left out with all below it. @param {any} file */
function ownTree({ glimmer }) {
  const conversation = newConversation(glimmer.conversation, '');
  const ids = new Map();
  const given = new Tree(glimmer.messages.filter((/** @type {any} */ one) => ['user', 'assistant', 'tool'].includes(one?.role)).map((/** @type {any} */ one) => ({ ...one, parent: one.parent ?? null })));
  const messages = [];
  const below = [...(given.children.get(null) ?? [])];
  for (let id = below.shift(); id !== undefined; id = below.shift()) {
    const one = /** @type {Message} */ (given.get(id));
    ids.set(id, newId());
    messages.push(cleaned(one, conversation.id, ids.get(id), ids.get(one.parent) ?? null));
    below.push(...(given.children.get(id) ?? []));
  }
  conversation.leaf = ids.get(glimmer.conversation?.leaf) ?? new Tree([...messages]).newest();
  return { conversation, messages };
}

/**
 * A message of a file with such fields as the page shows, each of its type.
 * @param {any} one @param {string} conversation @param {string} id @param {string | null} parent
 * @returns {Message}
 */
function cleaned(one, conversation, id, parent) {
  const list = (/** @type {any} */ value, /** @type {(one: any) => boolean} */ fit) => (Array.isArray(value) && value.every(fit) ? value : undefined);
  const state = ['done', 'stopped', 'lost', 'failed'].includes(one.state) ? one.state : one.state === 'writing' ? 'lost' : 'done';
  return {
    id, conversation, parent, role: one.role, state,
    text: text(one.text),
    reasoning: text(one.reasoning) || undefined,
    calls: list(one.calls, (call) => ['id', 'name', 'arguments'].every((name) => typeof call?.[name] === 'string')),
    results: one.role === 'tool' ? Object.fromEntries(Object.entries(plain(one.results) ?? {}).map(([name, value]) => [name, text(value)])) : undefined,
    files: list(one.files, (file) => typeof file?.name === 'string' && typeof file?.text === 'string'),
    pictures: list(one.pictures, (picture) => typeof picture?.name === 'string' && isPicture(picture?.url)),
    created: time(one.created, Date.now()),
    model: text(one.model) || undefined,
    error: text(one.error) || undefined,
    end: text(one.end) || undefined,
  };
}

/** Whether an address is a picture itself: nothing is asked of anybody for it. @param {unknown} url */
const isPicture = (url) => text(url).startsWith('data:image/');

/** The pictures of a message of the API. @param {any} message */
function picturesOf({ content }) {
  const urls = (Array.isArray(content) ? content : []).map((part) => part?.image_url?.url).filter(isPicture);
  return urls.length > 0 ? urls.map((url, at) => ({ name: String(at + 1), url })) : undefined;
}

/** A list of messages as the API has it: one branch. @param {any} given */
function fromMessages(given) {
  if (!Array.isArray(given?.messages)) throw new Error('no messages');
  const contentOf = (/** @type {any} */ { content }) => (Array.isArray(content) ? content.map((part) => text(part?.text)).filter(Boolean).join('\n') : text(content));
  const first = given.messages.find((/** @type {any} */ one) => one.role === 'user');
  const conversation = newConversation(given, first ? titleOf(contentOf(first)) : '');
  const now = Date.now();
  /** @type {Message[]} */
  const messages = [];
  const push = (/** @type {Pick<Message, 'role'> & Partial<Message>} */ message) => {
    const parent = messages.at(-1)?.id ?? null;
    messages.push({ id: newId(), conversation: conversation.id, parent, created: now + messages.length, state: 'done', text: '', ...message });
  };
  for (const one of given.messages) {
    if (one.role === 'system') conversation.params = { ...conversation.params, system: contentOf(one) };
    else if (one.role === 'user') push({ role: 'user', text: contentOf(one), pictures: picturesOf(one) });
    else if (one.role === 'tool') {
      const results = { [text(one.tool_call_id)]: contentOf(one) };
      const last = messages.at(-1);
      if (last?.role === 'tool') last.results = { ...last.results, ...results };
      else push({ role: 'tool', results });
    } else if (one.role === 'assistant') {
      const calls = (Array.isArray(one.tool_calls) ? one.tool_calls : []).map((/** @type {any} */ call) => ({ id: text(call?.id), name: text(call?.function?.name), arguments: text(call?.function?.arguments) }));
      push({ role: 'assistant', text: contentOf(one), reasoning: text(one.reasoning_content) || undefined, calls: calls.length ? calls : undefined, model: conversation.model });
    } else throw new Error(`role ${one.role}`);
  }
  conversation.leaf = messages.at(-1)?.id ?? null;
  return { conversation, messages };
}

/** Has the browser save a text. @param {string} name @param {string} content @param {string} type */
export function saveFile(name, content, type) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name.replace(/[^\p{L}\p{N} ._-]/gu, '').trim().slice(0, 60) || 'conversation';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
