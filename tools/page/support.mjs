// What the tests of the page share: a server, a browser, and ways to say what is to be seen.

import { spawn } from 'node:child_process';
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { Front } from './front.mjs';

/** Starts `glimmer serve`; returns its address and a way to end it. */
export async function serve(...flags) {
  const child = spawn(process.env.GLIMMER, ['serve', '--port', '0', ...flags], { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  const url = await new Promise((resolve, reject) => {
    child.stderr.on('data', (data) => {
      log += data;
      const found = log.match(/^note: serving .* at (http:[^;]*);/m);
      if (found) resolve(found[1]);
    });
    child.on('exit', () => reject(new Error(`the server does not start: ${log}`)));
  });
  return { url, stop: () => child.kill() };
}

export const backend = process.env.PAGE_BACKEND ? { url: process.env.PAGE_BACKEND, stop() {} } : await serve('demo');
export const front = new Front(backend.url);
await front.start();
export const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });

/** Ends what was started. */
export async function end() {
  await browser.close();
  await front.kill();
  backend.stop();
}

/** Everything that a page said was wrong, and every request it made elsewhere. */
export const faults = [];

/**
 * A page of a browser that knows nothing yet.
 * @param {any} [options] of its context
 */
export async function visit({ path = '', url = front.url, before, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: 'en', serviceWorkers: 'block', acceptDownloads: true, ...options });
  const page = await context.newPage();
  watch(page);
  if (before) await page.addInitScript(before);
  await page.goto(url + path);
  return page;
}

export function watch(page) {
  page.setDefaultTimeout(10_000);
  page.setDefaultNavigationTimeout(30_000);
  page.on('pageerror', (error) => faults.push(`${error.message}\n${error.stack}`));
  page.on('console', (message) => {
    // The browser tells of every request that is refused; the tests have some refused.
    if (message.type() === 'error' && !/Failed to load resource|ERR_/.test(message.text())) faults.push(message.text());
  });
  page.on('request', (request) => {
    const { protocol, hostname } = new URL(request.url());
    if (!['data:', 'blob:'].includes(protocol) && hostname !== '127.0.0.1') faults.push(`asked ${request.url()}`);
  });
}

/** Begins a conversation, and waits until it is shown. */
export async function begin(page) {
  await page.getByRole('link', { name: 'New conversation' }).click();
  await page.locator('.chat.empty').waitFor();
}

/** Writes a question and waits for the whole answer. */
export async function ask(page, question) {
  const before = await page.locator('.message.user').count();
  await say(page, question);
  await page.locator('.message.user').nth(before).waitFor();
  await answered(page);
}

export async function say(page, question) {
  await page.getByLabel('Your message').fill(question);
  await send(page);
}

/** Sends what is in the field; the models that are served are known first. */
export async function send(page) {
  await page.locator('.composer .send:enabled').waitFor();
  await page.keyboard.press('Enter');
}

/** Waits until the last answer is whole, shown, and in the browser's store: a page that goes before that loses some. */
export async function answered(page) {
  await page.locator('.thread > .assistant:last-child > footer:not([hidden])').waitFor();
  await page.locator('.composer .send[aria-label=Send]').waitFor();
  await kept(page);
}

/** Waits for all that is on its way into the store: transactions come one after the other. */
export function kept(page) {
  return page.evaluate(() => new Promise((resolve, reject) => {
    const opening = indexedDB.open('glimmer');
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const transaction = opening.result.transaction(['conversations', 'messages']);
      transaction.objectStore('conversations').count();
      transaction.oncomplete = () => { opening.result.close(); resolve(); };
    };
  }));
}

export const lastAnswer = (page) => page.locator('.message.assistant').last();
export const textOf = (page) => lastAnswer(page).locator('.answer').innerText();

/** What is found in time. @param {() => Promise<any>} look */
export async function soon(look, wanted) {
  const until = Date.now() + 8000;
  for (;;) {
    const found = await look();
    if (wanted instanceof RegExp ? wanted.test(found) : found === wanted) return;
    if (Date.now() > until) assert.fail(`${JSON.stringify(found)}, wanted ${wanted}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
