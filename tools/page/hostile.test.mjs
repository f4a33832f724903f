// What a hostile model could write. Each probe would set a flag or ask a listener on this machine; none may.

import assert from 'node:assert/strict';
import http from 'node:http';
import { after, test } from 'node:test';
import { ask, end, faults, front, lastAnswer, soon, visit } from './support.mjs';

const asked = [];
const listener = http.createServer((request, response) => {
  asked.push(request.url);
  response.end();
});
await new Promise((resolve) => { listener.listen(0, '127.0.0.1', resolve); });
const L = `http://127.0.0.1:${listener.address().port}/probe`;
const J = `window.flag=1;fetch('${L}')`;
const B64 = Buffer.from(`<script>${J}</script>`).toString('base64');
after(async () => {
  listener.close();
  await end();
});

const HTML = [
  `<script>${J}</script>`, `<script src="${L}"></script>`, `<img src=x onerror="${J}">`, `<IMG SRC=x OnErRoR=${J}>`, `<svg onload="${J}">`, `<svg><script>${J}</script></svg>`,
  `<iframe srcdoc="<script>parent.flag=1</script>"></iframe>`, `<iframe src="javascript:${J}"></iframe>`, `<iframe src="${L}"></iframe>`, `<object data="${L}"></object>`,
  `<embed src="${L}">`, `<link rel="stylesheet" href="${L}">`, `<style>@import "${L}";</style>`, `<style>*{background:url(${L})}</style>`, `<base href="${L}/">`,
  `<meta http-equiv="refresh" content="0;url=${L}">`, `<form action="${L}"><button>x</button></form>`, `<input autofocus onfocus="${J}">`, `<details open ontoggle="${J}">x</details>`,
  `<video><source onerror="${J}"></video>`, `<audio src="${L}" autoplay></audio>`, `<video poster="${L}"></video>`, `<body onload="${J}">`, `<table background="${L}"><tr><td>x</table>`,
  `<div style="background:url(${L})">x</div>`, `<marquee onstart="${J}">x</marquee>`, `<img srcset="${L} 1x">`, `<picture><source srcset="${L}"><img></picture>`,
  `<math><mtext><table><mglyph><style><img src=x onerror="${J}"></style></mglyph></table></mtext></math>`, `<noscript><p title="</noscript><img src=x onerror='${J}'>">`,
  `<svg><style><img src=x onerror="${J}"></style></svg>`, `<!--><img src=x onerror="${J}">-->`, `<![CDATA[><img src=x onerror="${J}">]]>`, `<form id=body><input name=attributes></form>`,
  `<a id=location href="${L}">x</a>`, `<template><img src=x onerror="${J}"></template>`, `<a href="javascript:${J}">x</a>`, `<a href="data:text/html;base64,${B64}">x</a>`,
  `<a ping="${L}" href="#">x</a>`, `<xss style="animation:pulse 1s" onanimationstart="${J}">x</xss>`, `<svg><use href="data:image/svg+xml;base64,${B64}#x"/></svg>`,
  `<svg><animate onbegin="${J}" attributeName=x></svg>`, `<img/src='x'/onerror='${J}'>`, `<img src=\u0000x onerror="${J}">`, `\u202e<img src=x onerror="${J}">`, `&lt;img src=x onerror="${J}"&gt;`,
  `<p dir="auto" onclick="${J}" onmouseover="${J}">x</p>`, `<button popovertarget=x onbeforetoggle="${J}">x</button>`,
];
const MARKDOWN = [
  `[x](javascript:${J})`, `[x](JaVaScRiPt:${J})`, `[x](javascript&#58;${J})`, `[x](java\tscript:${J})`, `[x](&#x6A;avascript:${J})`, `[x](data:text/html;base64,${B64})`, `[x](vbscript:x)`, `[x](file:///etc/passwd)`,
  `![x](${L})`, `![x](javascript:${J})`, `![x](data:image/svg+xml;base64,${B64})`, `[![x](${L})](${L})`, `[x]: javascript:${J}\n\n[x]`, `<javascript:${J}>`, `[x](${L} "&quot; onmouseover=&quot;${J}")`,
  `[<img src=x onerror="${J}">](${L})`, `![<img src=x onerror="${J}">](${L} "a' onerror='${J}")`, `# <img src=x onerror="${J}">`, `[x](blob:${L})`, `[x](#/settings)`, `[x](/metrics)`, `[x](//127.0.0.1)`,
];
const CODE = ['js', 'html', 'xml', 'python', 'css', 'markdown', 'json', `"><img src=x onerror="${J}">`, '__proto__', 'constructor'].map((language) => `\`\`\`${language}\n</code></pre><img src=x onerror="${J}"><script>${J}</script>\n\`\`\``);
const MATHS = [
  `\\href{javascript:${J}}{x}`, `\\url{javascript:${J}}`, `\\includegraphics{${L}}`, `\\htmlStyle{background:url(${L})}{x}`, `\\htmlClass{x}{y}`, `\\htmlData{a=b}{y}`, `\\htmlId{page}{y}`,
  `\\text{<img src=x onerror="${J}">}`, `<img src=x onerror="${J}">`, '\\def\\a{\\a\\a}\\a', '\\rule{99999em}{99999em}', `\\color{red;background:url(${L})}{x}`, '\\gdef\\frac{x}\\frac', '{'.repeat(500), '\\sqrt{'.repeat(300),
].flatMap((formula) => [`$${formula}$`, `$$${formula}$$`]);
const WRAPPED = [...HTML, ...MARKDOWN.filter((one) => !one.includes('\n') && !one.startsWith('#'))].flatMap((one) => [`> ${one}`, `- ${one}`, `| a |\n|---|\n| ${one.replaceAll('|', '\\|')} |`, `**${one}**`]);
const PROBES = [...HTML, ...MARKDOWN, ...CODE, ...MATHS, ...WRAPPED];

/** Tells of everything that the page's policy refuses. */
const watchPolicy = () => {
  window.refused = [];
  document.addEventListener('securitypolicyviolation', (event) => window.refused.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
};

async function unharmed(page, what) {
  const found = await page.evaluate(() => ({
    flag: window.flag,
    refused: window.refused,
    elements: [...document.querySelectorAll('.message :is(script, iframe, object, embed, link, style, img, form:not(.card form), base, meta, video, audio)')].map((one) => one.outerHTML.slice(0, 200)),
    handlers: [...document.querySelectorAll('.message *')].flatMap((one) => [...one.attributes].filter((attribute) => /^on|^srcdoc$|^background$/.test(attribute.name)).map((attribute) => attribute.name)),
    links: [...document.querySelectorAll('.message a')].map((one) => one.href).filter((href) => !/^(https?|mailto):/.test(href)),
  }));
  assert.deepEqual(found, { flag: undefined, refused: [], elements: [], handlers: [], links: [] }, what);
  assert.deepEqual(asked, [], what);
  assert.deepEqual(faults.splice(0), [], what);
}

test(`${PROBES.length} probes in what is kept`, async () => {
  assert.ok(PROBES.length >= 300);
  const page = await visit({ before: watchPolicy });
  const messages = PROBES.flatMap((probe) => [{ role: 'user', content: probe }, { role: 'assistant', content: probe, reasoning_content: probe }]);
  const file = Buffer.from(JSON.stringify({ title: HTML[2], model: HTML[2], messages }));
  await page.locator('nav input[type=file]').setInputFiles({ name: 'probes.json', mimeType: 'application/json', buffer: file });
  await soon(() => page.locator('.message').count(), messages.length);
  // Every message comes near the screen once.
  const height = () => page.evaluate(() => document.querySelector('.scroll').scrollHeight);
  for (let at = 0; at < await height(); at += 1500) {
    await page.evaluate((top) => { document.querySelector('.scroll').scrollTop = top; }, at);
    await page.waitForTimeout(60);
  }
  await soon(() => page.locator('.answer.plain').count(), 0);
  await page.waitForTimeout(500);
  await unharmed(page, 'kept');
  for (const thought of await page.locator('.thought summary').all().then((all) => all.slice(-20))) await thought.click();
  await unharmed(page, 'thoughts');
  await page.context().close();
});

test('probes that are typed, in calls, in names of files, as a model and as a title', async () => {
  const page = await visit({ before: watchPolicy });
  for (const some of [HTML.slice(0, 24), HTML.slice(24), MARKDOWN, CODE, MATHS.slice(0, 10)]) {
    await ask(page, `!say ${some.join('\n\n')}`);
    await unharmed(page, 'typed');
  }
  await ask(page, `!call {"city": ${JSON.stringify(HTML.join(' '))}}`);
  await page.getByLabel('Result').fill(HTML.join(' '));
  await page.getByRole('button', { name: 'Return to the model' }).click();
  await soon(() => lastAnswer(page).locator('.answer').innerText(), /^It returned/);
  await page.locator('.composer input[type=file]').setInputFiles({ name: '<img src=x onerror=flag=1>.txt', mimeType: 'text/plain', buffer: Buffer.from(HTML.join('\n').replaceAll('\0', '')) });
  await ask(page, '!say Seen.');
  await page.locator('.file summary').click();
  await unharmed(page, 'calls and files');
  assert.ok(front.asked.length > 0);
  await page.context().close();
});
