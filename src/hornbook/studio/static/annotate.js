"use strict";
// Judging by keys. The next item comes only after the server has said that the stroke is kept.
(() => {
  const work = document.getElementById("work");
  if (!work) return;
  const { queue, annotator, kind } = work.dataset;
  const labels = JSON.parse(work.dataset.labels);
  const pairs = kind === "pairs";
  const questions = kind === "questions";
  const shown = { first: "left is better", second: "right is better" };
  const keys = pairs ? ["ArrowLeft", "ArrowRight", "t", "x"] : questions ? ["a", "r"] : labels.map((_, i) => String(i + 1));
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

  // A question is solved before its solution is shown; its texts can be written anew.
  const levels = questions ? ["1", "2", "3", "4", "5"].map((level) => {
    const button = element("button", undefined, { type: "button", className: "quiet" });
    button.append(element("kbd", level));
    button.setAttribute("aria-label", `difficulty ${level}`);
    button.addEventListener("click", () => edit({ difficulty: level }));
    document.getElementById("difficulty").append(" ", button);
    return button;
  }) : [];
  let revealed = false;
  const now = (name) => {
    const came = state.task.content.find(([known]) => known === name)?.[1] ?? "";
    return { came, text: state.task.edits[name] ?? came };
  };
  const box = (title, text, note) => {
    const made = element("div");
    made.append(element("h3", title), element("pre", text, { className: "box" }));
    if (note) made.append(element("p", note, { className: "note" }));
    return made;
  };

  function showQuestion(task) {
    const own = task.edits["own answer"];
    for (const [i, button] of levels.entries()) button.setAttribute("aria-pressed", String(task.edits.difficulty === String(i + 1)));
    for (const name of ["question", "solution", "answer"]) {
      if (name !== "question" && !revealed) continue;
      const { came, text } = now(name);
      item.append(box(name, text, text === came ? "" : `As it came: ${came}`));
    }
    if (own !== undefined) item.append(box("your answer", own));
    if (revealed && own !== undefined) {
      const verdict = element("p", "comparing …", { id: "same" });
      verdict.setAttribute("role", "status");
      item.append(verdict);
      // Not with `ask`: comparing takes a moment, and the keys go on meanwhile.
      fetch("/annotate/same", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ first: own, second: now("answer").text }) })
        .then((answer) => answer.json())
        .then((answer) => { verdict.textContent = answer.same ? "Your answer and this one are equal." : "Your answer differs from this one."; })
        .catch((error) => { verdict.textContent = `Not compared: ${error.message}`; });
    }
    for (const [name, text] of task.content) if (!["question", "solution", "answer"].includes(name)) item.append(box(name, text));
  }

  // A form in place of the item; Ctrl+Enter keeps what was written, Escape leaves it.
  function write(names) {
    if (!state?.task || waiting) return;
    const form = element("form", undefined, { id: "editor" });
    for (const name of names) {
      const label = element("label", `${name} `);
      const area = element("textarea", undefined, { name, value: now(name).text, rows: name.includes("answer") ? 1 : 8, className: "wide" });
      label.append(element("br"), area);
      form.append(element("p"));
      form.lastChild.append(label);
    }
    const keep = element("button", "Keep (Ctrl+Enter)", { type: "submit" });
    const leave = element("button", "Leave it (Escape)", { type: "button", className: "quiet" });
    leave.addEventListener("click", () => { show(state); item.focus(); });
    form.append(keep, " ", leave);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      edit(Object.fromEntries(names.map((name) => [name, form.elements[name].value])));
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { event.stopPropagation(); leave.click(); }
      else if (event.key === "Enter" && event.ctrlKey) { event.preventDefault(); form.requestSubmit(); }
    });
    item.replaceChildren(form);
    form.querySelector("textarea").focus();
  }

  async function edit(texts) {
    if (waiting || !state?.task) return;
    const number = state.task.number;
    saved.textContent = "saving …";
    try {
      let answer = state;
      for (const [field, text] of Object.entries(texts)) {
        if (text === (state.task.edits[field] ?? now(field).came)) continue;
        answer = await ask("/annotate/edit", {
          method: "POST", headers: { "content-type": "application/json" },
          body: JSON.stringify({ queue, annotator, number, field, text }),
        });
      }
      const begin = begun;
      const said = note.value;
      show(answer);
      begun = begin;
      note.value = said;
      saved.textContent = "the edit is kept";
      item.focus();
    } catch (error) { saved.textContent = `Not kept: ${error.message}. Try again.`; }
  }

  const reveal = () => { if (state?.task) { revealed = !revealed; const said = note.value; show(state); note.value = said; } };
  const writers = { e: ["edit-question", ["question"]], w: ["edit-solution", ["solution", "answer"]], n: ["edit-answer", ["own answer"]] };
  if (questions) {
    for (const [button, names] of Object.values(writers)) document.getElementById(button).addEventListener("click", () => write(names));
    document.getElementById("reveal").addEventListener("click", reveal);
  }

  function show(answer) {
    if (answer.task?.number !== state?.task?.number) revealed = false;
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
    if (questions) { showQuestion(task); begun = performance.now(); return; }
    const sides = element("div", undefined, { className: "sides both" });
    for (const [name, text] of task.content) {
      const box = element("div");
      // A drawing was rendered by us; its code stands below it.
      const [picture, rest] = text.startsWith("data:image/png;base64,") ? [text.split("\n", 1)[0], text.slice(text.indexOf("\n") + 1)] : ["", text];
      box.append(element("h3", name));
      if (picture) box.append(element("img", undefined, { src: picture, alt: `${name}: what was drawn` }));
      box.append(element("pre", rest, { className: "box" }));
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
    else if (questions && writers[event.key]) write(writers[event.key][1]);
    else if (questions && event.key === "v") reveal();
    else if (questions && "12345".includes(event.key)) edit({ difficulty: event.key });
    else if (event.key === "b") back();
    else if (event.key === "s") skip();
    else if (event.key === "u") stroke(null);
    else if (event.key === "/") note.focus();
    else return;
    event.preventDefault();
  });
  open();
})();
