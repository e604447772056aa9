"use strict";
// The chat: one request a side, answers as they come. What a model wrote becomes text nodes and nothing else.
(() => {
  const form = document.getElementById("composer");
  const question = document.getElementById("question");
  const stop = document.getElementById("stop");
  const card = document.getElementById("token");
  const element = (tag, text, properties = {}) => {
    const made = Object.assign(document.createElement(tag), properties);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const percent = (p) => p >= 0.0995 ? `${(100 * p).toFixed(0)} %` : p >= 0.001 ? `${(100 * p).toFixed(1)} %` : "< 0.1 %";
  const visible = (text) => text.replace(/\n/g, "⏎").replace(/ /g, "␣");

  class Side {
    constructor(node) {
      this.node = node;
      this.list = node.querySelector("ol");
      this.log = node.querySelector(".log");
      this.status = node.querySelector(".status");
      this.pick = node.querySelector(".model");
      this.spec = node.querySelector(".spec");
      this.messages = [];
      this.abort = null;
      const other = node.querySelector(".other");
      const changed = () => { other.hidden = this.pick.value !== ""; };
      this.pick.addEventListener("change", changed);
      changed();
    }
    get model() { return this.pick.value || this.spec.value.trim(); }
    get open() { return !this.node.hidden; }
    say(text) { if (this.status.textContent !== text) this.status.textContent = text; }

    turn(role, text) {
      const item = element("li", undefined, { className: role });
      item.append(element("b", role));
      const body = element("div", text);
      item.append(body);
      this.list.append(item);
      this.scroll();
      return { item, body };
    }
    scroll() { this.log.scrollTop = this.log.scrollHeight; }

    async ask(text, settings) {
      this.messages.push({ role: "user", content: text });
      this.turn("user", text);
      const { item, body } = this.turn("assistant", "");
      this.abort = new AbortController();
      let said = "";
      const tokens = [];
      try {
        const answer = await fetch("/chat/stream", {
          method: "POST", signal: this.abort.signal, headers: { "content-type": "application/json" },
          body: JSON.stringify({ ...settings, model: this.model, messages: this.messages }),
        });
        if (!answer.ok) throw new Error((await answer.json()).error ?? `status ${answer.status}`);
        for await (const [name, data] of events(answer.body)) {
          if (name === "queued" || name === "note") this.say(data.message);
          else if (name === "opening") this.say("Opening the model …");
          else if (name === "passages") item.before(passages(data));
          else if (name === "error") throw new Error(data.message);
          else if (name === "tokens") {
            if (!said) this.say("Answering …");
            for (const token of data) {
              said += token.text;
              body.append(piece(token, tokens));
            }
            this.scroll();
          } else if (name === "done") this.say(summary(data));
        }
      } catch (error) {
        if (error.name === "AbortError") this.say("Stopped.");
        else { this.say(error.message); item.classList.add("failed"); }
      } finally {
        this.abort = null;
      }
      if (said) this.messages.push({ role: "assistant", content: said });
      else { this.messages.pop(); if (!body.textContent) item.remove(); }
    }

    clear() { this.messages = []; this.list.replaceChildren(); this.say(""); }
  }

  async function* events(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
        const block = text.slice(0, end);
        const name = /^event: (.*)$/m.exec(block)?.[1];
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (name) yield [name, JSON.parse(data)];
      }
    }
  }

  function piece(token, tokens) {
    const span = element("span", token.text, { className: "tok" });
    if (token.p !== undefined && token.p !== null) {
      span.style.setProperty("--t", `${(100 * (1 - token.p)).toFixed(0)}%`);
      tokens.push(span);
      span.token = token;
      span.siblings = tokens;
    }
    return span;
  }

  function passages(found) {
    const box = element("li", undefined, { className: "tool" });
    box.append(element("b", found.length ? "passages it reads" : "no passage of your documents has words of this question"));
    for (const [i, one] of found.entries()) {
      const details = element("details", undefined, { open: found.length === 1 });
      details.append(element("summary", `[${i + 1}] ${one.source}, score ${one.score.toPrecision(3)}`), element("div", one.text));
      box.append(details);
    }
    return box;
  }

  function summary(done) {
    const parts = [{ length: "Cut at the longest answer allowed", stop: "Done", cancelled: "Stopped" }[done.reason] ?? done.reason];
    if (done.tokens !== null) parts.push(`${done.tokens} tokens`);
    if (done.first_token_seconds) parts.push(`the first after ${done.first_token_seconds < 1 ? `${(1000 * done.first_token_seconds).toFixed(0)} ms` : `${done.first_token_seconds.toFixed(1)} s`}`);
    if (done.tokens_per_second) parts.push(`${done.tokens_per_second.toFixed(0)} a second`);
    return parts.join(", ") + ".";
  }

  // --- token probabilities: by pointer, and by arrow keys in a focused conversation
  let current = null;
  function showToken(span) {
    current?.classList.remove("current");
    current = span;
    if (!span) { card.hidden = true; return; }
    span.classList.add("current");
    const rows = [element("strong", `“${visible(span.token.text)}” ${percent(span.token.p)}`)];
    for (const [text, p] of span.token.top) {
      const row = element("div");
      const bar = element("i");
      bar.style.width = `${Math.max(1, 60 * p)}px`;
      row.append(bar, ` ${percent(p)} `, element("code", visible(text)));
      rows.push(row);
    }
    card.replaceChildren(...rows);
    card.hidden = false;
    const box = span.getBoundingClientRect();
    const left = Math.min(box.left, document.documentElement.clientWidth - card.offsetWidth - 8);
    const below = box.bottom + 6 + card.offsetHeight < innerHeight;
    card.style.left = `${Math.max(8, left) + scrollX}px`;
    card.style.top = `${(below ? box.bottom + 6 : box.top - card.offsetHeight - 6) + scrollY}px`;
  }
  document.addEventListener("pointerover", (event) => {
    const span = event.target.closest?.(".tok");
    if (span?.token) showToken(span); else if (current && !card.contains(event.target)) showToken(null);
  });
  for (const list of document.querySelectorAll(".log")) {
    list.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowRight" && event.key !== "ArrowLeft") return;
      const all = [...list.querySelectorAll(".tok")].filter((span) => span.token);
      if (!all.length) return;
      event.preventDefault();
      const at = all.indexOf(current);
      const step = event.key === "ArrowRight" ? 1 : -1;
      const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + step))];
      next.scrollIntoView({ block: "nearest" });
      showToken(next);
    });
    list.addEventListener("blur", () => showToken(null));
  }

  // --- the form
  const sides = [...document.querySelectorAll(".side")].map((node) => new Side(node));
  const two = document.getElementById("two");
  two.addEventListener("change", () => {
    sides[1].node.hidden = !two.checked;
    document.getElementById("sides").classList.toggle("both", two.checked);
  });
  document.getElementById("tint").addEventListener("change", (event) =>
    document.getElementById("sides").classList.toggle("tinted", event.target.checked));

  const busy = () => sides.some((side) => side.abort);
  const stopAll = () => { for (const side of sides) side.abort?.abort(); };
  stop.addEventListener("click", stopAll);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") { stopAll(); showToken(null); } });
  document.getElementById("clear").addEventListener("click", () => {
    stopAll();
    for (const side of sides) side.clear();
    question.focus();
  });
  question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
  });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = question.value.trim();
    if (!text || busy()) return;
    const settings = { system: form.elements.system.value, passages: Number(document.getElementById("passages").value) || 0 };
    for (const name of ["temperature", "top_p", "top_k", "repetition_penalty", "max_tokens"]) settings[name] = Number(form.elements[name].value);
    if (form.elements.seed.value !== "") settings.seed = Number(form.elements.seed.value);
    const asked = sides.filter((side) => side.open);
    const missing = asked.find((side) => !side.model);
    if (missing) { missing.say("Name a model."); missing.spec.focus(); return; }
    question.value = "";
    stop.disabled = false;
    document.getElementById("send").disabled = true;
    await Promise.all(asked.map((side) => side.ask(text, settings)));
    stop.disabled = true;
    document.getElementById("send").disabled = false;
  });
})();
