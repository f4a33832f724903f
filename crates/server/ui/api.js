// The server's API: requests, what is wrong with them, and streams.

import { key } from './key.js';

const BASE = new URL('./', document.baseURI);

/** What the server refuses, in its words. A status of 0: it was not reached, or the connection broke. */
export class ApiError extends Error {
  /** @param {number} status @param {string} message @param {string} [code] */
  constructor(status, message, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * Asks the server.
 * @param {string} path such as `v1/models`
 * @param {{body?: any, signal?: AbortSignal}} [options]
 * @returns {Promise<Response>} with a good status
 * @throws {ApiError}
 */
export async function ask(path, { body, signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (key()) headers.Authorization = `Bearer ${key()}`;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response;
  try {
    const method = body === undefined ? 'GET' : 'POST';
    response = await fetch(new URL(path, BASE), { method, headers, body: body && JSON.stringify(body), signal, cache: 'no-store' });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, String(error.message ?? error));
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => null);
  const error = told?.error ?? {};
  throw new ApiError(response.status, String(error.message ?? response.statusText), error.code ?? undefined);
}

/** Time without a byte after which a stream is taken for lost; the server says something every 15 seconds. */
const SILENCE = 50_000;

/**
 * Asks for an answer as it comes.
 * @param {any} asked body of `/v1/chat/completions`
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<any>} the API's chunks
 * @throws {ApiError} also in the middle
 */
export async function* chunks(asked, signal) {
  const response = await ask('v1/chat/completions', { body: asked, signal });
  const body = /** @type {ReadableStream<Uint8Array>} */ (response.body);
  for await (const data of events(body.getReader(), signal)) {
    if (data === '[DONE]') return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(Number(chunk.error.status ?? 500), String(chunk.error.message), chunk.error.code);
    yield chunk;
  }
  throw new ApiError(0, 'the stream ended early');
}

/**
 * The data of server-sent events.
 * @param {ReadableStreamDefaultReader<Uint8Array>} reader
 * @param {AbortSignal} signal
 */
async function* events(reader, signal) {
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await next(reader, signal);
      if (done) return;
      const parts = (rest + decoder.decode(value, { stream: true })).split('\n\n');
      rest = parts.pop() ?? '';
      for (const part of parts) {
        const lines = part.split('\n').filter((line) => line.startsWith('data:'));
        if (lines.length > 0) yield lines.map((line) => line.slice(5).trimStart()).join('\n');
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The next bytes, or an error when none come. @param {ReadableStreamDefaultReader<Uint8Array>} reader @param {AbortSignal} signal */
async function next(reader, signal) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {Promise<never>} */
  const silence = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new ApiError(0, 'nothing has come for a long time')), SILENCE);
  });
  try {
    return await Promise.race([reader.read(), silence]);
  } catch (error) {
    if (signal.aborted || error instanceof ApiError) throw error;
    throw new ApiError(0, String(error.message ?? error));
  } finally {
    clearTimeout(timer);
  }
}
