"use strict";
// Lines drawn by Plotly in the page's own colours. All text reaches the page as text, never as markup.

const Charts = (() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const drawn = new Map();

  function layout(logarithmic, x, y) {
    const axis = { gridcolor: colour("--rule"), zerolinecolor: colour("--rule"), linecolor: colour("--quiet"),
      automargin: true, title: { font: { size: 13 } } };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: colour("--ink") },
      margin: { l: 56, r: 12, t: 8, b: 42 }, height: 300, showlegend: false, hovermode: "x unified",
      hoverlabel: { bgcolor: colour("--panel"), font: { color: colour("--ink") } },
      xaxis: { ...axis, title: { text: plain(x) } },
      yaxis: { ...axis, title: { text: plain(y) }, type: logarithmic ? "log" : "linear" },
    };
  }

  // lines: [{name, x, y}]
  function draw(place, lines, { logarithmic = false, x = "step", y = "" } = {}) {
    drawn.set(place, [lines, { logarithmic, x, y }]);
    const dashes = ["solid", "dash", "dot", "dashdot"];
    const traces = lines.map((line, i) => ({
      type: "scatter", mode: line.x.length < 40 ? "lines+markers" : "lines", name: plain(line.name), x: line.x, y: line.y,
      line: { color: colour(`--c${i % 6}`), width: 2, dash: dashes[i % 4] },
    }));
    const form = layout(logarithmic, x, y);
    form.showlegend = lines.length > 1;
    form.legend = { orientation: "h", y: 1.12 };
    return Plotly.react(place, traces, form, { responsive: true, displaylogo: false, displayModeBar: false });
  }

  document.addEventListener("themechange", () => {
    for (const [place, [lines, options]] of drawn) if (place.isConnected) draw(place, lines, options);
  });

  const element = (tag, text, properties = {}) => {
    const made = Object.assign(document.createElement(tag), properties);
    if (text !== undefined) made.textContent = text;
    return made;
  };

  // One chart a step, with a choice of metric. runs: [{name, groups}], drawn over one another.
  function panels(parent, runs) {
    const names = [...new Set(runs.flatMap((run) => run.groups.map((group) => group.step)))];
    if (!names.length) {
      parent.replaceChildren(element("p", "No step has logged any numbers yet.", { className: "note" }));
      return;
    }
    for (const note of parent.querySelectorAll(":scope > p.note")) note.remove();
    for (const step of names) {
      let panel = [...parent.children].find((child) => child.dataset.step === step);
      if (!panel) {
        panel = element("figure", undefined, { className: "panel" });
        panel.dataset.step = step;
        const line = element("figcaption", undefined, { className: "line" });
        const pick = element("select");
        const label = element("label", `${step}: `);
        label.append(pick);
        const log = element("input", undefined, { type: "checkbox" });
        const logLabel = element("label", " logarithmic");
        logLabel.prepend(log);
        line.append(label, logLabel);
        const place = element("div", undefined, { className: "plot" });
        place.setAttribute("role", "img");
        const numbers = element("p", "", { className: "note" });
        panel.append(line, place, numbers);
        parent.append(panel);
        pick.addEventListener("change", () => panel.redraw());
        log.addEventListener("change", () => panel.redraw());
        panel.redraw = () => {
          const lines = panel.runs.flatMap((run) => run.groups.filter((group) => group.step === step)
            .flatMap((group) => group.metrics.filter((metric) => metric.name === pick.value)
              .map((metric) => ({ name: run.name, x: metric.x, y: metric.y }))));
          draw(place, lines, { logarithmic: log.checked, y: pick.value });
          const shown = lines.filter((one) => one.y.length).map((one) =>
            `${lines.length > 1 ? one.name + ": " : ""}first ${one.y[0].toPrecision(4)}, last ${one.y.at(-1).toPrecision(4)}, lowest ${Math.min(...one.y).toPrecision(4)}`);
          numbers.textContent = shown.join("; ");
          place.setAttribute("aria-label", `${step}, ${pick.value}: ${numbers.textContent}`);
        };
        panel.pick = pick;
      }
      panel.runs = runs;
      const metrics = [...new Set(runs.flatMap((run) => run.groups.filter((group) => group.step === step)
        .flatMap((group) => group.metrics.map((metric) => metric.name))))];
      const known = [...panel.pick.options].map((option) => option.value);
      for (const name of metrics) if (!known.includes(name)) panel.pick.append(element("option", name, { value: name }));
      panel.redraw();
    }
  }

  return { draw, panels, element };
})();
