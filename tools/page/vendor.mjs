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
  katex: { folder: 'katex', files: { 'katex.min.js': 'dist/katex.min.js', 'katex.min.css': 'dist/katex.min.css', LICENSE: 'LICENSE' } },
  // Its fonts have a licence of their own, which they name within; their LICENSE is not from the package.
  'katex (fonts)': { from: 'katex', folder: 'katex', files: {}, fonts: 'dist/fonts', licence: 'OFL-1.1', own: 'fonts/LICENSE' },
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

/** Fails unless a font says of itself what the licence beside it says. @param {string} file @param {string} licence */
function checkFont(file, licence) {
  const name = path.basename(file).replace(/-.*/, '');
  const [notice] = licence.split(',\n', 1);
  const says = `${notice},\nwith Reserved Font Name ${name}.\n\nThis Font Software is licensed under the SIL Open Font License, Version 1.1.`;
  // The names within a TrueType font are UTF-16, big end first.
  const bytes = Buffer.from(says, 'utf16le').swap16();
  if (!fs.readFileSync(file.replace(/woff2$/, 'ttf')).includes(bytes) || !licence.includes(name)) throw new Error(`${file} is not under the licence that lies beside the fonts`);
}

const found = Object.entries(TAKEN).map(([name, { from: source = name, folder, files, fonts, licence, own }]) => {
  const { version, license } = lock.packages[`node_modules/${source}`];
  const place = path.join(modules, source);
  const installed = JSON.parse(fs.readFileSync(path.join(place, 'package.json'), 'utf8')).version;
  if (installed !== version) throw new Error(`${name} ${installed} is installed, the lock has ${version}`);
  const all = { ...files };
  for (const font of fonts ? fs.readdirSync(path.join(place, fonts)).sort() : []) {
    if (!font.endsWith('.woff2')) continue;
    all[`fonts/${font}`] = `${fonts}/${font}`;
    checkFont(path.join(place, fonts, font), fs.readFileSync(path.join(VENDOR, folder, own), 'utf8'));
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
  if (own) sums.push([`${folder}/${own}`, sum(fs.readFileSync(path.join(VENDOR, folder, own)))]);
  return { package: name, version, licence: licence ?? license, sha256: Object.fromEntries(sums) };
});

const manifest = path.join(VENDOR, 'vendor.json');
const text = `${JSON.stringify(found, null, 1)}\n`;
if (mode === '--write') fs.writeFileSync(manifest, text);
else if (fs.readFileSync(manifest, 'utf8') !== text) throw new Error('vendor.json is not what the packages and the lock say');
const there = fs.readdirSync(VENDOR, { recursive: true, withFileTypes: true }).filter((one) => one.isFile() && one.name !== 'vendor.json');
const listed = found.flatMap((one) => Object.keys(one.sha256));
if (there.length !== listed.length) throw new Error(`${there.length} files are vendored, ${listed.length} are listed`);
console.log(`vendored: ${found.map((one) => `${one.package} ${one.version}`).join(', ')}; ${listed.length} files`);
