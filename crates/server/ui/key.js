// The API key: in this tab, and in this browser where the person wants that.

const NAME = 'glimmer.key';

/** @param {() => Storage} place */
function read(place) {
  try {
    return place().getItem(NAME);
  } catch {
    return null;
  }
}

/** The key, if there is one. */
export function key() {
  return read(() => sessionStorage) ?? read(() => localStorage);
}

/** @param {string} value @param {boolean} remember beyond this tab */
export function setKey(value, remember) {
  forgetKey();
  (remember ? localStorage : sessionStorage).setItem(NAME, value);
}

/** Forgets it everywhere in this browser. */
export function forgetKey() {
  sessionStorage.removeItem(NAME);
  localStorage.removeItem(NAME);
}
