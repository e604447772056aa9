"use strict";
// Judging by keys. The next item comes only after the server has said that the stroke is kept.
(() => {
  const work = document.getElementById("work");
  if (!work) return;
  const { queue, annotator, kind } = work.dataset;
  const labels = JSON.parse(work.dataset.labels);
  const pairs = kind === "pairs";
  const shown = { first: "left is better", second: "right is better" };
  const keys = pairs ? ["ArrowLeft", "ArrowRight", "t", "x"] : labels.map((_, i) => String(i + 1));
  const names = { ArrowLeft: "←", ArrowRight: "→" };
  const item = document.getElementById("item");
  const note = document.getElementById("note");
  const saved = document.getElementById("saved");
  const element = (tag, text, properties = {}) => {
    const made = Object.assign(document.createElement(tag), properties);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  let state = null;
  let begun = 0;
  let waiting = false;
  const skipped = new Set();

  const buttons = labels.map((label, i) => {
    const button = element("button", undefined, { type: "button", className: "quiet" });
    button.append(element("kbd", names[keys[i]] ?? keys[i]?.toUpperCase() ?? ""), ` ${pairs ? shown[label] ?? label : label}`);
    button.addEventListener("click", () => stroke(label));
    document.getElementById("labels").append(button);
    return button;
  });

  function show(answer) {
    state = answer;
    document.getElementById("bar").value = answer.done;
    const task = answer.task;
    document.getElementById("where").textContent = task
      ? `item ${task.place + 1} of ${answer.items}, ${answer.done} done`
      : `all ${answer.items} done`;
    item.replaceChildren();
    note.value = task?.note ?? "";
    for (const [i, button] of buttons.entries()) {
      button.disabled = !task;
      button.setAttribute("aria-pressed", String(Boolean(task) && task.label === labels[i]));
    }
    if (!task) { item.append(element("p", "Every item of this queue has your verdict. Thank you.")); return; }
    const sides = element("div", undefined, { className: "sides both" });
    for (const [name, text] of task.content) {
      const box = element("div");
      box.append(element("h3", name), element("pre", text, { className: "box" }));
      (pairs && (name === "left" || name === "right") ? sides : item).append(box);
    }
    if (sides.children.length) item.append(sides);
    begun = performance.now();
  }

  async function ask(url, options) {
    waiting = true;
    try {
      const answer = await fetch(url, options);
      const data = await answer.json();
      if (!answer.ok) throw new Error(data.error);
      return data;
    } finally { waiting = false; }
  }

  const open = async (number) => {
    const wanted = number === undefined ? "" : `&number=${number}`;
    try { show(await ask(`/annotate/task.json?queue=${encodeURIComponent(queue)}&annotator=${encodeURIComponent(annotator)}${wanted}`)); }
    catch (error) { saved.textContent = `Not loaded: ${error.message}`; }
  };

  async function stroke(label) {
    if (waiting || !state?.task) return;
    const task = state.task;
    saved.textContent = "saving …";
    try {
      const answer = await ask("/annotate/stroke", {
        method: "POST", headers: { "content-type": "application/json" },
        body: JSON.stringify({ queue, annotator, number: task.number, label, note: note.value, seconds: (performance.now() - begun) / 1000 }),
      });
      saved.textContent = label === null ? "taken back" : `kept: ${pairs ? shown[label] ?? label : label}`;
      skipped.delete(task.number);
      if (label === null) await open(task.number);
      else if (answer.task && skipped.has(answer.task.number)) await move(1);
      else show(answer);
    } catch (error) { saved.textContent = `Not kept: ${error.message}. Try again.`; }
  }

  // Back and forth in the order of the queue.
  async function move(step) {
    if (waiting || !state) return;
    const at = state.task ? state.task.place : state.order.length;
    const next = at + step;
    if (next < 0) return;
    if (next >= state.order.length) return open();
    return open(state.order[next]);
  }
  const back = () => move(-1);
  const skip = () => { if (state?.task) { skipped.add(state.task.number); move(1); } };
  document.getElementById("back").addEventListener("click", back);
  document.getElementById("skip").addEventListener("click", skip);
  document.getElementById("undo").addEventListener("click", () => stroke(null));

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === note) { if (event.key === "Escape" || event.key === "Enter") { note.blur(); item.focus(); event.preventDefault(); } return; }
    if (event.target.matches("input, select, textarea")) return;
    const at = keys.indexOf(event.key.length === 1 ? event.key.toLowerCase() : event.key);
    if (at >= 0 && labels[at] !== undefined) stroke(labels[at]);
    else if (event.key === "b") back();
    else if (event.key === "s") skip();
    else if (event.key === "u") stroke(null);
    else if (event.key === "/") note.focus();
    else return;
    event.preventDefault();
  });
  open();
})();
