"use strict";
// Runs before the page is painted: the reader's choice of light or dark, if one was made.
try {
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* storage is off: the system's choice holds */ }
