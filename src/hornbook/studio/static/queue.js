"use strict";
// The form of a new queue: a choice of purpose fills in question and labels, and offers fitting corpora.
(() => {
  const form = document.getElementById("new-queue");
  if (!form) return;
  const preset = document.getElementById("preset");
  const fill = () => {
    const chosen = preset.selectedOptions[0].dataset;
    form.elements.question.value = chosen.question;
    form.elements.labels.value = chosen.labels;
    const corpus = form.elements.corpus;
    const options = [...corpus.options];
    const fits = (kind) => kind === chosen.kind || (chosen.kind === "texts" && kind === "questions");
    for (const option of options) option.hidden = !fits(option.dataset.kind);
    if (corpus.selectedOptions[0]?.hidden) corpus.value = options.find((option) => !option.hidden)?.value ?? "";
  };
  preset.addEventListener("change", fill);
  fill();
})();
