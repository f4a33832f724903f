// What a page's main thread did, from a trace of Chromium's.

import { browser } from './support.mjs';

const CATEGORIES = ['devtools.timeline', 'disabled-by-default-devtools.timeline', 'blink.user_timing', 'toplevel', '__metadata'];

/** Names of tasks; of what runs script, or cleans up after it; and of what ends the main thread's part of a frame. */
const TASK = ['RunTask'];
const SCRIPT = ['EvaluateScript', 'EventDispatch', 'FireAnimationFrame', 'FireIdleCallback', 'FunctionCall', 'MajorGC', 'MinorGC', 'RunMicrotasks', 'TimerFire'];
const FRAME = ['Commit'];

/**
 * Has Chromium write down what happens meanwhile.
 * @param {import('playwright-core').Page} page
 * @param {() => Promise<void>} act
 * @returns {Promise<{tasks: number[], script: number[]}>} of the page's main thread: ms that each task and the script of each frame
 * took of a processor. What other programs take from a busy machine is not the page's.
 */
export async function traced(page, act) {
  await browser.startTracing(page, { categories: CATEGORIES });
  // A mark tells which of all threads is the page's.
  await page.evaluate(() => performance.mark('traced'));
  await act();
  const { traceEvents: all } = JSON.parse((await browser.stopTracing()).toString());
  const mark = all.find((one) => one.name === 'traced' && one.cat.includes('user_timing'));
  const events = all.filter((one) => one.ph === 'X' && one.pid === mark.pid && one.tid === mark.tid && one.ts >= mark.ts);
  const named = (names) => outermost(events.filter((one) => names.includes(one.name)).sort((a, b) => a.ts - b.ts));
  const ends = named(FRAME).map((one) => one.ts);
  const script = ends.map(() => 0);
  let at = 0;
  for (const { ts, tdur = 0 } of named(SCRIPT)) {
    while (at + 1 < ends.length && ends[at] <= ts) at += 1;
    script[at] += tdur / 1000;
  }
  return { tasks: named(TASK).map(({ tdur = 0 }) => tdur / 1000), script };
}

/** Those that are within no other. @param {{ts: number, dur: number}[]} events in their order */
function outermost(events) {
  let end = 0;
  return events.filter(({ ts, dur = 0 }) => {
    if (ts < end) return false;
    end = ts + dur;
    return true;
  });
}
