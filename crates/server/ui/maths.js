// Maths between `$`, `$$`, `\(` and `\[`: rules for markdown-it, and KaTeX, which is loaded when the first formula is met.

/** @type {Promise<any> | undefined} */
let loading;

function katex() {
  loading ??= (async () => {
    const style = document.createElement('link');
    style.rel = 'stylesheet';
    style.href = new URL('vendor/katex/katex.min.css', import.meta.url).href;
    document.head.append(style);
    await import('./vendor/katex/katex.min.js');
    return /** @type {any} */ (globalThis).katex;
  })();
  return loading;
}

const SIGNS = [['$$', '$$', true], ['\\[', '\\]', true], ['\\(', '\\)', false], ['$', '$', false]];

/** @param {any} md */
export function mathsRules(md) {
  md.inline.ruler.before('escape', 'maths', inline);
  md.block.ruler.before('fence', 'maths_block', block, { alt: ['paragraph', 'blockquote', 'list'] });
  const { escapeHtml } = md.utils;
  md.renderer.rules.maths = (/** @type {any[]} */ tokens, /** @type {number} */ at) =>
    `<span class="maths${tokens[at].meta.isDisplay ? ' display' : ''}">${escapeHtml(tokens[at].content)}</span>`;
  md.renderer.rules.maths_block = (/** @type {any[]} */ tokens, /** @type {number} */ at) =>
    `<p class="maths-block"><span class="maths display">${escapeHtml(tokens[at].content)}</span></p>\n`;
}

/** A formula within a line. @param {any} state of markdown-it @param {boolean} silent */
function inline(state, silent) {
  const { src, pos } = state;
  if (src[pos] !== '$' && src[pos] !== '\\') return false;
  const sign = SIGNS.find(([open]) => src.startsWith(/** @type {string} */ (open), pos));
  if (!sign) return false;
  const [open, close, isDisplay] = /** @type {[string, string, boolean]} */ (sign);
  const start = pos + open.length;
  const end = src.indexOf(close, start);
  const content = src.slice(start, end);
  if (end < 0 || !content.trim()) return false;
  // Sums of money are no formulas: `$5 and $6`.
  if (open === '$' && (/^\s|\s$|\n\n/.test(content) || /\d/.test(src[end + 1] ?? ''))) return false;
  if (!silent) {
    const token = state.push('maths', 'span', 0);
    token.content = content.trim();
    token.meta = { isDisplay };
  }
  state.pos = end + close.length;
  return true;
}

/** A formula of several lines. @param {any} state of markdown-it @param {number} startLine @param {number} endLine @param {boolean} silent */
function block(state, startLine, endLine, silent) {
  const start = state.bMarks[startLine] + state.tShift[startLine];
  const open = state.src.slice(start, start + 2);
  const close = open === '$$' ? '$$' : open === '\\[' && '\\]';
  if (!close || state.sCount[startLine] - state.blkIndent >= 4) return false;
  const end = state.src.indexOf(close, start + 2);
  const limit = state.eMarks[endLine - 1];
  if (end < 0 || end > limit) return false;
  let line = startLine;
  while (state.eMarks[line] < end) line += 1;
  // Something behind it: a formula within a line.
  if (state.src.slice(end + 2, state.eMarks[line]).trim()) return false;
  if (silent) return true;
  const token = state.push('maths_block', 'p', 0);
  token.content = state.src.slice(start + 2, end).trim();
  token.map = [startLine, line + 1];
  state.line = line + 1;
  return true;
}

/** What KaTeX may do: it makes elements alone, follows no link, and gives up on formulas without an end. */
const OPTIONS = { throwOnError: true, trust: false, strict: 'ignore', maxExpand: 1000, maxSize: 20, output: 'htmlAndMathml' };

/** Shows the formulas below a node, at once if KaTeX is there, else when it is. @param {ParentNode} parent */
export function showMaths(parent) {
  const nodes = [...parent.querySelectorAll('.maths')];
  if (nodes.length === 0) return;
  katex().then((library) => {
    for (const node of nodes) {
      const options = { ...OPTIONS, displayMode: node.classList.contains('display') };
      const source = node.textContent;
      try {
        library.render(source, node, options);
      } catch {
        // A formula that cannot be read stays as it was written.
        node.textContent = source;
        node.classList.add('unread');
      }
    }
  }, () => { loading = undefined; });
}
