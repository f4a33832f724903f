// Before anything is painted: dark or light as was chosen, else as the system has it.
(() => {
  const root = document.documentElement;
  let chosen = null;
  try {
    chosen = JSON.parse(localStorage.getItem('glimmer.preferences') ?? '{}').theme;
  } catch { /* nothing was chosen, or nothing may be kept here */ }
  const isDark = chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = isDark ? 'dark' : 'light';
})();
