// The libraries that are inside the page, as their packages ship them.
//
//   node vendor.mjs --check NODE_MODULES    compares every vendored file, its sum and its version with the packages
//   node vendor.mjs --write NODE_MODULES    takes the files from the packages and writes vendor.json
//
// NODE_MODULES is what `npm ci` made of crates/server/ui/package-lock.json, which holds npm's own sums of the packages.

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

const UI = path.join(import.meta.dirname, '../../crates/server/ui');
const VENDOR = path.join(UI, 'vendor');

/** What is taken of each package: files by the names that they have in the page. */
const TAKEN = {
  '@highlightjs/cdn-assets': { folder: 'highlightjs', files: { 'highlight.min.js': 'es/highlight.min.js', LICENSE: 'LICENSE' } },
  dompurify: { folder: 'dompurify', files: { 'purify.min.js': 'dist/purify.min.js', LICENSE: 'LICENSE' } },
  katex: { folder: 'katex', files: { 'katex.min.js': 'dist/katex.min.js', 'katex.min.css': 'dist/katex.min.css', LICENSE: 'LICENSE' }, fonts: 'dist/fonts' },
  // Five packages are inside markdown-it's file.
  entities: { folder: 'markdown-it', files: { 'entities.LICENSE': 'LICENSE' } },
  'linkify-it': { folder: 'markdown-it', files: { 'linkify-it.LICENSE': 'LICENSE' } },
  mdurl: { folder: 'markdown-it', files: { 'mdurl.LICENSE': 'LICENSE' } },
  'punycode.js': { folder: 'markdown-it', files: { 'punycode.LICENSE': 'LICENSE-MIT.txt' } },
  'uc.micro': { folder: 'markdown-it', files: { 'uc.micro.LICENSE': 'LICENSE.txt' } },
  'markdown-it': { folder: 'markdown-it', files: { 'markdown-it.umd.min.js': 'dist/browser/markdown-it.umd.min.js', LICENSE: 'LICENSE' } },
};

const [mode, modules] = process.argv.slice(2);
const lock = JSON.parse(fs.readFileSync(path.join(UI, 'package-lock.json'), 'utf8'));
const sum = (bytes) => createHash('sha256').update(bytes).digest('hex');

const found = Object.entries(TAKEN).map(([name, { folder, files, fonts }]) => {
  const { version, license } = lock.packages[`node_modules/${name}`];
  const place = path.join(modules, name);
  const installed = JSON.parse(fs.readFileSync(path.join(place, 'package.json'), 'utf8')).version;
  if (installed !== version) throw new Error(`${name} ${installed} is installed, the lock has ${version}`);
  const all = { ...files };
  for (const font of fonts ? fs.readdirSync(path.join(place, fonts)).sort() : []) {
    if (font.endsWith('.woff2')) all[`fonts/${font}`] = `${fonts}/${font}`;
  }
  const sums = Object.entries(all).map(([to, from]) => {
    const bytes = fs.readFileSync(path.join(place, from));
    const target = path.join(VENDOR, folder, to);
    if (mode === '--write') {
      fs.mkdirSync(path.dirname(target), { recursive: true });
      fs.writeFileSync(target, bytes);
    } else if (!fs.readFileSync(target).equals(bytes)) throw new Error(`${target} is not what ${name} ${version} ships`);
    return [`${folder}/${to}`, sum(bytes)];
  });
  return { package: name, version, licence: license, sha256: Object.fromEntries(sums) };
});

const manifest = path.join(VENDOR, 'vendor.json');
const text = `${JSON.stringify(found, null, 1)}\n`;
if (mode === '--write') fs.writeFileSync(manifest, text);
else if (fs.readFileSync(manifest, 'utf8') !== text) throw new Error('vendor.json is not what the packages and the lock say');
const there = fs.readdirSync(VENDOR, { recursive: true, withFileTypes: true }).filter((one) => one.isFile() && one.name !== 'vendor.json');
const listed = found.flatMap((one) => Object.keys(one.sha256));
if (there.length !== listed.length) throw new Error(`${there.length} files are vendored, ${listed.length} are listed`);
console.log(`vendored: ${found.map((one) => `${one.package} ${one.version}`).join(', ')}; ${listed.length} files`);
