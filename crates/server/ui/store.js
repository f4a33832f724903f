// Conversations in this browser's IndexedDB. Nothing of them is kept on the server. Every message is a record of its own
// with an id of its own, and records are changed within transactions: two tabs never write over each other.

/** @typedef {import('./conversation.js').Message} Message */

/**
 * @typedef {object} Conversation
 * @property {string} id
 * @property {string} title
 * @property {boolean} [pinned]
 * @property {number} created
 * @property {number} updated
 * @property {string | null} leaf the end of the branch that was shown last
 * @property {string} [model]
 * @property {import('./preferences.js').Params} params
 */

const NAME = 'glimmer';

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** @returns {Promise<IDBDatabase>} */
function open() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore('conversations', { keyPath: 'id' });
    request.result.createObjectStore('messages', { keyPath: 'id' }).createIndex('conversation', 'conversation');
  };
  return result(request);
}

/** @type {Promise<IDBDatabase>} */
let opening;

/**
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(conversations: IDBObjectStore, messages: IDBObjectStore) => Promise<T>} act
 * @returns {Promise<T>} once it is on the disk
 */
async function transact(mode, act) {
  opening ??= open();
  const transaction = (await opening).transaction(['conversations', 'messages'], mode);
  const complete = /** @type {Promise<void>} */ (new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  }));
  const value = await act(transaction.objectStore('conversations'), transaction.objectStore('messages'));
  await complete;
  return value;
}

const channel = 'BroadcastChannel' in window ? new BroadcastChannel(NAME) : null;

/**
 * Calls when another tab has changed a conversation.
 * @param {(id: string | null) => void} listener told of which; null stands for several
 */
export function onOthersChange(listener) {
  channel?.addEventListener('message', (event) => listener(event.data));
}

/** @param {string | null} id */
function tell(id) {
  channel?.postMessage(id);
}

/** All conversations, newest first. @returns {Promise<Conversation[]>} */
export async function conversations() {
  const all = await transact('readonly', (store) => result(store.getAll()));
  return all.sort((a, b) => b.updated - a.updated);
}

/** @param {string} id @returns {Promise<Conversation | undefined>} */
export function conversation(id) {
  return transact('readonly', (store) => result(store.get(id)));
}

/** @param {string} id @returns {Promise<Message[]>} */
export function messagesOf(id) {
  return transact('readonly', (_, store) => result(store.index('conversation').getAll(id)));
}

/** Keeps new conversations with their messages. @param {{conversation: Conversation, messages: Message[]}[]} all */
export async function add(all) {
  await transact('readwrite', async (conversations, messages) => {
    for (const one of all) {
      conversations.put(one.conversation);
      one.messages.forEach((message) => messages.put(message));
    }
  });
  tell(all.length === 1 ? all[0].conversation.id : null);
}

/** Changes a conversation that is there. @param {string} id @param {Partial<Conversation>} change */
export async function change(id, change) {
  await transact('readwrite', async (store) => {
    const known = await result(store.get(id));
    if (known) store.put({ ...known, ...change });
  });
  tell(id);
}

/** Keeps a message of a conversation that is there. @param {Message} message */
export async function keep(message) {
  await transact('readwrite', async (conversations, messages) => {
    const known = await result(conversations.get(message.conversation));
    if (!known) return;
    messages.put(message);
    conversations.put({ ...known, updated: Date.now() });
  });
  tell(message.conversation);
}

/** Removes messages. @param {string} id of their conversation @param {string[]} gone */
export async function removeMessages(id, gone) {
  await transact('readwrite', async (_, messages) => gone.forEach((one) => messages.delete(one)));
  tell(id);
}

/** Removes conversations with all they hold. @param {string[]} ids */
export async function remove(ids) {
  await transact('readwrite', async (conversations, messages) => {
    for (const id of ids) {
      conversations.delete(id);
      const keys = await result(messages.index('conversation').getAllKeys(id));
      keys.forEach((key) => messages.delete(key));
    }
  });
  tell(ids.length === 1 ? ids[0] : null);
}

/** The conversations that have these words, in the title or in a message. @param {string} words @returns {Promise<Set<string>>} */
export function search(words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  /** @param {string} text */
  const has = (text) => wanted.every((word) => text.toLowerCase().includes(word));
  return transact('readonly', async (conversations, messages) => {
    const found = new Set();
    for (const one of await result(conversations.getAll())) if (has(one.title)) found.add(one.id);
    await /** @type {Promise<void>} */ (new Promise((resolve, reject) => {
      const request = messages.openCursor();
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const cursor = request.result;
        if (!cursor) return resolve();
        if (!found.has(cursor.value.conversation) && has(cursor.value.text)) found.add(cursor.value.conversation);
        cursor.continue();
      };
    }));
    return found;
  });
}
