// The functions that a model may call. They are given as the API has them; a `result` beside one is what it always returns.

/**
 * @param {import('./preferences.js').Params} params
 * @returns {{type?: string, function: {name: string}, result?: any}[]} none where there is no good list
 */
export function toolsOf(params) {
  try {
    const list = JSON.parse(params.tools || '[]');
    return Array.isArray(list) ? list.filter((tool) => typeof tool?.function?.name === 'string') : [];
  } catch {
    return [];
  }
}

/** What a text lacks to be a list of tools, if anything. @param {string} text @returns {'' | 'json' | 'list'} */
export function faultOfTools(text) {
  if (!text.trim()) return '';
  try {
    const list = JSON.parse(text);
    return Array.isArray(list) && list.every((tool) => typeof tool?.function?.name === 'string') ? '' : 'list';
  } catch {
    return 'json';
  }
}

/**
 * The fixed results of calls, where every one of them has one.
 * @param {import('./conversation.js').Call[]} calls
 * @param {import('./preferences.js').Params} params
 * @returns {Record<string, string> | null}
 */
export function fixedResults(calls, params) {
  const tools = toolsOf(params);
  /** @type {Record<string, string>} */
  const results = {};
  for (const call of calls) {
    const tool = tools.find((one) => one.function.name === call.name);
    if (tool?.result === undefined) return null;
    results[call.id] = typeof tool.result === 'string' ? tool.result : JSON.stringify(tool.result);
  }
  return results;
}
