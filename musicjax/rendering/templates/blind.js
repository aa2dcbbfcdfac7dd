"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const key = `musicjax-blind-${data.page}`;
const fresh = () => ({ listener: "", order: shuffled(data.clips.map((_, i) => i)), ratings: {} });
let state = load();

function shuffled(list) {
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [list[i], list[j]] = [list[j], list[i]];
  }
  return list;
}
function load() {
  try {
    const found = JSON.parse(localStorage.getItem(key));
    if (found && found.order.length === data.clips.length) return found;
  } catch (error) { /* no storage, or of another page: begin anew */ }
  return fresh();
}
function save() {
  try { localStorage.setItem(key, JSON.stringify(state)); } catch (error) { /* kept until the page is closed */ }
}
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
function choices(clip, field, text, values) {
  const row = element("div", { class: "choices" });
  for (const [value, shown] of values) {
    const input = element("input", { type: "radio", name: `${field}-${clip.piece}`, value, "aria-label": `${text} ${shown}` });
    input.checked = String((state.ratings[clip.piece] || {})[field] ?? "") === value;
    input.addEventListener("change", () => {
      state.ratings[clip.piece] = { ...state.ratings[clip.piece], [field]: value };
      save();
      show();
    });
    row.append(element("label", {}, input, element("span", {}, shown)));
  }
  return element("fieldset", {}, element("legend", {}, text), row);
}
function rated(clip) {
  const found = state.ratings[clip.piece] || {};
  return found.rating && found.guess;
}
// The same lines as in musicjax/evaluation/ratings.py.
function origin(clip) {
  let number = 7;
  for (const letter of clip.piece) number = (Math.imul(number, 31) + letter.charCodeAt(0)) & 0x7fffffff;
  const bytes = clip.code.match(/../g).map((hex) => {
    number = (Math.imul(number, 1103515245) + 12345) & 0x7fffffff;
    return parseInt(hex, 16) ^ ((number >> 16) & 255);
  });
  return new TextDecoder().decode(new Uint8Array(bytes)).trimEnd();
}
function build() {
  document.getElementById("listener").value = state.listener;
  document.getElementById("clips").replaceChildren(...state.order.map((index, place) => {
    const clip = data.clips[index];
    const audio = element("audio", { controls: "", preload: "metadata", src: clip.audio, "aria-label": `Piece ${place + 1}` });
    audio.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    });
    return element("article", { class: "card", id: `piece-${clip.piece}`, style: "margin-top:1rem" },
      element("header", {}, element("h3", {}, `Piece ${place + 1}`), element("span", { class: "soft answer" })),
      audio,
      choices(clip, "rating", "How good is it? 1: bad, 5: very good", ["1", "2", "3", "4", "5"].map((v) => [v, v])),
      choices(clip, "guess", "Real or made by a model?", [["real", "real"], ["made", "made"]]));
  }));
  show();
}
function show() {
  const done = data.clips.filter(rated);
  for (const clip of data.clips) {
    document.querySelector(`#piece-${clip.piece} h3`).classList.toggle("done", Boolean(rated(clip)));
  }
  document.getElementById("count").textContent = `${done.length} of ${data.clips.length} rated`;
  document.getElementById("bar").value = done.length;
  document.getElementById("export").disabled = !done.length;
  const all = done.length === data.clips.length;
  document.getElementById("end").hidden = !all;
  if (!all) return;
  const made = done.filter((clip) => origin(clip) !== "real");
  const real = done.filter((clip) => origin(clip) === "real");
  const fooled = made.filter((clip) => state.ratings[clip.piece].guess === "real").length;
  const doubted = real.filter((clip) => state.ratings[clip.piece].guess === "made").length;
  document.getElementById("result").textContent =
    `You took ${fooled} of ${made.length} made pieces for real ones, and ${doubted} of ${real.length} real ones for made.`;
}
function csv() {
  const cell = (value) => {
    const text = String(value).replace(/^[=+\-@]/, "'$&"); // no formula in a spreadsheet
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const rows = [["listener", "piece", "code", "rating", "guess", "place"]];
  state.order.forEach((index, place) => {
    const clip = data.clips[index];
    const found = state.ratings[clip.piece] || {};
    if (rated(clip)) rows.push([state.listener || "somebody", clip.piece, clip.code, found.rating, found.guess, place + 1]);
  });
  return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
}
document.getElementById("listener").addEventListener("input", (event) => {
  state.listener = event.target.value;
  save();
});
document.getElementById("export").addEventListener("click", () => {
  const url = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  const link = element("a", { href: url, download: "ratings.csv" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
});
document.getElementById("reveal").addEventListener("click", () => {
  for (const clip of data.clips) document.querySelector(`#piece-${clip.piece} .answer`).textContent = origin(clip);
});
document.getElementById("again").addEventListener("click", () => {
  state = { ...fresh(), listener: state.listener };
  save();
  build();
});
save();
build();
