// The page in a browser, as people use it.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, afterEach, test } from 'node:test';
import { answered, ask, begin, browser, end, faults, front, kept, lastAnswer, say, send, serve, soon, textOf, visit, watch } from './support.mjs';

after(end);
afterEach(async () => {
  // One that failed half-way takes no other with it.
  if (!front.server.listening) await front.start();
  assert.deepEqual(faults.splice(0), []);
});

test('first visit to first answer', async () => {
  const page = await visit();
  assert.equal(await page.getByRole('heading', { level: 1, name: 'What is on your mind?' }).count(), 1);
  await page.getByRole('button', { name: 'What is 7 times 8?' }).click();
  await send(page);
  await answered(page);
  assert.match(await textOf(page), /56/);
  assert.match(await lastAnswer(page).locator('.figures').innerText(), /^demo · \d+ tokens .*complete$/);
  await soon(() => page.title(), 'What is 7 times 8? · Glimmer');
  assert.match(await page.getByRole('meter').getAttribute('aria-valuetext'), /^\d+ of 2,048 tokens/);
  await page.context().close();
});

test('in Chinese, by the browser and by choice', async () => {
  const page = await visit({ locale: 'zh-CN' });
  await page.getByRole('heading', { name: '想聊点什么？' }).waitFor();
  await page.getByRole('textbox', { name: '消息' }).fill('27加45等于多少？');
  await send(page);
  await soon(() => textOf(page), /72/);
  assert.equal(await page.locator('html').getAttribute('lang'), 'zh-CN');
  await page.getByRole('button', { name: '设置' }).click();
  await page.locator('label', { hasText: 'English' }).click();
  await page.getByRole('link', { name: 'New conversation' }).waitFor();
  await soon(() => textOf(page), /72/);
  await page.context().close();
});

test('stop, go on, answer again, edit, branches', async () => {
  const page = await visit();
  await say(page, `!slowly ${'word '.repeat(400)}`);
  await soon(() => textOf(page), /word word/);
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByText('You stopped this answer.').waitFor();
  const stopped = await textOf(page);
  assert.ok(stopped.length < 1500);
  await page.getByRole('button', { name: 'Continue' }).click();
  await soon(() => textOf(page), /and the rest\.$/);
  assert.ok((await textOf(page)).startsWith(stopped.slice(0, 20)));
  assert.equal(front.asked.at(-1).messages.at(-1).role, 'assistant');
  await answered(page);

  await page.getByRole('button', { name: 'Edit' }).click();
  await page.getByRole('textbox', { name: 'Edit' }).fill('!say a second question');
  await page.keyboard.press('Enter');
  await soon(() => textOf(page), 'a second question');
  await answered(page);
  await page.getByRole('button', { name: 'Answer again' }).click();
  await soon(() => lastAnswer(page).locator('.versions').innerText(), /2 \/ 2/);
  await answered(page);
  await lastAnswer(page).getByRole('button', { name: 'Version before' }).click();
  await soon(() => lastAnswer(page).locator('.versions').innerText(), /1 \/ 2/);
  await page.locator('.message.user').getByRole('button', { name: 'Version before' }).click();
  await soon(() => textOf(page), /and the rest\.$/);
  await page.locator('.message.user').getByRole('button', { name: 'Next version' }).click();
  await soon(() => textOf(page), 'a second question');
  await lastAnswer(page).getByRole('button', { name: 'Delete' }).click();
  await soon(() => lastAnswer(page).locator('.versions').count(), 0);
  await page.context().close();
});

test('a reload finds the history, which is searched, renamed, pinned and deleted', async () => {
  const page = await visit();
  await ask(page, '!say The heron stands still.');
  await begin(page);
  await ask(page, '!say Another bird flies.');
  await page.reload();
  await soon(() => textOf(page), 'Another bird flies.');
  const side = page.getByRole('navigation', { name: 'Conversations' });
  await side.getByRole('link', { name: 'The heron' }).click();
  await soon(() => textOf(page), 'The heron stands still.');
  await page.keyboard.press('Control+k');
  await page.keyboard.type('FLIES bird');
  await soon(() => side.locator('li').count(), 1);
  await page.getByLabel('Search').fill('');
  await soon(() => side.locator('li').count(), 2);
  await side.getByRole('button', { name: /^What to do with .*heron/ }).click();
  await page.getByRole('menuitem', { name: 'Pin' }).click();
  await soon(() => side.locator('h2').first().innerText(), 'Pinned');
  await side.getByRole('button', { name: /^What to do with .*heron/ }).click();
  await page.getByRole('menuitem', { name: 'Rename' }).click();
  await page.getByRole('textbox', { name: 'Rename' }).fill('Herons');
  await page.keyboard.press('Enter');
  await side.getByRole('link', { name: 'Herons' }).waitFor();
  await side.getByRole('button', { name: /Herons/ }).click();
  await page.getByRole('menuitem', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await soon(() => side.locator('li').count(), 1);
  await page.context().close();
});

/** Holds the browser's store for a while, as a slow disk would. */
const holdStore = (page, ms) => page.evaluate((ms) => new Promise((resolve) => {
  const opening = indexedDB.open('glimmer');
  opening.onsuccess = () => {
    const until = performance.now() + ms;
    const store = opening.result.transaction(['conversations', 'messages'], 'readwrite').objectStore('messages');
    const hold = () => { if (performance.now() < until) store.count().onsuccess = hold; };
    hold();
    resolve();
  };
}), ms);

test('what is typed goes to the conversation that was chosen, however late it is shown', async () => {
  const page = await visit();
  await ask(page, '!say One.');
  await begin(page);
  await ask(page, '!say Two.');
  await page.reload();
  await soon(() => textOf(page), 'Two.');
  const field = await page.getByLabel('Your message').boundingBox();
  const before = front.asked.length;
  await holdStore(page, 1500);
  await page.getByRole('navigation').getByRole('link', { name: 'One.' }).click();
  await page.mouse.click(field.x + 50, field.y + 10);
  await page.keyboard.type('!say To whom?');
  await page.keyboard.press('Enter');
  await soon(() => textOf(page), 'One.');
  assert.equal(await page.getByLabel('Your message').inputValue(), '');
  await page.getByRole('navigation').getByRole('link', { name: 'Two.' }).click();
  await soon(() => textOf(page), 'Two.');
  assert.equal(front.asked.length, before);
  await page.context().close();
});

test('a conversation that changes just then does not come back over the one that was begun', async () => {
  const page = await visit();
  await ask(page, '!say Old.');
  await page.evaluate(() => {
    location.hash = '#/';
    document.querySelector('.composer .pill').click();
  });
  await page.locator('.chat.empty').waitFor();
  // What was begun and not sent is there again after a look elsewhere.
  await page.getByLabel('Your message').fill('half a thought');
  await page.getByRole('link', { name: 'Old.' }).click();
  await soon(() => textOf(page), 'Old.');
  await begin(page);
  assert.equal(await page.getByLabel('Your message').inputValue(), 'half a thought');
  await page.goBack();
  await soon(() => textOf(page), 'Old.');
  await page.context().close();
});

test('export, then import elsewhere', async () => {
  const page = await visit();
  await ask(page, '!say One answer.');
  await page.getByRole('button', { name: 'Answer again' }).click();
  await soon(() => lastAnswer(page).locator('.versions').innerText(), /2 \/ 2/);
  await answered(page);
  const save = async (name) => {
    await page.getByRole('button', { name: /^What to do with/ }).click();
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('menuitem', { name }).click()]);
    return fs.readFileSync(await download.path(), 'utf8');
  };
  const json = await save('Export as JSON');
  assert.deepEqual(JSON.parse(json).messages, [{ role: 'user', content: '!say One answer.' }, { role: 'assistant', content: 'One answer.' }]);
  assert.equal(await save('Export as Markdown'), '# !say One answer.\n\n## You\n\n!say One answer.\n\n## Model\n\nOne answer.\n');

  const other = await visit();
  const give = (name, text) => other.locator('nav input[type=file]').setInputFiles({ name, mimeType: 'application/json', buffer: Buffer.from(text) });
  await give('all.json', json);
  await soon(() => textOf(other), 'One answer.');
  await soon(() => lastAnswer(other).locator('.versions').innerText(), /2 \/ 2/);
  await give('openai.json', JSON.stringify({ messages: [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'Hi' }, { role: 'assistant', content: 'Hello **you**' }] }));
  await soon(() => textOf(other), 'Hello you');
  await give('bad.json', '{"messages": 3}');
  await other.getByText('bad.json holds no conversation that can be read.').waitFor();
  await page.context().close();
  await other.context().close();
});

test('two tabs in one conversation', async () => {
  const page = await visit();
  await ask(page, '!say First.');
  const other = await page.context().newPage();
  watch(other);
  await other.goto(page.url());
  await soon(() => textOf(other), 'First.');
  await ask(other, '!say From the other tab.');
  await soon(() => textOf(page), 'From the other tab.');
  // While one tab writes, the other asks the first question otherwise.
  await say(page, `!slowly ${'left '.repeat(40)}`);
  await soon(() => textOf(page), /left left/);
  await other.getByRole('button', { name: 'Edit' }).first().click();
  await other.getByRole('textbox', { name: 'Edit' }).fill('!say right');
  await other.keyboard.press('Enter');
  await soon(() => textOf(other), 'right');
  await answered(other);
  await answered(page);
  const left = 'left '.repeat(40).trim();
  assert.equal(await textOf(page), left);
  for (const tab of [page, other]) {
    await tab.reload();
    const versions = tab.locator('.message.user .versions').first();
    await versions.waitFor();
    if ((await versions.innerText()).includes('1 / 2')) await versions.getByRole('button', { name: 'Next version' }).click();
    await soon(() => textOf(tab), 'right');
    await versions.getByRole('button', { name: 'Version before' }).click();
    await soon(() => textOf(tab), left);
  }
  await page.context().close();
});

/** What the browser's store has of all conversations. */
const stored = (page) => page.evaluate(() => new Promise((resolve) => {
  const opening = indexedDB.open('glimmer');
  opening.onsuccess = () => { opening.result.transaction('messages').objectStore('messages').getAll().onsuccess = (event) => resolve(event.target.result); };
}));

test('two tabs that ask at the same moment lose nothing', async () => {
  const page = await visit();
  await ask(page, '!say First.');
  const other = await page.context().newPage();
  watch(other);
  await other.goto(page.url());
  await soon(() => textOf(other), 'First.');
  const tabs = { left: page, right: other };
  const rounds = [1, 2, 3];
  for (const round of rounds) {
    for (const [name, tab] of Object.entries(tabs)) {
      await tab.getByLabel('Your message').fill(`!say ${name} ${round}`);
      await tab.locator('.composer .send:enabled').waitFor();
    }
    await Promise.all(Object.values(tabs).map((tab) => tab.keyboard.press('Enter')));
    await Promise.all(Object.values(tabs).map(answered));
  }
  const all = await stored(page);
  const answers = all.filter((one) => one.role === 'assistant');
  assert.deepEqual(answers.map((one) => [one.text, one.state]).sort(), ['First.', ...rounds.flatMap((round) => [`left ${round}`, `right ${round}`])].map((text) => [text, 'done']).sort());
  for (const one of answers) assert.equal(all.find(({ id }) => id === one.parent).text, `!say ${one.text}`);
  // After a reload each tab reaches all of them, by the buttons that go through versions.
  for (const tab of Object.values(tabs)) {
    await tab.reload();
    await tab.locator('.message.assistant').first().waitFor();
    const seen = new Set();
    const look = async () => {
      for (const text of await tab.locator('.message.assistant .answer').allTextContents()) seen.add(text.trim());
    };
    const back = tab.getByRole('button', { name: 'Version before' }).and(tab.locator(':enabled'));
    const on = tab.getByRole('button', { name: 'Next version' }).and(tab.locator(':enabled'));
    for (const [button, steps] of [[back, 8], [on, 8]]) {
      for (let step = 0; step < steps && await button.count() > 0; step += 1) {
        await look();
        await button.last().click();
      }
      await look();
    }
    assert.equal(seen.size, answers.length, [...seen].join());
  }
  await page.context().close();
});

test('a question beside an answer is reached as well', async () => {
  const page = await visit();
  await page.getByRole('heading', { level: 1, name: 'What is on your mind?' }).waitFor();
  const message = (id, parent, role, text, created) => ({ id, parent, role, text, created, state: 'done' });
  const messages = [message('q1', null, 'user', 'One?', 1), message('a1', 'q1', 'assistant', 'One.', 2), message('q2', 'q1', 'user', 'Two?', 3), message('a2', 'q2', 'assistant', 'Two.', 4)];
  const file = Buffer.from(JSON.stringify({ glimmer: { conversation: { title: 'Both' }, messages } }));
  await page.locator('nav input[type=file]').setInputFiles({ name: 'both.json', mimeType: 'application/json', buffer: file });
  await soon(() => textOf(page), 'Two.');
  await page.locator('.message.user').last().getByRole('button', { name: 'Version before' }).click();
  await soon(() => textOf(page), 'One.');
  await lastAnswer(page).getByRole('button', { name: 'Next version' }).click();
  await soon(() => textOf(page), 'Two.');
  await page.context().close();
});

test('settings reach the model, and a schema is kept to', async () => {
  const page = await visit();
  await page.getByRole('button', { name: 'Settings' }).click();
  assert.notEqual(await page.getByLabel('Temperature').getAttribute('placeholder'), 'model’s own');
  await page.getByRole('textbox', { name: 'System prompt' }).fill('Be brief.');
  await page.getByLabel('Temperature').fill('0.25');
  await page.getByLabel('Seed').fill('7');
  await page.getByLabel('Longest answer').fill('60');
  await page.getByRole('textbox', { name: 'Form of answers' }).fill('nonsense');
  await page.getByLabel('Seed').focus();
  await page.getByText('This is no JSON object.').waitFor();
  await page.getByRole('textbox', { name: 'Form of answers' }).fill('{"type":"object","properties":{"sum":{"type":"integer"}},"required":["sum"],"additionalProperties":false}');
  await page.getByText('Ask for the probabilities').click();
  await page.getByRole('button', { name: 'Close' }).last().click();
  await ask(page, 'What is 7 times 8?');
  assert.equal(typeof JSON.parse(await textOf(page)).sum, 'number');
  const asked = front.asked.at(-1);
  assert.deepEqual([asked.temperature, asked.seed, asked.max_tokens, asked.messages[0].content], [0.25, 7, 60, 'Be brief.']);
  await page.getByRole('button', { name: 'Tokens and their probabilities' }).click();
  await page.locator('.token').first().focus();
  assert.match(await page.locator('.token-detail').innerText(), /%/);
  await page.context().close();
});

test('a thought is folded, with its time', async () => {
  const page = await visit();
  await page.getByRole('button', { name: 'Thinking: auto' }).click();
  await say(page, '!think It is so.');
  await page.getByText(/^Thinking… /).waitFor();
  await answered(page);
  await page.getByText(/^Thought for \d+\.\d s$/).waitFor();
  assert.equal(await page.locator('.thinking').isVisible(), false);
  await page.getByText(/^Thought for/).click();
  assert.match(await page.locator('.thinking').innerText(), /^The user wants/);
  assert.equal(front.asked.at(-1).enable_thinking, true);
  assert.equal(await textOf(page), 'It is so.');
  await page.context().close();
});

test('calls are cards, answered by hand or as was fixed', async () => {
  const page = await visit();
  await ask(page, '!call {"city": "Oslo"}');
  await page.getByLabel('Result').fill('-3');
  await page.getByRole('button', { name: 'Return to the model' }).click();
  await soon(() => textOf(page), 'It returned -3.');
  assert.deepEqual(front.asked.at(-1).messages.at(-1), { role: 'tool', tool_call_id: 'call_1', content: '-3' });
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.getByRole('textbox', { name: 'Tools' }).fill('[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}},"result":"sun"}]');
  await page.getByRole('button', { name: 'Close' }).last().click();
  await ask(page, '!call {"city": "Rome"}');
  await soon(() => textOf(page), 'It returned sun.');
  assert.equal(front.asked.at(-1).tools[0].result, undefined);
  await page.context().close();
});

test('a server that is killed in mid-answer, and comes back', async () => {
  const page = await visit();
  await say(page, `!slowly ${'half '.repeat(200)}`);
  await soon(() => textOf(page), /half half half/);
  await front.kill();
  await page.getByText('The connection broke. What had come is kept.').waitFor();
  await kept(page);
  const had = await textOf(page);
  await front.start();
  await page.goto(front.url);
  await page.getByRole('navigation').getByRole('link', { name: /half/ }).click();
  await soon(async () => (await textOf(page)).startsWith(had), true);
  await page.getByRole('button', { name: 'Try again' }).click();
  await soon(() => lastAnswer(page).locator('.answer').innerText(), /^half half/);
  await page.getByRole('button', { name: 'Stop' }).click();
  await soon(() => lastAnswer(page).locator('.versions').innerText(), /2 \/ 2/);
  await page.context().close();
});

test('how far a prompt is read, and an answer that reached its limit', async () => {
  const page = await visit();
  await say(page, '!prompt done');
  await page.getByText(/Reading the prompt: \d+ %/).waitFor();
  await answered(page);
  await ask(page, '!length half a');
  await page.getByText('The answer reached the limit of its length.').waitFor();
  await page.getByRole('button', { name: 'Continue' }).click();
  await soon(() => textOf(page), 'half a and the rest.');
  await page.context().close();
});

test('a model that is not loaded is loaded when it is asked, and its progress is shown', async () => {
  const page = await visit({ before: () => localStorage.setItem('glimmer.preferences', '{"model":"other"}') });
  let value = 'unloaded';
  await page.route('**/v1/models', async (route) => {
    const response = await route.fetch();
    const list = await response.json();
    list.data.push({ id: 'other', object: 'model', created: 1, owned_by: 'glimmer', status: { value, progress: 0.4 } });
    route.fulfill({ response, json: list });
  });
  await page.reload();
  await page.getByRole('button', { name: /^Model: other/ }).click();
  await page.getByText('not loaded; is loaded when it is asked').waitFor();
  await page.keyboard.press('Escape');
  value = 'loading';
  await say(page, '!wait 4000');
  await page.getByText('being loaded: 40 %').waitFor();
  await answered(page);
  await page.context().close();
});

test('files of text go along, others do not', async () => {
  const page = await visit();
  const give = (name, content) => page.locator('.composer input[type=file]').setInputFiles({ name, mimeType: 'text/plain', buffer: Buffer.from(content) });
  await give('picture.bin', Buffer.from([0, 255, 1]));
  await page.getByText('picture.bin is not a text file.').waitFor();
  await give('numbers.csv', 'a,b\n1,2\n');
  await ask(page, '!say Seen.');
  assert.equal(front.asked.at(-1).messages[0].content, '[File Name]\nnumbers.csv\n[File Content]\na,b\n1,2\n\n\n!say Seen.');
  await page.locator('.file').getByText('numbers.csv').waitFor();
  await page.context().close();
});

/** A picture of one colour, drawn by the page itself. */
const drawn = (page, width, height, type = 'image/png') => page.evaluate(async ([width, height, type]) => {
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  const context = canvas.getContext('2d');
  // Noise, so that a large one is large.
  const pixels = context.createImageData(width, height);
  let seed = 1;
  for (let at = 0; at < pixels.data.length; at += 1) pixels.data[at] = at % 4 === 3 ? 255 : (seed = (seed * 16807) % 2147483647) & 255;
  context.putImageData(pixels, 0, 0);
  const bytes = new Uint8Array(await (await new Promise((resolve) => canvas.toBlob(resolve, type))).arrayBuffer());
  return Array.from(bytes);
}, [width, height, type]);

test('a model that sees is shown pictures, and they stay in the conversation', async () => {
  const blind = await visit();
  const tiny = Buffer.from(await drawn(blind, 8, 4));
  const give = (page, name, mimeType, buffer) => page.locator('.composer input[type=file]').first().setInputFiles({ name, mimeType, buffer });
  await blind.locator('.composer .send').waitFor();
  assert.equal(await blind.getByRole('button', { name: 'Show a picture' }).isVisible(), false);
  await give(blind, 'tiny.png', 'image/png', tiny);
  await blind.getByText('demo sees no pictures.').waitFor();
  await blind.context().close();

  front.sees = true;
  try {
    const page = await visit();
    await page.getByRole('button', { name: 'Show a picture' }).waitFor();
    await give(page, 'nonsense.png', 'image/png', Buffer.from('nonsense'));
    await page.getByText('nonsense.png is no picture that can be shown.').waitFor();
    await give(page, 'tiny.png', 'image/png', tiny);
    await page.locator('.chips').getByText('tiny.png').waitFor();
    // One that is dropped, and too large to be kept as it is.
    const large = await drawn(page, 2600, 300);
    assert.ok(large.length > 1 << 20);
    await page.evaluate((bytes) => {
      const files = new DataTransfer();
      files.items.add(new File([new Uint8Array(bytes)], 'large.png', { type: 'image/png' }));
      document.querySelector('.composer').dispatchEvent(new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true }));
    }, large);
    await page.locator('.chips').getByText('large.png').waitFor();
    // And one that is pasted, and taken back.
    await page.evaluate((bytes) => {
      const files = new DataTransfer();
      files.items.add(new File([new Uint8Array(bytes)], 'pasted.png', { type: 'image/png' }));
      document.querySelector('.composer textarea').dispatchEvent(new ClipboardEvent('paste', { clipboardData: files, bubbles: true }));
    }, [...tiny]);
    await page.getByRole('button', { name: 'Remove pasted.png' }).click();
    await ask(page, '!say A small one and a large one.');
    const [small, smaller, text] = front.asked.at(-1).messages[0].content;
    assert.equal(small.image_url.url, `data:image/png;base64,${tiny.toString('base64')}`);
    assert.match(smaller.image_url.url, /^data:image\/jpeg;base64,/);
    assert.deepEqual(text, { type: 'text', text: '!say A small one and a large one.' });
    const shown = page.locator('.message.user .picture img');
    await soon(() => shown.count(), 2);
    assert.deepEqual(await shown.last().evaluate((image) => [image.naturalWidth, image.naturalHeight]), [2048, 236]);
    await page.getByRole('button', { name: 'tiny.png: show it large or small' }).click();
    await page.locator('.picture.large').waitFor();
    // They come along with the next question, and are there when the page is opened again.
    await page.reload();
    await soon(() => shown.count(), 2);
    await ask(page, '!say Again.');
    assert.equal(front.asked.at(-1).messages[0].content.length, 3);
    assert.equal(front.asked.at(-1).messages.at(-1).content, '!say Again.');
    await page.context().close();
  } finally {
    front.sees = false;
  }
});

test('a long text that is pasted goes along as a file, a short one is text', async () => {
  const page = await visit();
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.locator('.composer .send').waitFor();
  const paste = async (text) => {
    await page.evaluate((text) => navigator.clipboard.writeText(text), text);
    await page.getByLabel('Your message').focus();
    await page.keyboard.press('Control+v');
  };
  await paste('!say Short.');
  await soon(() => page.getByLabel('Your message').inputValue(), '!say Short.');
  await paste('long '.repeat(700));
  await page.locator('.chips').getByText(/^Pasted [\d.]+\.txt$/).waitFor();
  await send(page);
  await answered(page);
  assert.match(front.asked.at(-1).messages[0].content, /^\[File Name\]\nPasted [\d.]+\.txt\n\[File Content\]\n(long ){700}\n\n!say Short\.$/);
  await page.context().close();
});

test('a question in the address waits to be sent', async () => {
  const before = front.asked.length;
  const page = await visit({ path: '?q=!say+Linked.%0AYes.' });
  await soon(() => page.getByLabel('Your message').inputValue(), '!say Linked.\nYes.');
  assert.equal(new URL(page.url()).search, '');
  assert.equal(front.asked.length, before);
  await send(page);
  await answered(page);
  await soon(() => textOf(page), 'Linked. Yes.');
  await page.context().close();
});

test('Markdown, code, tables and maths', async () => {
  const page = await visit();
  await ask(page, '!say # Title\n\n- one\n- two\n\n```python\ndef f(x):\n    return x\n```\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\nInline $e^{i\\pi}$ and\n\n$$\\int_0^1 x\\,dx$$\n\n![tower](https://example.org/a.png) costs $5 and $6.');
  const answer = lastAnswer(page).locator('.answer');
  await answer.locator('.hljs-keyword').first().waitFor();
  await soon(() => answer.locator('.katex').count(), 2);
  assert.equal(await answer.locator('td.align-right').innerText(), '2');
  assert.equal(await answer.locator('img').count(), 0);
  assert.equal(await answer.getByRole('link', { name: 'tower' }).getAttribute('rel'), 'noopener noreferrer nofollow');
  assert.match(await answer.innerText(), /costs \$5 and \$6\./);
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await answer.locator('.code-head button').click();
  await soon(() => page.evaluate(() => navigator.clipboard.readText()), 'def f(x):\n    return x\n');
  await page.context().close();
});

test('a growing answer looks as it does when it is whole', async () => {
  const page = await visit();
  const text = 'Some *words*.\n\n1. first\n\n2. second\n   - deep\n\n> quoted\n> more\n\n```js\nconst a = 1;\n\nconst b = 2;\n```\n\nA [link][x] at last.\n\n[x]: https://example.org/\n\n---\n\n| h |\n|---|\n| c |\n\nEnd.';
  await ask(page, `!rate 60 120 ${text}${'\n\nMore and more.'.repeat(3)}`);
  const seen = () => page.evaluate(() => {
    const copy = document.querySelector('.message.assistant .answer').cloneNode(true);
    copy.querySelectorAll('.live').forEach((live) => live.replaceWith(...live.childNodes));
    copy.querySelectorAll('button').forEach((button) => button.remove());
    return copy.innerHTML.replace(/\n/g, '');
  });
  await page.locator('.hljs-keyword').first().waitFor();
  const grown = await seen();
  await page.reload();
  await page.locator('.message.assistant .answer a').first().waitFor();
  await page.locator('.hljs-keyword').first().waitFor();
  assert.equal(grown, await seen());
  await page.context().close();
});

test('a key is asked for, and kept no longer than wanted', async () => {
  const file = path.join(os.tmpdir(), `keys-${process.pid}`);
  fs.writeFileSync(file, 'sk-right\n');
  const server = await serve('demo', '--api-keys', file);
  const page = await visit({ url: `${server.url}/` });
  await page.getByLabel('API key').fill('sk-wrong');
  await page.keyboard.press('Enter');
  await page.getByText('The server does not accept this key.').waitFor();
  await page.getByLabel('API key').fill('sk-right');
  await page.keyboard.press('Enter');
  await ask(page, 'What is 7 times 8?');
  assert.match(await textOf(page), /56/);
  await page.reload();
  await soon(() => textOf(page), /56/);
  const other = await page.context().newPage();
  await other.goto(`${server.url}/`);
  await other.getByLabel('API key').waitFor();
  await page.context().close();
  server.stop();
  fs.rmSync(file);
});

test('on a phone of 320 pixels', async () => {
  const page = await visit({ viewport: { width: 320, height: 640 }, hasTouch: true, isMobile: true });
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth);
  assert.equal(await wide(), 320);
  await page.getByLabel('Your message').fill(`!say ${'A'.repeat(300)}\n\n| ${'wide | '.repeat(12)}\n|${'---|'.repeat(12)}\n\n\`\`\`text\n${'x'.repeat(400)}\n\`\`\``);
  await page.getByRole('button', { name: 'Send' }).click();
  await answered(page);
  assert.equal(await wide(), 320);
  await page.getByRole('button', { name: 'Conversations' }).click();
  await begin(page);
  await page.getByRole('heading', { name: 'What is on your mind?' }).waitFor();
  await page.getByRole('button', { name: 'Settings' }).click();
  assert.equal(await wide(), 320);
  await page.context().close();
});

test('with the keyboard alone', async () => {
  const page = await visit();
  const press = async (...keys) => { for (const key of keys) await page.keyboard.press(key); };
  await page.keyboard.type('What is 7 times 8?');
  await send(page);
  await answered(page);
  await press('Control+Shift+O');
  await page.getByRole('heading', { name: 'What is on your mind?' }).waitFor();
  await page.keyboard.type('!say second');
  await send(page);
  await answered(page);
  // From the field back to the answer's buttons.
  await press('Shift+Tab', 'Shift+Tab');
  await soon(() => page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Answer again');
  await press('Enter');
  await soon(() => lastAnswer(page).locator('.versions').innerText(), /2 \/ 2/);
  await answered(page);
  await press('Control+,');
  await page.getByRole('dialog').waitFor();
  await press('Escape');
  await soon(() => page.getByRole('dialog').count(), 0);
  await page.getByRole('button', { name: /^Model: demo/ }).focus();
  await press('Enter');
  await page.getByRole('menuitemradio').waitFor();
  await press('Escape');
  await soon(() => page.evaluate(() => document.activeElement.className), 'model');
  await page.context().close();
});

test('no violation of WCAG AA, dark and light, in any view', async () => {
  const axe = fs.readFileSync(path.join(process.env.NODE_MODULES, 'axe-core/axe.min.js'), 'utf8');
  for (const colorScheme of ['light', 'dark']) {
    const page = await visit({ colorScheme });
    const check = async (what) => {
      await page.waitForTimeout(250);
      await page.evaluate(`${axe};0`);
      const { violations } = await page.evaluate(() => axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }));
      assert.deepEqual(violations.map((one) => [what, one.id, one.nodes.map((node) => `${node.html.slice(0, 160)} ${node.failureSummary}`)]), []);
    };
    await page.getByRole('button', { name: 'What can you do?' }).waitFor();
    await check('empty');
    await ask(page, '!think # Title\n\n```python\n# why\ndef f(x: int) -> str:\n    return "a" + str(1)\n```\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n> quote `code` [link](https://example.org)\n\n$x^2$');
    await page.getByText(/^Thought for/).click();
    await check('answer');
    await ask(page, '!call {"city": "Oslo"}');
    await check('call');
    await page.getByRole('button', { name: 'Settings' }).click();
    await check('settings');
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: /^What to do with/ }).first().focus();
    await page.keyboard.press('Enter');
    await check('menu');
    await page.keyboard.press('Escape');
    for (const name of ['models', 'status', 'vectors']) {
      await page.goto(`${front.url}#/${name}`);
      await page.waitForTimeout(700);
      await check(name);
    }
    await page.context().close();
  }
});

test('the catalogue, and what a model takes on this machine', async () => {
  const page = await visit({ path: '#/models' });
  const link = page.getByRole('link', { name: 'glm-edge-1.5b-chat', exact: true });
  await link.waitFor();
  await page.getByRole('searchbox', { name: 'Search' }).last().fill('edge vision');
  await soon(() => link.count(), 0);
  await page.getByRole('searchbox', { name: 'Search' }).last().fill('edge chat');
  await link.click();
  await page.getByRole('img', { name: 'Speed and memory by quantization' }).waitFor({ timeout: 60_000 });
  await page.getByRole('row', { name: /^Q4_K_M/ }).waitFor();
  await page.getByRole('button', { name: 'Models' }).click();
  await link.waitFor();
  await page.context().close();
});

test('what the server is doing', async () => {
  const page = await visit();
  await ask(page, 'What is 7 times 8?');
  await page.getByRole('link', { name: 'Status' }).click();
  await page.getByRole('heading', { name: 'demo' }).waitFor();
  await page.getByRole('row', { name: /^Until the first token ≤/ }).waitFor();
  await page.getByRole('link', { name: 'New conversation' }).click();
  await page.getByRole('heading', { name: 'What is on your mind?' }).waitFor();
  await page.context().close();
});

test('two texts are compared', async () => {
  const page = await visit({ path: '#/vectors' });
  await page.getByText('No embedding model is served').waitFor();
  await page.route('**/v1/models', async (route) => {
    const response = await route.fetch();
    const list = await response.json();
    list.data.push({ id: 'vectors', object: 'model', created: 1, owned_by: 'glimmer', max_model_len: 512, meta: { n_embd: 2 } });
    route.fulfill({ response, json: list });
  });
  await page.route('**/v1/embeddings', (route) => route.fulfill({ json: { data: [{ embedding: [1, 0] }, { embedding: [1, 1] }] } }));
  await page.reload();
  await page.getByLabel('Text 1').fill('a');
  await page.getByLabel('Text 2').fill('b');
  await page.getByRole('button', { name: 'Compare' }).click();
  await page.getByText('0.707').waitFor();
  await page.context().close();
});

test('offline the page opens with its conversations', async () => {
  const page = await visit({ serviceWorkers: 'allow' });
  await ask(page, '!say Kept.');
  await page.evaluate(async () => { await navigator.serviceWorker.ready; });
  await front.kill();
  await page.goto(page.url());
  await page.reload();
  await soon(() => textOf(page), 'Kept.');
  await page.getByText('The server cannot be reached.').waitFor();
  await front.start();
  await soon(() => page.getByText('The server cannot be reached.').count(), 0);
  await page.context().close();
});

test('both languages say the same things, and all that the page says', async () => {
  const ui = process.env.PAGE_UI;
  const [{ default: en }, { default: zh }] = await Promise.all(['en', 'zh'].map((name) => import(path.join(ui, 'words', `${name}.js`))));
  assert.deepEqual(Object.keys(zh), Object.keys(en));
  const blanks = (text) => (text.match(/\{\w+\}/g) ?? []).sort();
  for (const key of Object.keys(en)) assert.deepEqual(blanks(zh[key]), blanks(en[key]), key);
  const code = fs.readdirSync(ui).filter((name) => name.endsWith('.js')).map((name) => fs.readFileSync(path.join(ui, name), 'utf8')).join('\n');
  for (const [, key] of code.matchAll(/\bt\('([^']+)'/g)) assert.ok(key in en, `${key} is not there`);
});
