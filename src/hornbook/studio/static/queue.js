"use strict";
// The form of a new queue: a choice of purpose fills in question and labels, and offers fitting corpora.
(() => {
  const form = document.getElementById("new-queue");
  if (!form) return;
  const preset = document.getElementById("preset");
  const fits = (kind, wanted) => kind === wanted || (wanted === "texts" && kind === "questions");
  const fill = () => {
    const chosen = preset.selectedOptions[0].dataset;
    form.elements.question.value = chosen.question;
    form.elements.labels.value = chosen.labels;
    const corpus = form.elements.corpus;
    const options = [...corpus.options];
    for (const option of options) option.hidden = !fits(option.dataset.kind, chosen.kind);
    if (corpus.selectedOptions[0]?.hidden) corpus.value = options.find((option) => !option.hidden)?.value ?? "";
  };
  preset.addEventListener("change", fill);
  const kinds = [...form.elements.corpus.options].map((option) => option.dataset.kind);
  preset.selectedIndex = Math.max(0, [...preset.options].findIndex((option) => kinds.some((kind) => fits(kind, option.dataset.kind))));
  fill();
})();
