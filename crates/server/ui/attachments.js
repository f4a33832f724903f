// Files of text that go along with a question, in the form of GLM-4's demo.

import { t, number } from './words.js';

/** Bytes of a file, and files of a question, at most. */
const LARGEST = 1 << 20;
const MOST = 10;

/**
 * Reads files; what is no text is refused in words.
 * @param {Iterable<File>} files
 * @param {number} there how many are attached already
 * @returns {Promise<{files: {name: string, text: string}[], refused: string[]}>}
 */
export async function readFiles(files, there) {
  const read = [];
  const refused = [];
  for (const file of files) {
    if (read.length + there >= MOST) refused.push(t('files.many', { most: MOST }));
    else if (file.size > LARGEST) refused.push(t('files.large', { name: file.name, most: number(LARGEST / 1024) }));
    else {
      try {
        const text = new TextDecoder('utf-8', { fatal: true }).decode(await file.arrayBuffer());
        if (text.includes('\0')) throw new Error('binary');
        read.push({ name: file.name, text });
      } catch {
        refused.push(t('files.binary', { name: file.name }));
      }
    }
  }
  return { files: read, refused: [...new Set(refused)] };
}

/** A question as the model reads it. @param {import('./conversation.js').Message} message */
export function shownToModel({ text, files = [] }) {
  const shown = files.map((file) => `[File Name]\n${file.name}\n[File Content]\n${file.text}\n\n`);
  return shown.join('') + text;
}
