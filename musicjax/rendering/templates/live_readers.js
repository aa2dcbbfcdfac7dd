"use strict";
// What elements mean as music, as in musicjax/encodings. Time is counted in units. Each has
//   time               until when all notes are known
//   read(element)      goes on; returns notes [{start, end, pitch, velocity}], whose end is null if
//                      the note sounds on: `ended` then says later which
//   allowed(id)        whether it may come next
//   crowds(id, most)   whether more than `most` notes would sound by it
//   units(id)          how far it moves time on, as Encoding.units
//   context(add)       as Encoding.context: calls add(number, value) of what is not 0, 128 numbers
//                      of the pitches after another, then the others
//   moves()            of each pitch, as Context.moves; null for no voice's
//   pitchOf(id)        as Encoding.id_pitches
//   elementsOf(notes)  of notes that were played: {start, end, pitch}, by start
const READERS = {};
const SOFT = 80; // velocity of what does not say it
const FORGOTTEN = -4096; // points of the grid; notes that ended longer ago are alike

function nearest(candidates, distance) {
  let best = null;
  for (const each of candidates) if (best === null || distance(each) < distance(best)) best = each;
  return best;
}

// Notes that begin together, [[start, notes], ...].
function chords(notes) {
  const found = new Map();
  for (const note of notes) found.set(note.start, [...(found.get(note.start) || []), note]);
  return [...found].sort((a, b) => a[0] - b[0]);
}

// Tokens: a note, a chord or a rest, with its duration.
READERS.tokens = class {
  constructor(tables) {
    Object.assign(this, tables); // pitches [[...]], durations, units_per_quarter
    this.time = 0;
  }

  isRest(id) {
    return id > 0 && !this.pitches[id].length;
  }

  allowed(id) {
    return id > 0;
  }

  pitchOf() {
    return -1; // a token may be of several
  }

  crowds(id, most) {
    return this.pitches[id].length > most;
  }

  units(id) {
    return this.durations[id];
  }

  read(id) {
    const start = this.time;
    this.time += this.durations[id];
    return this.pitches[id].map((pitch) => ({ start, end: this.time, pitch, velocity: SOFT }));
  }

  elementsOf(notes) {
    const known = this.pitches.map((pitches, id) => id).filter((id) => this.pitches[id].length);
    const parts = chords(notes);
    return parts.map(([start, chord], i) => {
      const wanted = chord.map((note) => note.pitch);
      const duration = (i + 1 < parts.length ? parts[i + 1][0] : Math.max(...chord.map((n) => n.end))) - start;
      return nearest(known, (id) => {
        const common = wanted.filter((pitch) => this.pitches[id].includes(pitch)).length;
        const top = Math.abs(Math.max(...this.pitches[id]) - Math.max(...wanted));
        return 100 * (wanted.length + this.pitches[id].length - 2 * common) + 10 * top + Math.abs(this.durations[id] - duration);
      });
    });
  }
};

// Events: bars, positions, pitches, durations (REMI).
READERS.events = class {
  constructor(tables) {
    // kinds, values, bar_units, bar_points, points_per_beat, follow, kind (numbers by name)
    Object.assign(this, tables);
    this.left = new Array(128).fill(FORGOTTEN); // of each pitch points until its note ends, or since
    this.now = []; // notes that sound, [{pitch, left}], the lowest first
    this.heard = new Array(128).fill(0); // for how many points each pitch has sounded
    this.passed = 0; // points
    this.before = []; // pitches that voices sang, when last any sounded before this place
    this.last = 0;
    this.position = -1;
    this.points = 0; // of the bar
    this.pitch = -1;
    this.barStart = 0;
    this.barUnits = 0;
    this.time = 0;
    this.velocity = SOFT;
  }

  isRest() {
    return false;
  }

  allowed(id) {
    const kind = this.kinds[id];
    if (!this.follow[this.kinds[this.last]][kind]) return false;
    if (kind === this.kind.Position) return this.values[id] > this.position && this.values[id] < this.points;
    return kind !== this.kind.Pitch || this.values[id] >= this.pitch;
  }

  crowds(id, most) {
    const soundAfter = (points) => this.now.filter((note) => note.left > points).length;
    if (this.kinds[id] === this.kind.Pitch) {
      return soundAfter(0) >= most || this.now.filter((note) => note.pitch === this.values[id]).length > 1;
    }
    return this.kinds[id] === this.kind.Position && soundAfter(this.values[id] - Math.max(this.position, 0)) >= most;
  }

  units(id) {
    return this.bar_units[id];
  }

  unitsOf(points) {
    return this.points ? (points * this.barUnits) / this.points : 0;
  }

  read(id) {
    const kind = this.kinds[id];
    const value = this.values[id];
    const notes = [];
    this.last = id;
    const was = Math.max(this.position, 0);
    if (kind === this.kind.Bar) {
      this.pass(this.points ? this.points - was : Math.max(...this.left));
      this.barStart += this.barUnits;
      this.time = this.barStart;
      this.barUnits = 0;
      this.position = this.pitch = -1;
    } else if (kind === this.kind.TimeSig) {
      this.barUnits = this.bar_units[id];
      this.points = this.bar_points[id];
    } else if (kind === this.kind.Position) {
      this.pass(value - was);
      this.position = value;
      this.pitch = -1;
      this.time = this.barStart + this.unitsOf(value);
    } else if (kind === this.kind.Pitch) {
      this.pitch = value;
    } else if (kind === this.kind.Velocity) {
      this.velocity = value;
    } else if (kind === this.kind.Duration && this.pitch >= 0) {
      this.left[this.pitch] = Math.max(value, this.left[this.pitch]);
      const longestFirst = [...this.now, { pitch: this.pitch, left: value }].sort((a, b) => a.pitch - b.pitch || b.left - a.left);
      // Of a pitch two are followed.
      this.now = longestFirst.filter((note, i) => note.pitch !== longestFirst[i - 2]?.pitch);
      notes.push({ start: this.time, end: this.time + this.unitsOf(value), pitch: this.pitch, velocity: this.velocity });
    }
    return notes;
  }

  pass(points) {
    if (points <= 0) return;
    const longest = Math.min(points, Math.max(...this.left));
    if (longest > 0) this.before = this.now.filter((note) => note.left >= longest).map((note) => note.pitch);
    this.passed += points;
    this.heard = this.heard.map((heard, pitch) => heard + Math.max(Math.min(this.left[pitch], points), 0));
    this.left = this.left.map((left) => Math.max(left - points, FORGOTTEN));
    this.now = this.now.map(({ pitch, left }) => ({ pitch, left: left - points })).filter((note) => note.left > 0);
  }

  // As in musicjax/encodings/events.py.
  context(add) {
    const near = 2 * this.points_per_beat;
    const most = this.passed + 8 * this.points_per_beat;
    const place = Math.max(this.position, 0);
    const line = Math.max(...this.bar_points);
    this.left.forEach((left, pitch) => {
      if (left > 0) {
        add(pitch, 1);
        add(128 + pitch, Math.min(left / near, 1));
      } else if (left > -near) add(256 + pitch, 1 + left / near);
      if (this.heard[pitch]) add(512 + pitch, Math.sqrt(this.heard[pitch] / most));
    });
    if (this.pitch >= 0) add(384 + this.pitch, 1);
    let others = 640;
    for (const voices of [this.now, this.before]) {
      add(others + Math.min(voices.length, 15), 1);
      others += 16;
    }
    const lasts = this.now.map((note) => note.left);
    for (const left of [Math.min(...lasts), Math.max(...lasts)]) {
      if (lasts.length) add(others + (place + left < this.points ? place + left : line), 1);
      others += line + 1;
    }
    if (this.position >= 0) add(others + this.position, 1);
  }

  moves() {
    return this.left.map((_, pitch) => {
      const voice = this.now.filter((note) => note.pitch <= pitch).length;
      return voice < Math.min(this.before.length, 12) ? pitch - this.before[voice] : null;
    });
  }

  pitchOf(id) {
    return this.kinds[id] === this.kind.Pitch ? this.values[id] : -1;
  }

  id(kind, value) {
    const of = this.kinds.map((_, id) => id).filter((id) => this.kinds[id] === this.kind[kind]);
    return nearest(of, (id) => Math.abs(this.values[id] - value));
  }

  elementsOf(notes) {
    const meter = this.kinds.findIndex((kind, id) => {
      return kind === this.kind.TimeSig && this.values[id] === 4 && this.bar_units[id] === 4 * this.units_per_quarter;
    });
    const unit = this.bar_units[meter] / this.bar_points[meter]; // of a point
    const ids = [];
    let bar = -1;
    for (const [start, chord] of chords(notes)) {
      const which = Math.floor(start / this.bar_units[meter]);
      for (; bar < which; bar++) ids.push(this.id("Bar", 0), meter);
      ids.push(this.id("Position", (start % this.bar_units[meter]) / unit));
      for (const note of chord.sort((a, b) => a.pitch - b.pitch)) {
        ids.push(this.id("Pitch", note.pitch));
        if (this.kinds.includes(this.kind.Velocity)) ids.push(this.id("Velocity", SOFT));
        ids.push(this.id("Duration", (note.end - start) / unit));
      }
    }
    return ids;
  }
};

// Note states: for each step and note whether it plays, and whether it is struck.
READERS.note_states = class {
  constructor(tables) {
    Object.assign(this, tables); // lowest, notes, bits
    this.time = 0;
    this.sounding = new Map();
    this.ended = [];
  }

  isRest(element) {
    return !element.some((bit) => bit);
  }

  read(element) {
    const begun = [];
    for (let note = 0; note < this.notes; note++) {
      const plays = element[note * this.bits];
      const sounds = this.sounding.get(note);
      const struck = plays && (!sounds || (this.bits > 1 && element[note * this.bits + 1]));
      if (sounds && (struck || !plays)) {
        sounds.end = this.time;
        this.ended.push(sounds);
        this.sounding.delete(note);
      }
      if (struck) {
        const made = { start: this.time, end: null, pitch: note + this.lowest, velocity: SOFT };
        this.sounding.set(note, made);
        begun.push(made);
      }
    }
    this.time += 1;
    return begun;
  }

  elementsOf(notes) {
    const length = Math.max(0, ...notes.map((note) => note.end));
    const steps = Array.from({ length }, () => new Uint8Array(this.notes * this.bits));
    for (const { start, end, pitch } of notes) {
      const note = pitch - this.lowest;
      if (note < 0 || note >= this.notes) continue;
      for (let step = start; step < end; step++) steps[step][note * this.bits] = 1;
      if (this.bits > 1) steps[start][note * this.bits + 1] = 1;
    }
    return steps;
  }
};
