// What goes along with a question: files of text in the form of GLM-4's demo, and pictures for models that see.

import { t, number } from './words.js';

/** Bytes of a file, and files of a question, at most. */
const LARGEST = 1 << 20;
const MOST = 10;

/** Bytes of a picture that is kept and sent as it is, and of what kinds; others become a JPEG with such sides at most. */
const AS_IT_IS = 1 << 20;
const KINDS = ['image/png', 'image/jpeg', 'image/webp', 'image/gif'];
const LONGEST_SIDE = 2048;

/** @typedef {{name: string, url: string}} Picture with a data URI */

/**
 * Reads files; what is neither text nor a picture is refused in words.
 * @param {Iterable<File>} files
 * @param {number} there how many are attached already
 * @param {{model: string, sees: boolean}} asked who is going to read them
 * @returns {Promise<{files: {name: string, text: string}[], pictures: Picture[], refused: string[]}>}
 */
export async function readFiles(files, there, { model, sees }) {
  const read = [];
  const pictures = [];
  const refused = [];
  for (const file of files) {
    if (read.length + pictures.length + there >= MOST) refused.push(t('files.many', { most: MOST }));
    else if (isPicture(file)) {
      if (!sees) refused.push(t('pictures.blind', { model }));
      else {
        try {
          pictures.push({ name: file.name, url: await dataUri(await small(file)) });
        } catch {
          refused.push(t('pictures.damaged', { name: file.name }));
        }
      }
    } else if (file.size > LARGEST) refused.push(t('files.large', { name: file.name, most: number(LARGEST / 1024) }));
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
  return { files: read, pictures, refused: [...new Set(refused)] };
}

/** An SVG is text. @param {File} file */
function isPicture({ type }) {
  return type.startsWith('image/') && !type.startsWith('image/svg');
}

/** A picture as it is kept. @param {File} file @returns {Promise<Blob>} */
async function small(file) {
  // What is no picture fails here, whatever it is called.
  const bitmap = await createImageBitmap(file);
  if (file.size <= AS_IT_IS && KINDS.includes(file.type)) return file;
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext('2d')?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error('canvas'))), 'image/jpeg', 0.9);
  });
}

/** @param {Blob} blob @returns {Promise<string>} */
function dataUri(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** A question as the model reads it. @param {import('./conversation.js').Message} message */
export function shownToModel({ text, files = [], pictures = [] }) {
  const shown = files.map((file) => `[File Name]\n${file.name}\n[File Content]\n${file.text}\n\n`);
  const said = shown.join('') + text;
  if (pictures.length === 0) return said;
  return [...pictures.map(({ url }) => ({ type: 'image_url', image_url: { url } })), { type: 'text', text: said }];
}
