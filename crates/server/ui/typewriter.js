// Shows a growing text evenly: however it arrives, in bursts or token by token, each frame shows a share of what waits.

/** Milliseconds in which most of what waits is shown. */
const LAG = 140;
/** Characters a second that are shown at least. */
const SLOWEST = 40;
/** Milliseconds after the end in which all of it is shown, if there are frames or not. */
const LONGEST = 1500;
/** What a frame costs, drawing included, is rested this many times: text takes a third of the time at most. */
const REST = 3;

export class Typewriter {
  /** @param {(text: string) => void} show is given more of the text each time */
  constructor(show) {
    this.show = show;
    this.text = '';
    this.shown = 0;
    this.before = 0;
    this.notBefore = 0;
    this.request = 0;
    this.isCalm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    /** @type {(() => void) | null} */
    this.whenShown = null;
  }

  /** The text so far. @param {string} text */
  write(text) {
    this.text = text;
    if (this.request) return;
    this.before = performance.now();
    this.request = requestAnimationFrame((now) => this.frame(now));
  }

  /** All of it is here; waits until it is shown. A page that nobody looks at has no frames. */
  end() {
    if (document.hidden || this.shown === this.text.length || this.isCalm) {
      this.stop();
      return Promise.resolve();
    }
    return /** @type {Promise<void>} */ (new Promise((resolve) => {
      this.whenShown = resolve;
      setTimeout(() => this.finish(), LONGEST);
    }));
  }

  /** Shows no more. */
  stop() {
    cancelAnimationFrame(this.request);
    this.request = 0;
  }

  finish() {
    this.stop();
    this.whenShown?.();
    this.whenShown = null;
  }

  /** @param {number} now */
  frame(now) {
    this.request = 0;
    if (now >= this.notBefore) {
      this.shown = this.next(now);
      this.show(this.text.slice(0, this.shown));
      this.before = now;
      this.notBefore = this.isCalm ? now + 300 : Infinity;
      // After the frame is drawn.
      if (!this.isCalm) setTimeout(() => { this.notBefore = now + REST * (performance.now() - now); });
    }
    if (this.shown < this.text.length) this.request = requestAnimationFrame((time) => this.frame(time));
    else this.finish();
  }

  /** How much is to be shown now. @param {number} now */
  next(now) {
    const waiting = this.text.length - this.shown;
    const time = Math.max(now - this.before, 1);
    const share = this.isCalm ? waiting : Math.max(waiting * (1 - Math.exp(-time / LAG)), SLOWEST * time / 1000);
    let shown = Math.min(this.text.length, this.shown + Math.ceil(share));
    // Half a character is none.
    const code = this.text.charCodeAt(shown - 1);
    if (code >= 0xd800 && code < 0xdc00 && shown < this.text.length) shown += 1;
    return shown;
  }
}
