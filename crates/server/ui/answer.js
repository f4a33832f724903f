// An answer that is being written: what is asked, and the chunks that come, put into its message.

import { ApiError, chunks } from './api.js';
import { shownToModel } from './attachments.js';
import { toolsOf } from './tools.js';
import { served } from './served.js';
import * as store from './store.js';

/** @typedef {import('./conversation.js').Message} Message */
/** @typedef {import('./preferences.js').Params} Params */

/** How often an answer is kept while it is written, so that a page that ends loses little. */
const KEEP_EVERY = 1000;

/** How often it is looked where a model is, until the first word. */
const LOOK_EVERY = 1500;

/** The numbers of `Params` that go to the API under their own names. */
export const SAMPLING = /** @type {const} */ (['temperature', 'top_p', 'top_k', 'min_p', 'repetition_penalty', 'presence_penalty',
  'frequency_penalty', 'max_tokens', 'seed']);

/**
 * Messages in the API's shape.
 * @param {Message[]} path
 * @param {string} [system]
 */
export function apiMessages(path, system) {
  /** @type {any[]} */
  const messages = system?.trim() ? [{ role: 'system', content: system }] : [];
  for (const message of path) {
    if (message.role === 'user') messages.push({ role: 'user', content: shownToModel(message) });
    else if (message.role === 'tool') {
      for (const [id, content] of Object.entries(message.results ?? {})) messages.push({ role: 'tool', tool_call_id: id, content });
    } else {
      /** @type {any} */
      const answer = { role: 'assistant', content: message.text };
      if (message.reasoning) answer.reasoning_content = message.reasoning;
      if (message.calls?.length) {
        answer.tool_calls = message.calls.map(({ id, name, arguments: text }) => ({ id, type: 'function', function: { name, arguments: text || '{}' } }));
      }
      messages.push(answer);
    }
  }
  return messages;
}

/** What is asked of the API. @param {Message[]} path @param {Params} params @param {string | undefined} model @param {boolean} isContinued */
function requestBody(path, params, model, isContinued) {
  /** @type {any} */
  const body = {
    model,
    messages: apiMessages(path, params.system),
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
    return_progress: true,
  };
  for (const name of SAMPLING) if (params[name] !== undefined) body[name] = params[name];
  if (params.thinking) body.enable_thinking = params.thinking === 'on';
  if (params.thinkingBudget !== undefined) body.thinking_budget = params.thinkingBudget;
  if (params.schema?.trim()) {
    body.response_format = { type: 'json_schema', json_schema: { name: 'answer', schema: JSON.parse(params.schema) } };
  }
  if (params.logprobs) Object.assign(body, { logprobs: true, top_logprobs: 5 });
  const tools = toolsOf(params).map(({ result: _, ...tool }) => tool);
  if (tools.length > 0) body.tools = tools;
  // The model goes on where its last message ends.
  if (isContinued) body.add_generation_prompt = false;
  return body;
}

/** Answers that are being written on this page, by the id of their message. @type {Map<string, Answer>} */
export const running = new Map();

/** Tells of changes: `change` when there is more, `end` when there will be no more. */
export class Answer extends EventTarget {
  /**
   * @param {Message} message that it is put into; text that it has is gone on with
   * @param {Message[]} path of messages before it
   * @param {Params} params
   */
  constructor(message, path, params) {
    super();
    this.message = message;
    const isContinued = Boolean(message.text);
    this.body = requestBody(isContinued ? [...path, message] : path, params, message.model, isContinued);
    this.abort = new AbortController();
    this.kept = 0;
    /** When it was asked, in the page's time. */
    this.start = 0;
    /** How far the prompt is read. @type {{total: number, processed: number, cache?: number, time_ms?: number} | undefined} */
    this.progress = undefined;
    /** What the server refused with. @type {number | undefined} */
    this.status = undefined;
    this.isDropped = false;
    Object.assign(message, { state: 'writing', error: undefined, end: undefined, check: undefined });
    running.set(message.id, this);
  }

  /** Asks, and returns when there will be no more. Whatever happens, what has come is kept. */
  async run() {
    const { message } = this;
    this.start = performance.now();
    message.times = undefined;
    this.keep();
    // A model that is not loaded is loaded for whoever asks; how far that is stands in the list.
    const look = setInterval(() => served.refresh(), LOOK_EVERY);
    this.addEventListener('change', () => clearInterval(look), { once: true });
    try {
      for await (const chunk of chunks(this.body, this.abort.signal)) this.take(chunk);
      message.state = 'done';
    } catch (error) {
      if (this.abort.signal.aborted) message.state = 'stopped';
      else {
        message.state = error instanceof ApiError && error.status === 0 ? 'lost' : 'failed';
        message.error = String(error.message ?? error);
        this.status = error.status;
      }
    }
    clearInterval(look);
    this.keep();
    running.delete(message.id);
    this.dispatchEvent(new Event('end'));
  }

  stop() {
    this.abort.abort();
  }

  /** Stops; what has come is not kept. */
  drop() {
    this.isDropped = true;
    this.stop();
  }

  /** @param {any} chunk of the API */
  take(chunk) {
    if (chunk.usage) this.takeUsage(chunk.usage);
    const choice = chunk.choices?.[0];
    if (choice) this.takeChoice(choice);
    if (chunk.prompt_progress) this.progress = chunk.prompt_progress;
    if (performance.now() - this.kept > KEEP_EVERY) this.keep();
    this.dispatchEvent(new Event('change'));
  }

  /** @param {any} usage in the API's names */
  takeUsage({ prompt_tokens: prompt, completion_tokens: completion, prompt_tokens_details: before, completion_tokens_details: after }) {
    this.message.usage = { prompt, cached: before?.cached_tokens ?? 0, completion, reasoning: after?.reasoning_tokens ?? 0 };
  }

  /** @param {any} choice of a chunk */
  takeChoice({ delta = {}, logprobs, finish_reason: end, stop_reason: cause, schema_check: check }) {
    const { message } = this;
    const now = performance.now() - this.start;
    if (delta.reasoning_content) message.reasoning = (message.reasoning ?? '') + delta.reasoning_content;
    if (delta.content) {
      if (message.reasoning && message.times && message.times.thinking === undefined) message.times.thinking = now;
      message.text += delta.content;
    }
    for (const part of delta.tool_calls ?? []) this.takeCall(part);
    if (delta.content || delta.reasoning_content || delta.tool_calls) {
      message.times = { ...message.times, first: message.times?.first ?? now, total: now };
      this.progress = undefined;
    }
    for (const token of logprobs?.content ?? []) {
      (message.tokens ??= []).push([token.token, token.logprob, token.top_logprobs.map((/** @type {any} */ one) => [one.token, one.logprob])]);
    }
    if (end) message.end = cause === 'repetition_detected' ? 'repetition' : end;
    if (check) message.check = check;
  }

  /** @param {any} part of a call */
  takeCall({ index, id, function: { name, arguments: text } }) {
    const calls = (this.message.calls ??= []);
    calls[index] ??= { id, name, arguments: '' };
    calls[index].arguments += text ?? '';
  }

  keep() {
    if (this.isDropped) return;
    this.kept = performance.now();
    this.message.saved = Date.now();
    store.keep({ ...this.message }).catch(() => {});
  }
}

/** Whether a message that was being written has nobody who writes it any more. @param {Message} message */
export function isOrphan(message) {
  return message.state === 'writing' && !running.has(message.id) && Date.now() - (message.saved ?? 0) > 5 * KEEP_EVERY;
}
