// The colour scheme that was chosen last, set before the first paint. "" = as the system has it.
(function () {
  try {
    const chosen = localStorage.getItem("iii.scheme");
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.scheme = chosen;
  } catch {
    // no storage: as the system has it
  }
})();
