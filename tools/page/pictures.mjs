// Pictures of the page, to be looked at: `run.sh` leaves them out. Usage: GLIMMER=.. NODE_MODULES=.. node pictures.mjs FOLDER
// With NAME after FOLDER only those whose name begins with it.

import path from 'node:path';
import { answered, browser, end, soon, textOf, visit } from './support.mjs';

const [folder, only = ''] = process.argv.slice(2);

const RAINBOW = `Rainbows form when sunlight meets falling drops of water. Three things happen in every drop:

1. **Refraction.** The light bends as it enters, each colour by its own angle.
2. **Reflection.** It is thrown back from the far side.
3. **Dispersion.** Leaving the drop, the colours spread further apart.

The bow is seen at about $42^\\circ$ from the point opposite the sun, since that is where the deviation

$$D(\\theta) = 180^\\circ + 2\\theta - 4\\arcsin\\!\\left(\\frac{\\sin\\theta}{n}\\right)$$

has its minimum for $n \\approx 1.33$.`;

const PRIMES = `Here is a sieve; it needs only the integers up to \`limit\`:

\`\`\`python
def primes(limit: int) -> list[int]:
    """All primes below \`limit\`."""
    sieve = [True] * limit
    for n in range(2, int(limit ** 0.5) + 1):
        if sieve[n]:
            sieve[n * n :: n] = [False] * len(sieve[n * n :: n])
    return [n for n in range(2, limit) if sieve[n]]
\`\`\`

| limit | primes | time |
|---|--:|--:|
| 1,000 | 168 | 0.1 ms |
| 1,000,000 | 78,498 | 92 ms |
`;

/** A question that reads well, with a script's answer. */
async function scripted(page, question, script) {
  await page.route('**/v1/chat/completions', (route) => {
    const body = JSON.parse(route.request().postData());
    body.messages.at(-1).content = body.messages.at(-1).role === 'user' ? script : body.messages.at(-1).content;
    route.continue({ postData: JSON.stringify(body) });
  });
  await page.getByLabel('Your message').fill(question);
  await page.getByRole('button', { name: 'Send' }).click();
}

async function old(page) {
  await page.getByRole('heading', { level: 1, name: 'What is on' }).waitFor();
  const some = ['Letters of Mozart', 'Tokyo in four days', 'A name for a cat', 'Sourdough, again'].map((title) => ({ title, messages: [{ role: 'user', content: title }, { role: 'assistant', content: '…' }] }));
  await page.locator('nav input[type=file]').setInputFiles({ name: 'a.json', mimeType: 'application/json', buffer: Buffer.from(JSON.stringify(some)) });
  await page.waitForTimeout(300);
  await page.evaluate(() => document.querySelector('.toast')?.remove());
}

const PICTURES = {
  async welcome(page) { await old(page); },
  async maths(page) {
    await old(page);
    await scripted(page, 'Explain how rainbows form.', `!think ${RAINBOW}`);
    await answered(page);
    await page.locator('.katex').first().waitFor();
  },
  async code(page) {
    await old(page);
    await scripted(page, 'Write a Python function that finds prime numbers.', `!say ${PRIMES}`);
    await answered(page);
    await page.locator('.hljs-keyword').first().waitFor();
  },
  async thinking(page) {
    await scripted(page, 'Should I take the train or the car?', `!think ${'Take the train. '.repeat(30)}`);
    await page.getByText(/^Thinking…/).click();
    await page.waitForTimeout(300);
  },
  async tools(page) {
    await scripted(page, 'How cold is it in Oslo?', '!call {"city": "Oslo", "unit": "celsius"}');
    await answered(page);
  },
  async tokens(page) {
    await page.getByRole('button', { name: 'Settings' }).click();
    await page.getByText('Ask for the probabilities').click();
    await page.keyboard.press('Escape');
    await page.getByLabel('Your message').fill('What can you do?');
    await page.getByRole('button', { name: 'Send' }).click();
    await answered(page);
    await page.getByRole('button', { name: 'Tokens and their probabilities' }).click();
    await page.locator('.token').nth(4).hover();
  },
  async lost(page) {
    await scripted(page, 'Write a long story.', `!length ${'Once upon a time there was a fox. '.repeat(12)}`);
    await answered(page);
  },
  async settings(page) {
    await page.getByRole('button', { name: 'Settings' }).click();
  },
  async status(page) {
    await page.goto(`${page.url()}#/status`);
    await page.waitForTimeout(6000);
  },
  async model(page) {
    await page.goto(`${page.url()}#/models/glm-4-9b-chat`);
    await page.locator('.plot').first().waitFor({ timeout: 60_000 });
    await page.evaluate(() => { document.querySelector('.sheet').scrollTop = 450; });
  },
  async models(page) { await page.goto(`${page.url()}#/models`); },
  async menu(page) {
    await old(page);
    const sidebar = page.getByRole('button', { name: 'Conversations', exact: true });
    if (await sidebar.isVisible()) await sidebar.click();
    await page.getByRole('button', { name: /^What to do with/ }).first().click();
  },
};

const LOOKS = {
  light: {}, dark: { colorScheme: 'dark' }, phone: { viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true, deviceScaleFactor: 1.5 },
};

for (const [name, draw] of Object.entries(PICTURES)) {
  for (const [look, options] of Object.entries(LOOKS)) {
    if (!`${name}-${look}`.startsWith(only)) continue;
    const page = await visit({ viewport: { width: 1180, height: 760 }, ...options });
    page.setDefaultTimeout(4000);
    await draw(page).catch((error) => console.log(name, look, error.message.split('\n')[0]));
    await page.waitForTimeout(250);
    await page.screenshot({ path: path.join(folder, `${name}-${look}.png`) });
    await page.context().close();
  }
}
if ('chinese'.startsWith(only)) {
  const page = await visit({ locale: 'zh-CN', viewport: { width: 1180, height: 760 } });
  await page.getByRole('textbox', { name: '消息' }).fill('27加45等于多少？');
  await page.keyboard.press('Enter');
  await soon(() => textOf(page), /72/);
  await page.waitForTimeout(400);
  await page.screenshot({ path: path.join(folder, 'chinese.png') });
}
await browser.close();
await end();
