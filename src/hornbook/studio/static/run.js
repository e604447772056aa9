"use strict";
// Follows a run: steps with rate and time left every second, curves as they grow.
(() => {
  const run = document.getElementById("run");
  const base = `/runs/${encodeURIComponent(run.dataset.name)}`;
  const body = document.querySelector("#steps tbody");
  const now = document.getElementById("now");
  const log = document.getElementById("log");

  const seconds = (value) => {
    if (value === null || value === undefined) return "–";
    if (value < 9.95) return `${value.toFixed(1)} s`;
    const total = Math.round(value);
    if (total < 60) return `${total} s`;
    if (total < 3600) return `${Math.floor(total / 60)} min ${String(total % 60).padStart(2, "0")} s`;
    return `${Math.floor(total / 3600)} h ${String(Math.round((total % 3600) / 60)).padStart(2, "0")} min`;
  };
  const count = (value) => Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(value);

  function told(progress) {
    const parts = [progress.total ? `${count(progress.done)} of ${count(progress.total)} ${progress.unit}` : `${count(progress.done)} ${progress.unit}`];
    if (progress.rate) parts.push(`${count(progress.rate)} ${progress.unit}/s`);
    if (progress.eta_seconds !== null) parts.push(`${seconds(progress.eta_seconds)} left`);
    for (const [name, value] of Object.entries(progress.numbers))
      parts.push(`${name} ${typeof value === "number" ? Number(value.toPrecision(4)) : value}`);
    return parts.join(", ");
  }

  function show(live) {
    const state = document.querySelector("#state .badge");
    if (state.textContent !== live.state) state.textContent = live.state;
    const rows = [...live.steps].reverse().map((step) => {
      const row = Charts.element("tr");
      row.append(Object.assign(Charts.element("th", step.name), { scope: "row" }));
      const state = Charts.element("td", step.state);
      for (const progress of step.progress ?? []) {
        const line = Charts.element("div", undefined, { className: "note" });
        if (progress.total) {
          const bar = Charts.element("progress", undefined, { max: progress.total, value: Math.min(progress.done, progress.total) });
          bar.setAttribute("aria-label", progress.label);
          line.append(bar, " ");
        }
        line.append(`${progress.label}: ${told(progress)}`);
        state.append(line);
      }
      row.append(state, Charts.element("td", seconds(step.seconds), { className: "n" }));
      row.append(Charts.element("td", "–", { className: "n" }), Charts.element("td", "–", { className: "n" }));
      const key = Charts.element("td");
      key.append(Charts.element("code", step.key));
      row.append(key);
      return row;
    });
    body.replaceChildren(...rows);
    const last = live.steps.at(-1);
    const sentence = live.state === "starting" ? "It is being started." : last && last.state === "running" ? `Making ${last.name}.` : "";
    if (now.textContent !== sentence) now.textContent = sentence; // read aloud only when it changes
    if (live.begun) document.getElementById("elapsed").textContent = ` for ${seconds(Date.now() / 1000 - live.begun)}`;
    if (log && log.textContent !== live.log) {
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
      log.textContent = live.log;
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
  }

  let size = "";
  async function curves() {
    const answer = await fetch(`${base}/curves.json`);
    if (!answer.ok) return;
    const text = await answer.text();
    if (text === size) return;
    size = text;
    Charts.panels(document.getElementById("curves"), [{ name: run.dataset.name, ...JSON.parse(text) }]);
  }

  let turn = 0;
  async function look() {
    try {
      const answer = await fetch(`${base}/live.json`);
      if (answer.ok) {
        const live = await answer.json();
        if (live.state !== "running" && live.state !== "starting") { location.reload(); return; }
        show(live);
      }
      if (turn++ % 3 === 0) await curves();
    } catch { /* the server is away; it is asked again */ }
    setTimeout(look, 1000);
  }

  if (log) log.scrollTop = log.scrollHeight;
  if (run.dataset.going === "yes") look(); else curves();
})();
