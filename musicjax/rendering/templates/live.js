"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const network = new NETWORKS[data.network.name](
  data.network,
  Object.fromEntries(Object.entries(data.arrays).map(([name, text]) => [name, numbers(text)])),
);
const quarter = data.units_per_quarter;
const byId = (id) => document.getElementById(id);

// --- music: elements, one after another ------------------------------------------------------------

// A generator of 0..1 from a seed (mulberry32).
function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
  };
}

// The rules of musicjax/generation/sampling.py that are on without being asked for.
class Sampler {
  constructor(reader, draw, temperature) {
    Object.assign(this, { reader, draw, temperature });
    this.last = null;
    this.repeats = 0;
    this.rests = 0;
  }

  id(logits) {
    const { reader, last } = this;
    const heat = Math.max(this.temperature(), 1e-6);
    const weights = new Float64Array(logits.length);
    let best = -Infinity;
    for (let id = 1; id < logits.length; id++) {
      const stuck = id === last && this.repeats >= data.rules.max_repeats;
      const silent = this.rests >= data.rules.max_rests && reader.isRest(id);
      const allowed = reader.allowed(id) && !reader.crowds(id, data.rules.max_notes);
      weights[id] = stuck || silent || !allowed ? -Infinity : logits[id] / heat;
      best = Math.max(best, weights[id]);
    }
    let sum = 0;
    for (let id = 1; id < weights.length; id++) {
      const likely = Math.exp(weights[id] - best);
      sum += weights[id] = likely < data.rules.min_p ? 0 : likely;
    }
    let left = this.draw() * sum;
    let drawn = 0;
    for (let id = 1; id < weights.length && left >= 0; id++) {
      if (weights[id] > 0) drawn = id;
      left -= weights[id];
    }
    return drawn;
  }

  begin() {
    this.sounding = 0;
  }

  // Play, and articulate given play.
  bits(logits) {
    const heat = Math.max(this.temperature(), 1e-6);
    const silence = Math.max(this.rests - data.rules.max_silence, 0);
    const full = this.sounding >= data.rules.max_notes;
    const drawn = Array.from(logits, (logit, bit) => Number(this.draw() < sigmoid((logit + (bit ? 0 : silence)) / heat)));
    const plays = !full && drawn[0] ? 1 : 0;
    this.sounding += plays;
    return drawn.map((bit) => bit & plays);
  }

  took(element) {
    const same = typeof element === "number" && element === this.last;
    this.repeats = same ? this.repeats + 1 : 1;
    this.rests = this.reader.isRest(element) ? this.rests + 1 : 0;
    this.last = element;
  }
}

// An endless piece after a prime: {elements, places, before, after, cycle}.
class Piece {
  constructor(prime, seed, temperature) {
    this.prime = prime;
    this.reader = new READERS[data.reader.name](data.reader);
    this.sampler = new Sampler(this.reader, random(seed), temperature);
    this.memory = network.start(prime.before);
    this.elements = 0;
    this.primed = 0; // unit at which the prime ends
    this.bars = []; // units at which bars begin
  }

  // After the prime.
  placeAt(time) {
    const { after, cycle } = this.prime;
    const unit = Math.max(Math.round(time) - this.primed, 0);
    return unit < after.length ? after[unit] : after[after.length - cycle + ((unit - after.length) % cycle)];
  }

  // The notes of the next element.
  step() {
    const given = this.prime.elements[this.elements];
    const isGiven = given !== undefined;
    let element = given;
    if (isGiven) network.read(this.memory, this.prime.places[this.elements], given);
    else element = network.next(this.memory, this.placeAt(this.reader.time), this.sampler);
    this.sampler.took(element);
    const from = this.reader.time;
    const notes = this.reader.read(element);
    this.findBars(from, isGiven);
    if (isGiven) this.primed = this.reader.time;
    this.elements += 1;
    for (const note of notes) note.given = isGiven;
    return notes;
  }

  findBars(from, isGiven) {
    const { barStart, time } = this.reader;
    if (barStart !== undefined) {
      if (barStart !== this.bars.at(-1)) this.bars.push(barStart);
    } else if (isGiven) {
      if (this.prime.places[this.elements] === 0) this.bars.push(from);
    } else {
      for (let unit = from; unit < time; unit++) if (this.placeAt(unit) === 0) this.bars.push(unit);
    }
  }
}

const inBars = (units) => ({
  before: units - 1,
  after: Array.from({ length: units }, (_, unit) => (data.reads_places ? unit : 0)),
  cycle: units,
});
const nothing = { elements: [], places: [], ...inBars(4 * quarter) };

function primeOf(notes) {
  const reader = new READERS[data.reader.name](data.reader);
  const elements = reader.elementsOf(notes);
  const frame = inBars(4 * quarter);
  const place = (time) => frame.after[Math.round(time) % frame.cycle];
  const places = elements.map((element) => {
    const at = place(reader.time);
    reader.read(element);
    return at;
  });
  const first = Math.round(reader.time) % frame.cycle;
  return { elements, places, before: frame.before, after: [...frame.after.slice(first), ...frame.after], cycle: frame.cycle };
}

function matrixOf(steps) {
  return steps.map((sounding) => {
    const step = new Uint8Array(data.reader.notes * data.reader.bits);
    for (const [cell, value] of sounding) step[cell] = value;
    return step;
  });
}

// --- sound -------------------------------------------------------------------------------------------

const SOUNDS = {
  piano: { partials: [0, 1, 0.5, 0.28, 0.14, 0.08, 0.04], attack: 0.006, decay: 1.1, hold: 0.12, release: 0.18 },
  organ: { partials: [0, 1, 0.7, 0.35, 0.5, 0.08, 0.2, 0, 0.15], attack: 0.02, decay: 0.3, hold: 0.8, release: 0.09 },
  strings: { partials: [0, 1, 0.55, 0.4, 0.25, 0.18, 0.12, 0.08], attack: 0.09, decay: 0.4, hold: 0.85, release: 0.25 },
};
let audio = null;
let output = null;
const waves = {};

function openSound() {
  if (audio) return;
  audio = new AudioContext({ latencyHint: "playback" });
  const limiter = new DynamicsCompressorNode(audio, { threshold: -12, ratio: 8, attack: 0.003, release: 0.2 });
  output = new GainNode(audio, { gain: Number(byId("volume").value) });
  output.connect(limiter).connect(audio.destination);
  for (const [name, { partials }] of Object.entries(SOUNDS)) {
    waves[name] = new PeriodicWave(audio, { real: partials.map(() => 0), imag: partials });
  }
}

// A note that begins; `stop(time)` ends it.
function sound(pitch, velocity, time) {
  const name = byId("sound").value;
  const { attack, decay, hold, release } = SOUNDS[name];
  const level = 0.16 * (velocity / 80) * Math.min(1, 2 ** ((60 - pitch) / 36));
  const frequency = 440 * 2 ** ((pitch - 69) / 12);
  const oscillator = new OscillatorNode(audio, { periodicWave: waves[name], frequency });
  const gain = new GainNode(audio, { gain: 0 });
  gain.gain.setValueAtTime(0, time);
  gain.gain.linearRampToValueAtTime(level, time + attack);
  gain.gain.setTargetAtTime(level * hold, time + attack, decay / 3);
  oscillator.connect(gain).connect(output);
  oscillator.start(time);
  return {
    stop(at) {
      const end = Math.max(at, time + attack);
      gain.gain.cancelScheduledValues(end);
      gain.gain.setTargetAtTime(0, end, release / 4);
      oscillator.stop(end + 2 * release);
    },
    silence() {
      gain.disconnect();
      oscillator.stop();
    },
  };
}

// --- playing: notes are made a little before they sound ------------------------------------------------

const AHEAD = 1.2; // seconds
const BUDGET = 14; // milliseconds of making music, before the page draws again
const player = { piece: null, shown: [], lines: [], sounding: new Map(), anchor: null, timer: 0, voices: new Set(), made: 0 };
const value = (id) => Number(byId(id).value);
const secondsPerUnit = () => 60 / value("tempo") / quarter;
const timeOf = (unit) => player.anchor.time + (unit - player.anchor.unit) * player.anchor.rate;
const isPlaying = () => Boolean(player.piece) && audio.state === "running" && !player.paused;

function retime() {
  if (!player.anchor) return;
  const unit = player.piece.reader.time;
  player.anchor = { unit, time: timeOf(unit), rate: secondsPerUnit() };
}

function chosenPrime() {
  const which = byId("prime").value;
  if (which === "played" && played.length) return primeOf(quantised());
  const prime = data.primes[Number(which)];
  if (which === "" || !prime) return nothing;
  return { ...prime, elements: data.reader.bits ? matrixOf(prime.elements) : prime.elements };
}

function silence() {
  for (const voice of player.voices) voice.silence();
  player.voices.clear();
  player.sounding.clear();
}

function begin() {
  openSound();
  silence();
  player.seed = value("seed");
  player.piece = new Piece(chosenPrime(), player.seed, () => value("temperature"));
  player.anchor = { unit: 0, time: audio.currentTime + 0.15, rate: secondsPerUnit() };
  player.shown = [];
  player.lines = [];
  player.paused = false;
  audio.resume();
  if (!player.timer) player.timer = setInterval(pump, 40);
  pump();
  draw();
  show();
}

function finish(note) {
  const entry = player.sounding.get(note);
  if (!entry) return;
  player.sounding.delete(note);
  const end = timeOf(note.end);
  entry.shown.end = end;
  entry.voice.stop(end);
  setTimeout(() => player.voices.delete(entry.voice), 1000 * Math.max(end - audio.currentTime, 0) + 1500);
}

function pump() {
  if (!isPlaying()) return;
  const { piece } = player;
  const past = audio.currentTime - 20;
  player.shown = player.shown.filter((note) => note.end > past);
  player.lines = player.lines.filter((line) => line > past);
  const start = performance.now();
  let idle = 0; // elements in a row that moved nothing on
  while (timeOf(piece.reader.time) < audio.currentTime + AHEAD && performance.now() - start < BUDGET && idle < 500) {
    const late = audio.currentTime + 0.05 - timeOf(piece.reader.time);
    if (late > 0) player.anchor.time += late; // the machine was too slow, or the page was asleep
    const before = piece.reader.time;
    for (const note of piece.step()) {
      const pitch = Math.min(Math.max(note.pitch + value("key"), 0), 127);
      const shown = { start: timeOf(note.start), end: Infinity, pitch, given: note.given };
      const voice = sound(pitch, note.velocity, shown.start);
      player.shown.push(shown);
      player.voices.add(voice);
      player.sounding.set(note, { voice, shown });
      if (note.end !== null) finish(note);
    }
    for (const note of piece.reader.ended ? piece.reader.ended.splice(0) : []) finish(note);
    player.lines.push(...piece.bars.splice(0, piece.bars.length - 1).map(timeOf));
    player.made += piece.elements > piece.prime.elements.length ? 1 : 0;
    idle = piece.reader.time > before ? 0 : idle + 1;
  }
}

// What was chosen or played anew is what a piece begins with: at once, or when Play is pressed.
function restart() {
  if (isPlaying()) return begin();
  silence();
  player.piece = null;
  show();
}

function pause() {
  if (!player.piece) return begin();
  player.paused = !player.paused;
  if (player.paused) audio.suspend();
  else audio.resume().then(draw);
  show();
}

// --- the keyboard ----------------------------------------------------------------------------------------

const KEYS = "awsedftgyhujk"; // from C to C, as a piano's keys lie
const LOWEST = 60;
let played = []; // {pitch, start, end} in seconds, as they were played
const held = new Map();

function press(pitch) {
  if (held.has(pitch)) return;
  openSound();
  silence(); // the player has the word
  player.piece = null;
  audio.resume();
  const note = { pitch, start: performance.now() / 1000, end: null };
  if (byId("prime").value !== "played") played = [];
  byId("played").disabled = false;
  byId("prime").value = "played";
  played.push(note);
  const voice = sound(pitch, SOFT, audio.currentTime);
  held.set(pitch, { note, voice });
  mark(pitch, true);
  show();
}

function release(pitch) {
  const entry = held.get(pitch);
  if (!entry) return;
  entry.note.end = performance.now() / 1000;
  entry.voice.stop(audio.currentTime);
  held.delete(pitch);
  mark(pitch, false);
}

function mark(pitch, down) {
  const key = document.querySelector(`[data-pitch="${pitch}"]`);
  if (key) key.classList.toggle("down", down);
}

// What was played, in units on the grid of sixteenths, in the model's key.
function quantised() {
  const step = quarter / 4;
  const from = played[0].start;
  const grid = (seconds) => step * Math.round((seconds - from) / secondsPerUnit() / step);
  return played.map(({ pitch, start, end }) => ({
    pitch: pitch - value("key"),
    start: grid(start),
    end: Math.max(grid(end ?? performance.now() / 1000), grid(start) + step),
  }));
}

function buildKeyboard() {
  const names = ["C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"];
  for (let i = 0; i < 25; i++) {
    const pitch = LOWEST - 12 + i;
    const name = names[pitch % 12];
    const key = document.createElement("button");
    key.type = "button";
    key.dataset.pitch = pitch;
    key.className = `${name.length > 1 ? "black" : "white"}${pitch < LOWEST ? " low" : ""}`;
    key.setAttribute("aria-label", `${name}${Math.floor(pitch / 12) - 1}`);
    const letter = KEYS[pitch - LOWEST];
    if (letter) key.textContent = letter.toUpperCase();
    key.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      key.setPointerCapture(event.pointerId);
      press(pitch);
    });
    for (const kind of ["pointerup", "pointercancel"]) key.addEventListener(kind, () => release(pitch));
    key.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      if (!event.repeat) press(pitch);
    });
    for (const kind of ["keyup", "blur"]) key.addEventListener(kind, () => release(pitch));
    byId("keyboard").append(key);
  }
}

// --- what is seen ------------------------------------------------------------------------------------------

const canvas = byId("roll");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const range = { low: 48, high: 76 };
let drawing = false;

function draw() {
  if (drawing) return;
  drawing = true;
  const frame = () => {
    paint();
    if (!isPlaying()) drawing = false;
    else if (calm.matches) setTimeout(frame, 500);
    else requestAnimationFrame(frame);
  };
  frame();
}

function paint() {
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  const scale = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  const now = audio ? audio.currentTime : 0;
  const seconds = Math.min(Math.max(width / 60, 6), 16);
  const from = now - seconds + AHEAD;
  for (const { pitch } of player.shown) {
    range.low = Math.min(range.low, pitch - 2);
    range.high = Math.max(range.high, pitch + 2);
  }
  const row = height / (range.high - range.low + 1);
  const x = (time) => ((time - from) / seconds) * width;
  context.fillStyle = colour("black");
  for (let pitch = range.low; pitch <= range.high; pitch++) {
    if ([1, 3, 6, 8, 10].includes(pitch % 12)) context.fillRect(0, (range.high - pitch) * row, width, row);
  }
  context.fillStyle = colour("bar");
  for (const line of player.lines) context.fillRect(x(line), 0, 1, height);
  for (const { start, end, pitch, given } of player.shown) {
    if (end < from) continue;
    const right = Math.min(end, from + seconds);
    context.globalAlpha = start > now ? 0.35 : end < now ? 0.7 : 1;
    context.fillStyle = colour(given ? "track-0" : "track-1");
    context.fillRect(x(start), (range.high - pitch) * row, Math.max(x(right) - x(start) - 1, 1), Math.max(row - 1, 2));
  }
  context.globalAlpha = 1;
  context.fillStyle = colour("accent");
  context.fillRect(x(now), 0, 2, height);
}

function show() {
  for (const [id, text] of [
    ["temperature", value("temperature").toFixed(2)],
    ["tempo", `♩ = ${value("tempo")}`],
  ]) byId(`${id}-shown`).textContent = text;
  byId("play").textContent = player.piece && !player.paused ? "Pause" : player.piece ? "Go on" : "Play";
  const count = played.length;
  byId("status").textContent =
    byId("prime").value === "played" && !player.piece
      ? `You played ${count} note${count === 1 ? "" : "s"}. Press Play, and the model goes on from there.`
      : player.piece
        ? player.paused ? "Paused." : `Playing, seed ${player.seed}.`
        : "Ready.";
}

// --- events ----------------------------------------------------------------------------------------------

function fresh() {
  byId("seed").value = (value("seed") + 1) % 2147483648;
  begin();
}

for (const [index, prime] of data.primes.entries()) byId("prime").append(new Option(prime.name, index));
const keys = ["C", "D♭", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];
for (let shift = -5; shift <= 6; shift++) {
  const major = keys[(shift + 12) % 12];
  const minor = keys[(shift + 9 + 12) % 12];
  const text = data.transposed ? `${major} major, ${minor} minor` : shift ? `${shift > 0 ? "+" : "−"}${Math.abs(shift)} semitones` : "as it was made";
  byId("key").append(new Option(text, shift, !shift, !shift));
}
byId("tempo").value = data.tempo;
byId("prime").value = data.primes.length ? "0" : "";
buildKeyboard();
byId("play").addEventListener("click", pause);
byId("again").addEventListener("click", begin);
byId("new").addEventListener("click", fresh);
byId("tempo").addEventListener("input", () => { retime(); show(); });
byId("temperature").value = data.rules.temperature;
byId("temperature").addEventListener("input", show);
byId("volume").addEventListener("input", () => output && output.gain.setTargetAtTime(value("volume"), audio.currentTime, 0.02));
for (const id of ["prime", "seed"]) byId(id).addEventListener("change", restart);
byId("forget").addEventListener("click", () => {
  played = [];
  byId("played").disabled = true;
  if (byId("prime").value !== "played") return;
  byId("prime").value = data.primes.length ? "0" : "";
  restart();
});
const typing = (event) => event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input:not([type=range])");
document.addEventListener("keydown", (event) => {
  if (event.repeat || typing(event)) return;
  const at = KEYS.indexOf(event.key.toLowerCase());
  if (event.key.length === 1 && at >= 0) press(LOWEST + at);
  else if (event.key === " " && !event.target.matches("button")) { event.preventDefault(); pause(); }
  else if (event.key.toLowerCase() === "n") fresh();
  else if (event.key === "Enter" && !event.target.matches("button")) begin();
});
document.addEventListener("keyup", (event) => {
  const at = KEYS.indexOf(event.key.toLowerCase());
  if (event.key.length === 1 && at >= 0) release(LOWEST + at);
});
addEventListener("blur", () => [...held.keys()].forEach(release));
addEventListener("resize", paint);
show();
paint();

// --- for tests, and for those who are curious: open the console -------------------------------------------

// The logits of each element of a piece, from those before it; places: of the one before it, and of each.
function trace(elements, places) {
  const memory = network.start(places[0]);
  return elements.map((element, i) => {
    const seen = [];
    if (network.draw) {
      network.advance(memory);
      network.draw(memory, (logits, note) => {
        seen.push(...logits);
        return element.slice(note * network.bits, (note + 1) * network.bits);
      });
      Object.assign(memory, { last: element, place: places[i + 1] });
    } else {
      network.next(memory, places[i + 1], { id: (logits) => (seen.push(...logits), element) });
    }
    return seen;
  });
}

// Elements a second.
function speed(count) {
  const piece = new Piece(nothing, 0, () => 1);
  const start = performance.now();
  for (let i = 0; i < count; i++) piece.step();
  return (1000 * count) / (performance.now() - start);
}

window.musicjax = { data, network, player, trace, speed, matrixOf };
