"use strict";
// What every page shares: the theme button, forms that submit on a change, and watching a job.


document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* it holds for this page */ }
  document.dispatchEvent(new CustomEvent("themechange"));
});

for (const form of document.querySelectorAll("form[data-submit-on-change]")) {
  form.addEventListener("change", () => form.requestSubmit());
}

// An element with data-watch: its job's state is asked for; when the job ends the page is loaded anew.
for (const place of document.querySelectorAll("[data-watch]")) {
  const look = async () => {
    try {
      const answer = await fetch(place.dataset.watch);
      if (!answer.ok) return;
      const job = await answer.json();
      const log = document.getElementById("log");
      if (log && log.textContent !== job.log) { log.textContent = job.log; log.scrollTop = log.scrollHeight; }
      if (job.state !== "running") location.reload(); else setTimeout(look, 1000);
    } catch { setTimeout(look, 3000); }
  };
  setTimeout(look, 500);
}
