// Which view the page's address names: the part behind `#`.

/** The address, of the first visit as well. */
export function address() {
  return location.hash || '#/';
}

/** The name of the view and what it shows, such as `['c', id]`. */
export function parts() {
  return address().slice(2).split('/');
}

/**
 * Goes to a view at once. The browser tells of a change of `location.hash` only later: what is typed in between would go to
 * the view that is left.
 * @param {string} to such as `#/models`
 */
export function visit(to) {
  if (to === address()) return;
  history.pushState(null, '', to);
  dispatchEvent(new Event('hashchange'));
}

/** Follows a link to a view at once. @param {MouseEvent} event */
export function follow(event) {
  const link = /** @type {Element} */ (event.target).closest('a[href^="#/"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  visit(link.getAttribute('href') ?? '');
}
