"use strict";
// A token chosen: the rollouts that begin with the answer up to it.
(() => {
  const tokens = document.getElementById("tokens");
  if (!tokens) return;
  const box = document.getElementById("rollouts");
  tokens.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    for (const other of tokens.querySelectorAll("[aria-pressed]")) other.removeAttribute("aria-pressed");
    button.setAttribute("aria-pressed", "true");
    const { search, picture } = tokens.dataset;
    const answer = await fetch(`/pivotal/rollouts.json?search=${encodeURIComponent(search)}&picture=${picture}&position=${button.dataset.position}`);
    const data = await answer.json();
    box.hidden = false;
    const count = document.getElementById("rollout-count");
    if (!answer.ok) { count.textContent = data.error; return; }
    count.textContent = data.count
      ? `Behind “${button.textContent}” (${button.title}): ${data.right} of ${data.count} rollouts are right.`
      : "No rollouts are kept behind this token.";
    for (const [id, right] of [["right", true], ["wrong", false]]) {
      document.getElementById(id).replaceChildren(...data.rollouts.filter((one) => one.right === right).slice(0, 20).map((one) =>
        Object.assign(document.createElement("pre"), { className: "box", textContent: `… ${one.text}` })));
    }
  });
})();
