"use strict";
// Two runs' curves over one another.
(async () => {
  const place = document.getElementById("compare");
  if (!place) return;
  const names = [place.dataset.a, place.dataset.b];
  const runs = await Promise.all(names.map(async (name) => {
    const answer = await fetch(`/runs/${encodeURIComponent(name)}/curves.json`);
    return { name, ...(await answer.json()) };
  }));
  Charts.panels(document.getElementById("curves"), runs);
})();
