// Light or dark before anything is drawn; without a choice, as the system has it.
(() => {
  let kept = null;
  try {
    kept = localStorage.getItem("greenroom.theme");
  } catch {
    // a browser that keeps nothing
  }
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
})();
