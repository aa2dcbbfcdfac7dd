"use strict";
// The networks of musicjax/models, one element after another. Each has
//   start(place)                      what it remembers before the first element
//   read(memory, place, element)      goes on by an element that is given
//   next(memory, place, sampler)      goes on by one that is drawn, and returns it
// where `place` is the place in the bar of the element. A matrix is an array of notes times bits.
const NETWORKS = {};

// Little-endian float32, in base64.
function numbers(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

// y += x w, of the rows of w from `row` on.
function addProduct(y, x, w, row = 0, from = 0, count = x.length) {
  const columns = y.length;
  for (let i = 0; i < count; i++) {
    const value = x[from + i];
    if (value === 0) continue;
    const start = (row + i) * columns;
    for (let j = 0; j < columns; j++) y[j] += value * w[start + j];
  }
}

function addRow(y, w, row, scale = 1) {
  const start = row * y.length;
  for (let j = 0; j < y.length; j++) y[j] += scale * w[start + j];
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

// As in musicjax/models/lstm.py: gates i, f, g, o side by side.
class LSTM {
  constructor(arrays, name) {
    this.wX = arrays[`${name}.w_x`];
    this.wH = arrays[`${name}.w_h`];
    this.b = arrays[`${name}.b`];
    this.size = this.b.length / 4;
    this.inputs = this.wX.length / this.b.length;
    this.gates = new Float64Array(this.b.length);
  }

  project(x, from = 0) {
    this.gates.set(this.b);
    addProduct(this.gates, x, this.wX, 0, from, this.inputs);
  }

  // The projected input is in `gates`; h and c are changed in their places, from `at` on.
  step(h, c, at = 0) {
    const { gates, size } = this;
    addProduct(gates, h, this.wH, 0, at, size);
    for (let i = 0; i < size; i++) {
      const cell = sigmoid(gates[size + i]) * c[at + i] + sigmoid(gates[i]) * Math.tanh(gates[2 * size + i]);
      c[at + i] = cell;
      h[at + i] = sigmoid(gates[3 * size + i]) * Math.tanh(cell);
    }
  }
}

// musicjax/models/pointer.py: its memory is of one entry for each id, the newest last, and of the last
// pitch, and the last id's step. `pitchOf` is the reader's, of `count` ids.
class Pointer {
  constructor(reach, unitsPerQuarter, arrays, pitchOf, count) {
    Object.assign(this, { reach, unitsPerQuarter, pitchOf, ofPitch: new Map() });
    for (const name of ["w_query", "w_key", "sentinel", "bias", "distance", "matched", "moved"]) {
      this[name] = arrays[`pointer.${name}`];
    }
    this.size = this.sentinel.length;
    for (let id = 0; id < count; id++) if (pitchOf(id) >= 0) this.ofPitch.set(pitchOf(id), id);
  }

  start() {
    return { entries: [], pitch: 60, step: 0 };
  }

  // `last` was read: where it came before, a match goes on, and elsewhere it is half as good.
  match({ entries, step }, last) {
    const after = (before, same) => (same && last > 0 ? before + 1 : Math.floor(before / 2));
    for (let s = entries.length - 1; s >= 0; s--) {
      const before = entries[s - 1];
      entries[s].match = before ? after(before.match, before.id === last) : 0;
      entries[s].movedMatch = before ? after(before.movedMatch, before.step === step) : 0;
    }
  }

  scoreOf(query, time, { key, time: then }) {
    const ago = time - then;
    const furthest = this.distance.length - 2;
    const whole = ago % this.unitsPerQuarter === 0;
    let score = this.distance[whole ? Math.min(ago / this.unitsPerQuarter, furthest) : furthest + 1];
    for (let i = 0; i < this.size; i++) score += query[i] * key[i];
    return score;
  }

  // What may be copied of an entry, with the scores: its id, and that moved to another pitch.
  copies(query, time, entry, pitch) {
    const score = this.scoreOf(query, time, entry);
    const known = (matched, match) => matched[Math.min(match, matched.length - 1)];
    const copies = [{ id: entry.id, score: score + known(this.matched, entry.match) }];
    const by = pitch - entry.pitch;
    if (!this.moved || by === 0) return copies;
    const from = this.pitchOf(entry.id);
    const id = from < 0 ? entry.id : this.ofPitch.get(from + by);
    if (id) copies.push({ id, score: score + known(this.moved, entry.movedMatch) });
    return copies;
  }

  // The logits become log-probabilities of all ids, copies too.
  mix(logits, { entries, pitch }, h, time) {
    const query = new Float64Array(this.size);
    addProduct(query, h, this.w_query);
    let own = this.bias[0];
    query.forEach((value, i) => {
      query[i] = value / Math.sqrt(this.size);
      own += query[i] * this.sentinel[i];
    });
    // One entry more than can be pointed to is kept, for the match of the one after it.
    const allowed = entries.slice(entries.length > this.reach ? 1 : 0).filter(({ id }) => id > 0);
    const copies = allowed.flatMap((entry) => this.copies(query, time, entry, pitch));
    const most = copies.reduce((a, { score }) => Math.max(a, score), own);
    const shares = copies.map(({ score }) => Math.exp(score - most));
    const ownShare = Math.exp(own - most);
    const sum = shares.reduce((a, b) => a + b, ownShare);
    const highest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    const p = logits.map((logit) => Math.exp(logit - highest));
    const scale = ownShare / sum / p.reduce((a, b) => a + b, 0);
    p.forEach((value, id) => (p[id] = value * scale));
    copies.forEach(({ id }, i) => (p[id] += shares[i] / sum));
    p.forEach((value, id) => (logits[id] = Math.log(value + 1e-30)));
  }

  write(memory, h, id, time) {
    const { entries, pitch } = memory;
    const key = new Float64Array(this.size);
    addProduct(key, h, this.w_key);
    const own = this.pitchOf(id);
    memory.step = own < 0 ? id : `step ${own - pitch}`;
    if (own >= 0) memory.pitch = own;
    entries.push({ key, id, time, pitch, step: memory.step, match: 0, movedMatch: 0 });
    if (entries.length > this.reach + 1) entries.shift();
  }
}

// musicjax/models/causal_lstm.py.
NETWORKS.causal_lstm = class {
  constructor(settings, arrays) {
    this.arrays = arrays;
    this.embedding = settings.embedding_size;
    this.places = arrays.places ? arrays.places.length / this.embedding : 0;
    this.lstms = Array.from({ length: settings.layers }, (_, i) => new LSTM(arrays, `lstms.${i}`));
    this.table = arrays.table;
    this.logits = new Float64Array(this.table.length / this.embedding);
    const { reach } = settings;
    const reader = new READERS[data.reader.name](data.reader);
    const pitchOf = (id) => reader.pitchOf(id);
    const copies = [reach, data.reader.units_per_quarter, arrays, pitchOf, this.logits.length];
    this.pointer = reach ? new Pointer(...copies) : null;
  }

  start() {
    const state = this.lstms.map(({ size }) => ({ h: new Float64Array(size), c: new Float64Array(size) }));
    const reader = new READERS[data.reader.name](data.reader);
    return { state, reader, last: 0, time: 0, copied: this.pointer && this.pointer.start() };
  }

  advance(memory, place) {
    const { reader, last, copied } = memory;
    let x = new Float64Array(this.embedding);
    addRow(x, this.table, last);
    if (this.arrays.context) {
      reader.read(last);
      reader.context((feature, value) => addRow(x, this.arrays.context, feature, value));
    }
    if (this.pointer) {
      this.pointer.match(copied, last);
      memory.time += reader.units(last);
    }
    if (this.places) addRow(x, this.arrays.places, Math.min(place, this.places - 1));
    this.lstms.forEach((lstm, i) => {
      const { h, c } = memory.state[i];
      lstm.project(x);
      lstm.step(h, c);
      x = h;
    });
    return x;
  }

  // musicjax/models/intervals.py: of each pitch, 0 to 127.
  scores(h, reader) {
    const by = (name) => {
      const weights = new Float64Array(this.arrays[name].length / h.length);
      addProduct(weights, h, this.arrays[name]);
      return weights;
    };
    const [near, classes, moved] = ["near", "classes", "moves"].map((name) => by(`intervals.${name}`));
    const scores = new Float64Array(128);
    reader.context((at, value) => {
      const number = Math.floor(at / 128);
      const pitch = at % 128;
      if (25 * number >= near.length) return;
      for (let i = Math.max(-12, pitch - 127); i <= Math.min(12, pitch); i++) scores[pitch - i] += near[25 * number + 12 + i] * value;
      for (let other = 0; other < 128; other++) scores[other] += classes[12 * number + ((pitch - other + 132) % 12)] * value;
    });
    reader.moves().forEach((move, pitch) => (scores[pitch] += moved[move === null || Math.abs(move) > 12 ? 25 : move + 12]));
    return scores;
  }

  outputs(h, reader) {
    const { table, logits, embedding } = this;
    const out = Float64Array.from(this.arrays.b_out);
    addProduct(out, h, this.arrays.w_out);
    for (let id = 0; id < logits.length; id++) {
      let sum = this.arrays.bias[id];
      for (let i = 0; i < embedding; i++) sum += out[i] * table[id * embedding + i];
      logits[id] = sum;
    }
    if (this.arrays["intervals.near"]) {
      const scores = this.scores(h, reader);
      for (let id = 0; id < logits.length; id++) if (reader.pitchOf(id) >= 0) logits[id] += scores[reader.pitchOf(id)];
    }
    logits[0] = -1e9; // no id, and never an answer
    return logits;
  }

  take(memory, h, id) {
    if (this.pointer) this.pointer.write(memory.copied, h, id, memory.time);
    memory.last = id;
    return id;
  }

  read(memory, place, id) {
    this.take(memory, this.advance(memory, place), id);
  }

  next(memory, place, sampler) {
    const h = this.advance(memory, place);
    const logits = this.outputs(h, memory.reader);
    if (this.pointer) this.pointer.mix(logits, memory.copied, h, memory.time);
    return this.take(memory, h, sampler.id(logits));
  }
};

// musicjax/models/biaxial.py, with the same weights for all notes and steps.
NETWORKS.biaxial = class {
  constructor(settings, arrays) {
    Object.assign(this, settings); // notes, bits, lowest, beat, pitch_feature, rotated, feedback
    this.timeLSTMs = Array.from({ length: settings.time_layers }, (_, i) => new LSTM(arrays, `time_lstms.${i}`));
    this.noteLSTMs = Array.from({ length: settings.note_layers }, (_, i) => new LSTM(arrays, `note_lstms.${i}`));
    this.wOut = arrays.w_out;
    this.bOut = arrays.b_out;
    const first = this.timeLSTMs[0];
    // What never changes of a note's features, as its first LSTM sees it.
    this.constant = Array.from({ length: this.notes }, (_, note) => {
      const gates = Float64Array.from(first.b);
      addRow(gates, first.wX, 0, note + (this.pitch_feature === "midi" ? this.lowest : 0));
      addRow(gates, first.wX, 1 + ((note + this.lowest) % 12));
      return gates;
    });
  }

  start(place) {
    const state = this.timeLSTMs.map(({ size }) => {
      return { h: new Float64Array(this.notes * size), c: new Float64Array(this.notes * size) };
    });
    return { state, last: new Uint8Array(this.notes * this.bits), place };
  }

  // musicjax/models/note_features.py times the weights of the first LSTM, for one note.
  features(memory, note) {
    const { notes, bits } = this;
    const first = this.timeLSTMs[0];
    const { gates, wX } = first;
    gates.set(this.constant[note]);
    for (let offset = Math.max(-12, -note); offset <= 12 && note + offset < notes; offset++) {
      for (let bit = 0; bit < bits; bit++) {
        if (memory.last[(note + offset) * bits + bit]) addRow(gates, wX, 13 + (offset + 12) * bits + bit);
      }
    }
    const classes = 13 + 25 * bits;
    for (let other = 0; other < notes; other++) {
      const slot = (((other - note - (this.rotated ? 1 : 0)) % 12) + 12) % 12;
      if (memory.last[other * bits]) addRow(gates, wX, classes + slot);
    }
    if (this.beat === "none") return;
    for (let bit = 0; bit < 4; bit++) {
      const on = (memory.place >> bit) & 1;
      addRow(gates, wX, classes + 12 + bit, this.beat === "signed" ? 2 * on - 1 : on);
    }
  }

  advance(memory) {
    const first = memory.state[0];
    for (let note = 0; note < this.notes; note++) {
      this.features(memory, note);
      this.timeLSTMs[0].step(first.h, first.c, note * this.timeLSTMs[0].size);
      for (let i = 1; i < this.timeLSTMs.length; i++) {
        const lstm = this.timeLSTMs[i];
        lstm.project(memory.state[i - 1].h, note * lstm.inputs);
        lstm.step(memory.state[i].h, memory.state[i].c, note * lstm.size);
      }
    }
  }

  // Note after note, low to high: `choose` takes the outputs of a note and returns its bits.
  draw(memory, choose) {
    const { notes, bits } = this;
    const made = new Uint8Array(notes * bits);
    const states = this.noteLSTMs.map(({ size }) => [new Float64Array(size), new Float64Array(size)]);
    const { h } = memory.state.at(-1);
    const first = this.noteLSTMs[0];
    const inputs = this.timeLSTMs.at(-1).size;
    for (let note = 0; note < notes; note++) {
      first.gates.set(first.b);
      addProduct(first.gates, h, first.wX, 0, note * inputs, inputs);
      if (this.feedback && note) addProduct(first.gates, made, first.wX, inputs, (note - 1) * bits, bits);
      let x = h;
      this.noteLSTMs.forEach((lstm, i) => {
        if (i) lstm.project(x);
        lstm.step(...states[i]);
        [x] = states[i];
      });
      const output = Float64Array.from(this.bOut);
      addProduct(output, x, this.wOut);
      made.set(choose(output, note), note * bits);
    }
    return made;
  }

  read(memory, place, element) {
    this.advance(memory);
    memory.last = element;
    memory.place = place;
  }

  next(memory, place, sampler) {
    this.advance(memory);
    sampler.begin();
    memory.last = this.draw(memory, (logits) => sampler.bits(logits));
    memory.place = place;
    return memory.last;
  }
};
