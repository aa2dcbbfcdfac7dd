// The LSTM of musicjax/models/lstm.py on a CPU: one call for all steps, forward or backward.
//
//     [x_t, h_{t-1}, 1] w        one product a step, w being [w_x; w_h; b]
//
// The weights are packed once for all steps, into panels of columns; `sums`, the inner loop, holds
// kRows rows times a panel in the vector registers and reads each weight once for all of them. The
// gates are applied while a step's product is in the cache, and their gradients are used there, for
// those of x, h and w, and never kept. Rows of the batch do not depend on each other but for the
// sum of w's gradients, so they are what the threads share. Of few rows a thread each would read
// all weights for the sake of one row, so there each thread takes some of the units, of all rows,
// and waits for the others after each step.
//
// Axes: K LSTMs side by side, T step, B row of the batch, F feature, H hidden, G = 4H gates
// (i, f, g, o), U = F + H + 1. Of x steps come first, [T, K, B, F], of all else [K, T, B, H]: so
// the LSTMs along notes, of which each step has one, read what those along time wrote as it lies.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using Index = int64_t;
using Array = ffi::Buffer<ffi::F32>;
using Result = ffi::Result<Array>;

#if defined(__AVX512F__)
constexpr int kLanes = 16, kVectors = 3, kRows = 8, kStepRows = 6;  // 24 of 32 registers hold sums
#elif defined(__AVX__)
constexpr int kLanes = 8, kVectors = 2, kRows = 6, kStepRows = 2;  // 12 and 8 of 16
#else
constexpr int kLanes = 4, kVectors = 4, kRows = 6, kStepRows = 6;  // 24 of NEON's 32
#endif
constexpr int kPanel = kLanes * kVectors;  // columns
constexpr int kSums = 8, kFewRows = 2;  // a core adds to eight sums at once: few rows have fewer
constexpr Index kTaskRows = 64;                  // at most
constexpr Index kStepTaskRows = 32 * kStepRows;  // at most, so that they stay in the cache
// Rows, of several steps, after which w's gradient is added up; and if that is itself large.
constexpr Index kSumRows = 192, kLargeSumRows = 768, kLarge = 1 << 17;
constexpr Index kSoon = 1 << 14;  // numbers that are asked for before they are needed, at most
constexpr Index kTogether = 8;  // rows, up to which all threads work on each step
constexpr Index kWorthWaiting = 1 << 17;  // multiplications of such a step, for a thread more
constexpr Index kSpins = 1000;  // of a thread that waits, before it lets others run
constexpr Index kWorthSharing = 1 << 20;  // multiplications of a step, for threads to share it

using Vector = float __attribute__((vector_size(4 * kLanes), aligned(4)));
using Integers = int32_t __attribute__((vector_size(4 * kLanes)));

struct Matrix {  // of any layout
  const float* data;
  Index row, column;  // distances
  Index block = 0;    // and from kRows rows to the next, if it lies in blocks of rows
  const float* at(Index i, Index j) const { return data + i * row + j * column; }
  Matrix from(Index i) const { return {block ? data + i / kRows * block : at(i, 0), row, column}; }
};

Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }

Vector load(const float* from, Index count) {
  if (count >= kLanes) return load(from);
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps((1u << count) - 1, from);
#else
  Vector x{};
  std::memcpy(&x, from, 4 * count);
  return x;
#endif
}

void store(float* to, Vector x, Index count = kLanes) {
  if (count >= kLanes) {
    *reinterpret_cast<Vector*>(to) = x;
    return;
  }
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, (1u << count) - 1, x);
#else
  std::memcpy(to, &x, 4 * count);
#endif
}

// x, which the compiler must not load again for each product.
Vector in_register(Vector x) {
#if defined(__x86_64__)
  asm("" : "+v"(x));
#endif
  return x;
}

// 1 / (1 + exp(-x)), to 1e-7; NaN stays NaN.
Vector sigmoid(Vector x) {
  const Vector limit = Vector{} + 87.f;
  x = x > limit ? limit : x < -limit ? -limit : x;
  const Vector scaled = -1.44269504f * x, rounder = Vector{} + 12582912.f;  // 1.5 * 2^23
  const Vector shifted = scaled + rounder, f = scaled - (shifted - rounder);
  // 2^f for |f| <= 1/2 by its Chebyshev fit, times 2^n by the exponent's bits.
  Vector p = 1.54697320e-4f * f + 1.34004322e-3f;
  p = p * f + 9.61802560e-3f;
  p = p * f + 5.55032721e-2f;
  p = p * f + 2.40226512e-1f;
  p = p * f + 6.93147207e-1f;
  p = p * f + 1.f;
  const Integers bits = reinterpret_cast<Integers>(p) + (reinterpret_cast<Integers>(shifted) << 23);
  return 1.f / (1.f + reinterpret_cast<Vector>(bits));
}

Vector tanh(Vector x) { return 2.f * sigmoid(2.f * x) - 1.f; }

Index vectors_of(Index columns) { return (columns + kLanes - 1) / kLanes; }
Index panels(Index columns) { return (columns + kPanel - 1) / kPanel; }

// Columns of a block as panels [depth][size], zeros beyond the last column.
template <int size = kPanel>
void pack(Matrix from, Index depth, Index columns, float* to) {
  for (Index start = 0; start < columns; start += size)
    for (Index k = 0; k < depth; ++k, to += size) {
      const Index count = std::min<Index>(size, columns - start);
      if (from.column != 1) {
        for (Index j = 0; j < count; ++j) to[j] = *from.at(k, start + j);
      } else if (count == size) {
        std::memcpy(to, from.at(k, start), 4 * size);  // a number that is known: no call
      } else {
        std::memcpy(to, from.at(k, start), 4 * count);
      }
      std::fill(to + count, to + size, 0.f);
    }
}

// Adds column k of some rows of `a` times so many vectors of weights.
template <int rows, int vectors>
void add_column(Matrix a, Index k, const float* from, Vector (&sum)[rows][vectors]) {
  Vector weights[vectors];
  for (int v = 0; v < vectors; ++v) weights[v] = in_register(load(from + v * kLanes));
  for (int r = 0; r < rows; ++r) {
    const Vector x = Vector{} + *a.at(r, k);
    for (int v = 0; v < vectors; ++v) sum[r][v] += x * weights[v];
  }
}

// Rows of the next block. The last two share what is left: a block of few waits for its own sums.
Index block_rows(Index left) {
  return left >= 2 * kRows ? kRows : left > kRows ? (left + 1) / 2 : left;
}

// Calls `work` with a number, of rows or vectors, that the compiler knows.
template <int most, class Work>
void with_number(Index number, Work work) {
  if (number >= most) return work(std::integral_constant<int, most>{});
  if constexpr (most > 1) with_number<most - 1>(number, work);
}

// Some rows times so many vectors of panels that stand `apart`, of columns from `start` on:
// out = a w, or out += a w.
template <int rows, int together, int vectors = kVectors>
void multiply_block(Matrix a, Index depth, const float* panels, Index apart, Index start,
                    Index columns, float* out, Index out_row, bool add) {
  Vector sum[together][rows][vectors] = {};
  for (Index k = 0; k < depth; ++k)
    for (int p = 0; p < together; ++p) add_column(a, k, panels + p * apart + k * kPanel, sum[p]);
  for (int p = 0; p < together; ++p)
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < vectors; ++v) {
        const Index column = start + p * kPanel + v * kLanes, lanes = columns - column;
        if (lanes <= 0) break;
        float* to = out + r * out_row + column;
        store(to, add ? sum[p][r][v] + load(to, lanes) : sum[p][r][v], lanes);
      }
}

// out = a times packed panels, or out += it. a: [rows, depth].
void multiply(Matrix a, Index rows, Index depth, const float* packed, Index columns, float* out,
              Index out_row, bool add) {
  const Index count = panels(columns), apart = depth * kPanel;
  if (rows <= kFewRows)
    return with_number<kFewRows>(rows, [&](auto all) {
      constexpr int together = (kSums - 1) / (all.value * kVectors) + 1;
      Index panel = 0;
      for (; panel + together <= count; panel += together)
        multiply_block<all.value, together>(a, depth, packed + panel * apart, apart,
                                            panel * kPanel, columns, out, out_row, add);
      for (; panel < count; ++panel)
        multiply_block<all.value, 1>(a, depth, packed + panel * apart, apart, panel * kPanel,
                                     columns, out, out_row, add);
    });
  for (Index panel = 0; panel < count; ++panel)
    for (Index r = 0, some; r < rows; r += some) {
      some = a.block ? std::min<Index>(rows - r, kRows) : block_rows(rows - r);
      with_number<kRows>(some, [&](auto block) {
        with_number<kVectors>(vectors_of(columns - panel * kPanel), [&](auto vectors) {
          multiply_block<block.value, 1, vectors.value>(a.from(r), depth, packed + panel * apart,
                                                        apart, panel * kPanel, columns,
                                                        out + r * out_row, out_row, add);
        });
      });
    }
}

// Runs tasks 0, 1, ... on the threads of the pool and on this one. A helper that comes late, all
// tasks being taken, touches nothing: so we wait for tasks, never for threads that others keep
// busy.
template <class Work>
void share(ffi::ThreadPool& pool, Index tasks, Work work) {
  struct State {
    std::atomic<Index> next{0}, done{0};
  };
  auto state = std::make_shared<State>();
  auto run = [state, tasks, &work] {
    for (Index i; (i = state->next++) < tasks;) {
      work(i);
      if (++state->done == tasks) state->done.notify_all();
    }
  };
  for (Index i = 1; i < std::min<Index>(pool.num_threads(), tasks); ++i) {
    auto helper = run;
    pool.Schedule(std::move(helper));
  }
  run();
  for (Index done; (done = state->done) < tasks;) state->done.wait(done);
}

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Runs phases 0, 1, ..., each when the one before is done, of so many chunks each, on the threads
// of the pool and on this one. A thread takes the same chunk of each phase, so that its weights
// stay in that core's cache, and chunks that nobody has begun: again nobody waits for a thread that
// others keep busy.
template <class Work>
void in_phases(ffi::ThreadPool& pool, Index phases, Index chunks, Work work) {
  struct alignas(64) Chunk {
    std::atomic<Index> begun{0};  // phases of it
  };
  struct State {
    alignas(64) std::atomic<Index> phase{0};
    alignas(64) std::atomic<Index> done{0};  // chunks of all phases
    std::vector<Chunk> chunks;
    explicit State(Index count) : chunks(count) {}
  };
  auto state = std::make_shared<State>(chunks);
  auto run = [state, phases, chunks, &work](Index own) {
    for (Index phase; (phase = state->phase) < phases;) {
      for (Index i = 0; i < chunks; ++i) {
        const Index chunk = (own + i) % chunks;
        Index before = phase;
        if (!state->chunks[chunk].begun.compare_exchange_strong(before, phase + 1)) continue;
        work(phase, chunk);
        if (++state->done == (phase + 1) * chunks) state->phase = phase + 1;
      }
      for (Index spins = 0; state->phase == phase; ++spins)
        spins < kSpins ? pause() : std::this_thread::yield();
    }
  };
  for (Index i = 1; i < chunks; ++i) pool.Schedule([run, i] { run(i); });
  run(0);
}

// A buffer of this thread, kept: fresh pages would cost more than the arithmetic. It begins where a
// line of the cache does, so that no vector lies across two.
template <int slot, class T = float>
T* scratch(Index size) {
  struct alignas(64) Line {
    T values[64 / sizeof(T)];
  };
  thread_local std::vector<Line> buffer;
  const Index lines = (size * sizeof(T) + sizeof(Line) - 1) / sizeof(Line);
  if (static_cast<Index>(buffer.size()) < lines) buffer.resize(lines);
  return reinterpret_cast<T*>(buffer.data());
}

struct Shape {
  Index K, T, B, F, H, G, U;
  Index rows, parts;  // of the batch, of a task; tasks of an LSTM

  Shape(const Array& x, const Array& w, ffi::ThreadPool& pool) {
    const auto d = x.dimensions();
    K = d[0], T = d[1], B = d[2], F = d[3];
    U = w.dimensions()[1], G = w.dimensions()[2], H = G / 4;
    const Index threads = std::max<Index>(pool.num_threads(), 1);
    const Index wanted = K >= threads ? 1 : (threads + K - 1) / std::max<Index>(K, 1);
    const Index most = std::max(wanted, (B + kTaskRows - 1) / kTaskRows);
    rows = std::max<Index>((B + most - 1) / most, 1);
    parts = (B + rows - 1) / rows;
  }
  bool together() const { return K == 1 && B <= kTogether && B * T * H > 0; }
  // Where the units of a row would fill half a vector at most, vectors are of a unit's rows.
  bool few_units() const { return 2 * H <= kLanes; }
  // Parts of such a step's work, of so many at most. The pool may have more threads than there are
  // cores, for which those that wait would be in the way.
  Index chunks(ffi::ThreadPool& pool, Index most) const {
    const Index cores = std::thread::hardware_concurrency(), threads = pool.num_threads();
    most = std::min({most, cores, threads, B * H * G / kWorthWaiting});
    return std::max<Index>(most, 1);
  }
};

// What a task works on: some rows of one LSTM's batch.
struct Task {
  const Shape& s;
  Index k, row, rows;

  Task(const Shape& shape, Index number) : s(shape), k(number / s.parts) {
    row = number % s.parts * s.rows;
    rows = std::min(s.rows, s.B - row);
  }
  // Its rows in an array [K, B, size], and in one of all steps [K, T, B, size].
  template <class T>
  T* of(T* array, Index size) const { return array + (k * s.B + row) * size; }
  template <class T>
  T* of(T* array, Index size, Index t) const {
    return array + ((k * s.T + t) * s.B + row) * size;
  }
  // And in one of the inputs of all steps, [T, K, B, size].
  template <class T>
  T* input(T* array, Index size, Index t) const {
    return array + ((t * s.K + k) * s.B + row) * size;
  }
  // Between the gates of a step, and between its lines: those of a row, or of a unit.
  Index gate() const { return s.few_units() ? s.H * rows : s.H; }
  Index line() const { return s.few_units() ? rows : s.G; }
};

void copy(const float* from, Index from_row, float* to, Index to_row, Index rows, Index columns) {
  for (Index r = 0; r < rows; ++r, from += from_row, to += to_row)
    for (Index left = columns; left > 0; left -= kLanes) {
      // The last of several vectors overlaps the one before it.
      const Index j = left < kLanes && columns >= kLanes ? columns - kLanes : columns - left;
      store(to + j, load(from + j, columns - j), columns - j);
    }
}

// to [columns, rows] of from [rows, columns], with rows so far apart.
void transpose(const float* from, Index from_row, Index rows, Index columns, float* to,
               Index to_row) {
  for (Index r = 0; r < rows; ++r)
    for (Index j = 0; j < columns; ++j) to[j * to_row + r] = from[r * from_row + j];
}

// Asks for numbers that will soon be read or written. Inlined, for a compiler leaves out the call
// of a function that does nothing else.
template <int write = 0>
__attribute__((always_inline)) inline void prefetch(const float* from, Index count) {
  if (count > kSoon) return;
  for (Index i = 0; i < count; i += 16) __builtin_prefetch(from + i, write);
}

// Panels of K matrices [depth, columns] that stand `apart`.
const float* packed(ffi::ThreadPool& pool, Matrix from, Index depth, Index columns, float* to,
                    Index K = 1, Index apart = 0) {
  const Index each = panels(columns);
  share(pool, K * each, [&](Index task) {
    const Index start = task % each * kPanel, some = std::min<Index>(kPanel, columns - start);
    const float* first = from.at(0, start) + task / each * apart;
    pack({first, from.row, from.column}, depth, some, to + task * depth * kPanel);
  });
  return to;
}

// Activated gates of a vector of units, and c and h after them.
struct Gates {
  Vector i, f, g, o;
  Gates(Vector i, Vector f, Vector g, Vector o)
      : i(sigmoid(i)), f(sigmoid(f)), g(tanh(g)), o(sigmoid(o)) {}
  Vector c(Vector before) const { return f * before + i * g; }
  Vector h(Vector c) const { return o * tanh(c); }
};

// What is kept of a step for the backward pass: gates, `gate` apart, of which rows, or units, are
// `line` apart, and c. Nothing is where `gates` is null.
struct Kept {
  float* gates;
  float* cells;
  Index gate, line;
};

// Activated gates of some numbers of a line, from `at` on, give c and h; n are in the vector.
void advance(const Gates& of, Index line, Index size, Index at, float* c, float* h, Kept kept) {
  const Index n = size - at, to = line * size + at;
  const Vector c_now = of.c(load(c + to, n));
  store(c + to, c_now, n);
  store(h + to, of.h(c_now), n);
  if (kept.gates == nullptr) return;
  float* gates = kept.gates + line * kept.line + at;
  store(gates, of.i, n), store(gates + kept.gate, of.f, n);
  store(gates + 2 * kept.gate, of.g, n), store(gates + 3 * kept.gate, of.o, n);
  store(kept.cells + to, c_now, n);
}

// Adds some rows of u = [x, h] times a panel to the gates; of x by the columns that are listed. Not
// inlined, for it needs all registers.
template <int rows>
__attribute__((noinline)) void add_gates(Matrix u, Index F, Index U, const int32_t* used,
                                         Index count, const float* panel,
                                         Vector (&gates)[rows][4]) {
  Vector sum[rows][4];
  std::memcpy(sum, gates, sizeof(sum));
  for (Index i = 0; i < count; ++i) add_column(u, used[i], panel + used[i] * 4 * kLanes, sum);
  for (Index k = F; k < U; ++k) add_column(u, k, panel + k * 4 * kLanes, sum);
  std::memcpy(gates, sum, sizeof(sum));
}

// As `forward`, of one LSTM and few rows. x of a block of steps is multiplied at once, at the speed
// of many rows; the weights of h are in panels of the four gates of a vector of units.
ffi::Error forward_together(ffi::ThreadPool& pool, const Shape& s, const float* x, const float* w,
                            const float* h_first, const float* c_first, float* hidden, float* c,
                            float* gates, float* cells) {
  const Index units = vectors_of(s.H), size = s.H * 4 * kLanes;  // panels; of a panel
  const Index chunks = s.chunks(pool, units);
  const Index steps = std::clamp<Index>(kSumRows / s.B, 1, s.T), blocks = (s.T + steps - 1) / steps;
  const float* of_x = packed(pool, {w, s.G, 1}, s.F, s.G, scratch<0>(s.F * panels(s.G) * kPanel));
  const float *w_h = w + s.F * s.G, *bias = w_h + s.H * s.G;
  float* of_h = scratch<1>(units * size);
  share(pool, units, [&](Index unit) {
    for (Index k = 0; k < s.H; ++k)
      for (int gate = 0; gate < 4; ++gate) {
        const Index j = unit * kLanes;
        store(of_h + unit * size + (4 * k + gate) * kLanes,
              load(w_h + k * s.G + gate * s.H + j, s.H - j));
      }
  });
  float* projected = scratch<2>(steps * s.B * s.G);
  std::memcpy(c, c_first, 4 * s.B * s.H);
  in_phases(pool, s.T + blocks, chunks, [&](Index phase, Index chunk) {
    const Index block = phase / (steps + 1), step = phase % (steps + 1) - 1;
    if (step < 0) {
      const Index rows = std::min(steps, s.T - block * steps) * s.B;
      const Index begin = chunk * rows / chunks, end = (chunk + 1) * rows / chunks;
      multiply({x + (block * steps * s.B + begin) * s.F, s.F, 1}, end - begin, s.F, of_x, s.G,
               projected + begin * s.G, s.G, false);
      return;
    }
    const Index t = block * steps + step, first = t * s.B;
    const float* before = t ? hidden + (first - s.B) * s.H : h_first;
    Kept kept{nullptr, nullptr, s.H, s.G};
    if (gates != nullptr) kept = {gates + first * s.G, cells + first * s.H, s.H, s.G};
    for (Index unit = chunk * units / chunks; unit < (chunk + 1) * units / chunks; ++unit)
      for (Index row = 0; row < s.B; row += kStepRows)
        with_number<kStepRows>(s.B - row, [&](auto some) {
          const Index j = unit * kLanes, n = s.H - j;
          Vector sum[some.value][4];
          for (int r = 0; r < some.value; ++r)
            for (int gate = 0; gate < 4; ++gate) {
              const Index at = gate * s.H + j;
              const float* of_row = projected + (step * s.B + row + r) * s.G;
              sum[r][gate] = load(of_row + at, n) + load(bias + at, n);
            }
          add_gates({before + row * s.H, s.H, 1}, 0, s.H, nullptr, 0, of_h + unit * size, sum);
          for (int r = 0; r < some.value; ++r) {
            const Gates of(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
            advance(of, row + r, s.H, j, c, hidden + first * s.H, kept);
          }
        });
  });
  return ffi::Error::Success();
}

// c and h of a step, from gates before they are activated, whose lines are so far apart.
void apply_gates(Index lines, Index size, const float* z, Index z_line, float* c, float* h,
                 Kept kept) {
  for (Index line = 0; line < lines; ++line)
    for (Index j = 0; j < size; j += kLanes) {
      const float* from = z + line * z_line + j;
      const Index n = size - j, gate = kept.gate;
      const Gates of(load(from, n), load(from + gate, n), load(from + 2 * gate, n),
                     load(from + 3 * gate, n));
      advance(of, line, size, j, c, h, kept);
    }
}

// h of all steps and the last c; for the backward pass gates and c of all steps, too, of each task
// and step in the lines of its `Kept`. x [T, K, B, F], w [K, U, G], h and c [K, B, H].
ffi::Error forward(ffi::ThreadPool pool, Array x, Array w, Array h_first, Array c_first,
                   Result hidden, Result c_last, float* gates, float* cells) {
  const Shape s(x, w, pool);
  if (s.together())
    return forward_together(pool, s, x.typed_data(), w.typed_data(), h_first.typed_data(),
                            c_first.typed_data(), hidden->typed_data(), c_last->typed_data(), gates,
                            cells);
  const Index width = panels(s.G) * kPanel;
  const float* of_u = packed(pool, {w.typed_data(), s.G, 1}, s.U, s.G,
                             scratch<0>(s.K * s.U * width), s.K, s.U * s.G);
  share(pool, s.K * s.parts, [&](Index number) {
    const Task task(s, number);
    const Index rows = task.rows;
    float* before = scratch<1>(rows * width);
    float* u = scratch<2>(rows * s.U);  // [x_t, h_{t-1}, 1]
    float* c = task.of(c_last->typed_data(), s.H);
    std::memcpy(c, task.of(c_first.typed_data(), s.H), 4 * rows * s.H);
    float *z = nullptr, *h_lines = nullptr, *c_lines = nullptr;  // of few units
    if (s.few_units()) {
      z = scratch<3>(rows * s.G);
      h_lines = scratch<4>(rows * s.H), c_lines = scratch<5>(rows * s.H);
      transpose(c, s.H, rows, s.H, c_lines, rows);
    }
    copy(task.of(h_first.typed_data(), s.H), s.H, u + s.F, s.U, rows, s.H);
    for (Index r = 0; r < rows; ++r) u[r * s.U + s.U - 1] = 1.f;
    for (Index t = 0; t < s.T; ++t) {
      copy(task.input(x.typed_data(), s.F, t), s.F, u, s.U, rows, s.F);
      if (t + 1 < s.T) prefetch(task.input(x.typed_data(), s.F, t + 1), rows * s.F);
      prefetch<1>(task.of(hidden->typed_data(), s.H, t), rows * s.H);
      if (gates != nullptr) {
        prefetch<1>(task.of(gates, s.G, t), rows * s.G);
        prefetch<1>(task.of(cells, s.H, t), rows * s.H);
      }
      multiply({u, s.U, 1}, rows, s.U, of_u + task.k * s.U * width, s.G, before, width, false);
      float* h = task.of(hidden->typed_data(), s.H, t);
      Kept kept{nullptr, nullptr, task.gate(), task.line()};
      if (gates != nullptr)
        kept.gates = task.of(gates, s.G, t), kept.cells = task.of(cells, s.H, t);
      if (s.few_units()) {
        transpose(before, width, rows, s.G, z, rows);
        apply_gates(s.H, rows, z, rows, c_lines, h_lines, kept);
        transpose(h_lines, rows, s.H, rows, h, s.H);
      } else {
        apply_gates(rows, s.H, before, width, c, h, kept);
      }
      copy(h, s.H, u + s.F, s.U, rows, s.H);
    }
    if (s.few_units()) transpose(c_lines, rows, s.H, rows, c, s.H);
  });
  return ffi::Error::Success();
}

ffi::Error run(ffi::ThreadPool pool, Array x, Array w, Array h_first, Array c_first, Result hidden,
               Result c_last) {
  return forward(pool, x, w, h_first, c_first, hidden, c_last, nullptr, nullptr);
}

ffi::Error keep(ffi::ThreadPool pool, Array x, Array w, Array h_first, Array c_first, Result hidden,
                Result c_last, Result gates, Result cells) {
  return forward(pool, x, w, h_first, c_first, hidden, c_last, gates->typed_data(),
                 cells->typed_data());
}

// One step: h and c after it. Its weights come packed and are kept from call to call, each panel
// those of the four gates of a vector of units, so that gates are applied in the registers.
// added [K, R, G], of which row b adds row b % R, x [K, B, F], panels [K, panels, F + H, 4 kLanes],
// h and c [K, B, H].
ffi::Error step(ffi::ThreadPool pool, Array added, Array x, Array panels, Array h_before,
                Array c_before, Result h, Result c) {
  const auto d = x.dimensions();
  const Index K = d[0], B = d[1], F = d[2], H = h_before.dimensions()[2], U = F + H;
  const Index R = added.dimensions()[1], size = U * 4 * kLanes, all = panels.dimensions()[1];
  const Index parts = (B + kStepTaskRows - 1) / kStepTaskRows;
  const Index threads = B * U * 4 * H < kWorthSharing ? 1 : std::max<Index>(pool.num_threads(), 1);
  const Index groups = std::clamp<Index>(threads / std::max<Index>(K * parts, 1), 1, all);
  share(pool, K * parts * groups, [&](Index task) {
    const Index k = task / groups / parts, first = task / groups % parts * kStepTaskRows;
    const Index rows = std::min(kStepTaskRows, B - first), at = k * B + first;
    const Index begin = task % groups * all / groups, end = (task % groups + 1) * all / groups;
    float* u = scratch<1>(rows * U);  // [x, h]
    copy(x.typed_data() + at * F, F, u, U, rows, F);
    copy(h_before.typed_data() + at * H, H, u + F, U, rows, H);
    // Most bits of music are 0: of x only columns are read that are not, in a block of rows.
    const Index blocks = (rows + kStepRows - 1) / kStepRows;
    int32_t* used = scratch<2, int32_t>(blocks * F);
    Index* count = scratch<3, Index>(blocks);
    for (Index block = 0; block < blocks; ++block) {
      const Index from = block * kStepRows, to = std::min(from + kStepRows, rows);
      count[block] = 0;
      for (Index j = 0; j < F; ++j) {
        bool any = false;
        for (Index r = from; r < to; ++r) any |= u[r * U + j] != 0;
        used[block * F + count[block]] = j;
        count[block] += any;
      }
    }
    for (Index p = begin; p < end; ++p)
      for (Index block = 0; block < blocks; ++block)
        with_number<kStepRows>(rows - block * kStepRows, [&](auto some) {
          const Index row = block * kStepRows, j = p * kLanes, n = H - j;
          Vector sum[some.value][4];
          for (int r = 0; r < some.value; ++r) {
            const float* from = added.typed_data() + (k * R + (first + row + r) % R) * 4 * H + j;
            for (int gate = 0; gate < 4; ++gate) sum[r][gate] = load(from + gate * H, n);
          }
          add_gates({u + row * U, U, 1}, F, U, used + block * F, count[block],
                    panels.typed_data() + (k * all + p) * size, sum);
          for (int r = 0; r < some.value; ++r) {
            const Gates gates(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
            const Index to = (at + row + r) * H + j;
            const Vector c_now = gates.c(load(c_before.typed_data() + to, n));
            store(c->typed_data() + to, c_now, n);
            store(h->typed_data() + to, gates.h(c_now), n);
          }
        });
  });
  return ffi::Error::Success();
}

// The gradients of the gates before they were activated, of one step and a part of its lines.
// Gates and their gradients lie as in `Kept`.
void gate_gradients(Index lines, Index size, Index begin, Index end, Index gate, Index line,
                    const float* gates, const float* c, const float* c_before,
                    const float* d_hidden, const float* d_h, float* d_c, float* d_gates) {
  for (Index l = 0; l < lines; ++l)
    for (Index j = begin; j < end; j += kLanes) {
      const Index n = size - j, at = l * size + j;
      const float* z = gates + l * line + j;
      const Vector i = load(z, n), f = load(z + gate, n);
      const Vector g = load(z + 2 * gate, n), o = load(z + 3 * gate, n);
      const Vector tanh_c = tanh(load(c + at, n));
      const Vector d = load(d_h + at, n) + load(d_hidden + at, n);
      const Vector d_cell = load(d_c + at, n) + d * o * (1.f - tanh_c * tanh_c);
      store(d_c + at, d_cell * f, n);
      float* to = d_gates + l * line + j;
      store(to, d_cell * g * i * (1.f - i), n);
      store(to + gate, d_cell * load(c_before + at, n) * f * (1.f - f), n);
      store(to + 2 * gate, d_cell * i * (1.f - g * g), n);
      store(to + 3 * gate, d * tanh_c * o * (1.f - o), n);
    }
}

// As `backward`, of one LSTM and few rows: of a block of steps, back in time, first all gradients
// of the gates, then those of w and x.
ffi::Error backward_together(ffi::ThreadPool& pool, const Shape& s, const float* gates,
                             const float* cells, const float* hidden, const float* x,
                             const float* w, const float* h_first, const float* c_first,
                             const float* d_hidden, float* d_w, float* d_h, float* d_c,
                             float* d_x) {
  const Index most = s.U * s.G > kLarge ? kLargeSumRows : kSumRows;
  const Index steps = std::clamp<Index>(most / s.B, 1, s.T), blocks = (s.T + steps - 1) / steps;
  const Index of_units = panels(s.H), of_gates = panels(s.G), of_rows = (s.U + kRows - 1) / kRows;
  const Index chunks = s.chunks(pool, of_units);
  const Index G = s.G, size = of_units * G * kPanel;
  const float* of_h = packed(pool, {w + s.F * G, 1, G}, G, s.H, scratch<0>(size));
  const float* of_x = nullptr;
  if (d_x != nullptr)
    of_x = packed(pool, {w, 1, G}, G, s.F, scratch<1>(panels(s.F) * G * kPanel));
  float* d_gates = scratch<2>(steps * s.B * G);
  float* u = scratch<3>(steps * s.B * s.U);
  float* d_panels = scratch<4>(steps * s.B * of_gates * kPanel);
  float* u_blocks = scratch<5>(steps * s.B * of_rows * kRows);
  in_phases(pool, s.T + 2 * blocks, chunks, [&](Index phase, Index chunk) {
    auto part = [&](Index count) {
      return std::pair(chunk * count / chunks, (chunk + 1) * count / chunks);
    };
    const Index block = phase / (steps + 2), later = block * steps;  // steps after this block
    const Index count = std::min(steps, s.T - later), step = phase % (steps + 2);
    const Index rows = count * s.B, last = s.T - 1 - later;
    // A step of the block is at `steps - 1 - step`, in the order of time, so that its first step is
    // still there when the block before it begins.
    const Index unused = (steps - count) * s.B;
    const auto [from_panel, to_panel] = part(of_units);
    const Index begin = from_panel * kPanel, end = std::min(to_panel * kPanel, s.H);
    // d_h of some units, of the gates' gradients at a step of the block.
    auto back = [&](Index slot) {
      multiply({d_gates + slot * s.B * G, G, 1}, s.B, G, of_h + begin * G, end - begin, d_h + begin,
               s.H, false);
    };
    if (step < count) {
      const Index t = last - step, at = (steps - 1 - step) * s.B;
      const float* c = cells + t * s.B * s.H;
      const float* h_before = t ? hidden + (t - 1) * s.B * s.H : h_first;
      if (t + 1 < s.T) back(step ? steps - step : 0);
      gate_gradients(s.B, s.H, begin, end, s.H, G, gates + t * s.B * G, c,
                     t ? c - s.B * s.H : c_first, d_hidden + t * s.B * s.H, d_h, d_c,
                     d_gates + at * G);
      if (chunk != 0) return;
      copy(x + t * s.B * s.F, s.F, u + at * s.U, s.U, s.B, s.F);
      copy(h_before, s.H, u + at * s.U + s.F, s.U, s.B, s.H);
      for (Index r = 0; r < s.B; ++r) u[(at + r + 1) * s.U - 1] = 1.f;
    } else if (step == count) {
      if (last < steps) back(steps - count);
      const auto [from, to] = part(of_gates);
      pack({d_gates + unused * G + from * kPanel, G, 1}, rows,
           std::min(to * kPanel, G) - from * kPanel, d_panels + from * kPanel * rows);
      const auto [first, end_row] = part(of_rows);
      pack<kRows>({u + unused * s.U + first * kRows, s.U, 1}, rows,
                  std::min(end_row * kRows, s.U) - first * kRows, u_blocks + first * kRows * rows);
    } else {
      const auto [first, end_row] = part(of_rows);
      multiply({u_blocks + first * kRows * rows, 1, kRows, rows * kRows},
               std::min(end_row * kRows, s.U) - first * kRows, rows, d_panels, G,
               d_w + first * kRows * G, G, block > 0);
      if (d_x == nullptr) return;
      const auto [from, to] = part(rows);
      multiply({d_gates + (unused + from) * G, G, 1}, to - from, G, of_x, s.F,
               d_x + ((last + 1 - count) * s.B + from) * s.F, s.F, false);
    }
  });
  return ffi::Error::Success();
}

// The gradients of keep's arguments from those of hidden and of the last h and c; d_x may be null.
ffi::Error backward(ffi::ThreadPool pool, Array gates, Array cells, Array hidden, Array x, Array w,
                    Array h_first, Array c_first, Array d_hidden, Array d_h_last, Array d_c_last,
                    Result d_w, Result d_h_first, Result d_c_first, float* d_x) {
  const Shape s(x, w, pool);
  if (s.together()) {
    std::memcpy(d_h_first->typed_data(), d_h_last.typed_data(), 4 * s.B * s.H);
    std::memcpy(d_c_first->typed_data(), d_c_last.typed_data(), 4 * s.B * s.H);
    return backward_together(pool, s, gates.typed_data(), cells.typed_data(), hidden.typed_data(),
                             x.typed_data(), w.typed_data(), h_first.typed_data(),
                             c_first.typed_data(), d_hidden.typed_data(), d_w->typed_data(),
                             d_h_first->typed_data(), d_c_first->typed_data(), d_x);
  }
  const Index size = s.U * s.G, most = size > kLarge ? kLargeSumRows : kSumRows;
  const Index size_h = s.G * panels(s.H) * kPanel, size_x = s.G * panels(s.F) * kPanel;
  const float* of_h = packed(pool, {w.typed_data() + s.F * s.G, 1, s.G}, s.G, s.H,
                             scratch<0>(s.K * size_h), s.K, size);
  const float* of_x = nullptr;
  if (d_x != nullptr)
    of_x = packed(pool, {w.typed_data(), 1, s.G}, s.G, s.F, scratch<7>(s.K * size_x), s.K, size);
  // Each task's sum; w's gradient itself, if it is the only one of its LSTM.
  float* sums = s.parts == 1 ? d_w->typed_data() : scratch<8>(s.K * s.parts * size);
  share(pool, s.K * s.parts, [&](Index number) {
    const Task task(s, number);
    const Index rows = task.rows, steps = std::max<Index>(1, most / rows);
    float* u = scratch<1>(steps * rows * s.U);
    float* d_gates = scratch<2>(steps * rows * s.G);
    float* d_panels = scratch<3>(steps * rows * panels(s.G) * kPanel);
    float* d_h = task.of(d_h_first->typed_data(), s.H);
    float* d_inputs = scratch<4>(steps * rows * s.F);
    float* u_blocks = scratch<5>(steps * rows * (s.U + kRows));
    float* d_c = task.of(d_c_first->typed_data(), s.H);
    std::memcpy(d_c, task.of(d_c_last.typed_data(), s.H), 4 * rows * s.H);
    const float* c_begin = task.of(c_first.typed_data(), s.H);
    float *d_lines = nullptr, *d_h_lines = nullptr, *d_hidden_lines = nullptr, *d_c_lines = nullptr;
    if (s.few_units()) {
      d_lines = scratch<6>(rows * (s.G + 4 * s.H));
      d_h_lines = d_lines + rows * s.G, d_hidden_lines = d_h_lines + rows * s.H;
      d_c_lines = d_hidden_lines + rows * s.H;
      float* c_lines = d_c_lines + rows * s.H;
      transpose(d_c, s.H, rows, s.H, d_c_lines, rows);
      transpose(c_begin, s.H, rows, s.H, c_lines, rows);
      c_begin = c_lines;
    }
    std::memcpy(d_h, task.of(d_h_last.typed_data(), s.H), 4 * rows * s.H);
    std::fill_n(sums + number * size, s.T == 0 ? size : 0, 0.f);
    // Blocks of steps, back in time.
    for (Index end = s.T, first; end > 0; end = first) {
      first = std::max<Index>(end - steps, 0);
      const Index summed = (end - first) * rows;
      for (Index t = end - 1; t >= first; --t) {
        const Index at = (t - first) * rows;
        float* d = d_gates + at * s.G;
        const float* kept = task.of(gates.typed_data(), s.G, t);
        const float* c = task.of(cells.typed_data(), s.H, t);
        const float* c_before = t ? task.of(cells.typed_data(), s.H, t - 1) : c_begin;
        const float* d_out = task.of(d_hidden.typed_data(), s.H, t);
        if (s.few_units()) {
          transpose(d_out, s.H, rows, s.H, d_hidden_lines, rows);
          transpose(d_h, s.H, rows, s.H, d_h_lines, rows);
          gate_gradients(s.H, rows, 0, rows, task.gate(), task.line(), kept, c, c_before,
                         d_hidden_lines, d_h_lines, d_c_lines, d_lines);
          transpose(d_lines, rows, s.G, rows, d, s.G);
        } else {
          gate_gradients(rows, s.H, 0, s.H, task.gate(), task.line(), kept, c, c_before, d_out, d_h,
                         d_c, d);
        }
        if (t > 0) {
          prefetch(task.of(gates.typed_data(), s.G, t - 1), rows * s.G);
          prefetch(task.of(d_hidden.typed_data(), s.H, t - 1), rows * s.H);
          prefetch(task.input(x.typed_data(), s.F, t - 1), rows * s.F);
        }
        if (t > 1) {
          prefetch(task.of(cells.typed_data(), s.H, t - 2), rows * s.H);
          prefetch(task.of(hidden.typed_data(), s.H, t - 2), rows * s.H);
        }
        multiply({d, s.G, 1}, rows, s.G, of_h + task.k * size_h, s.H, d_h, s.H, false);
        const float* h_before =
            t ? task.of(hidden.typed_data(), s.H, t - 1) : task.of(h_first.typed_data(), s.H);
        copy(task.input(x.typed_data(), s.F, t), s.F, u + at * s.U, s.U, rows, s.F);
        copy(h_before, s.H, u + at * s.U + s.F, s.U, rows, s.H);
        for (Index r = 0; r < rows; ++r) u[(at + r + 1) * s.U - 1] = 1.f;
      }
      pack({d_gates, s.G, 1}, summed, s.G, d_panels);
      pack<kRows>({u, s.U, 1}, summed, s.U, u_blocks);
      multiply({u_blocks, 1, kRows, summed * kRows}, s.U, summed, d_panels, s.G,
               sums + number * size, s.G, end < s.T);
      if (d_x == nullptr) continue;
      multiply({d_gates, s.G, 1}, summed, s.G, of_x + task.k * size_x, s.F, d_inputs, s.F, false);
      for (Index t = first; t < end; ++t)
        copy(d_inputs + (t - first) * rows * s.F, s.F, task.input(d_x, s.F, t), s.F, rows, s.F);
    }
    if (s.few_units()) transpose(d_c_lines, rows, s.H, rows, d_c, s.H);
  });
  if (s.parts != 1)
    share(pool, s.K * s.U, [&](Index row) {
      float* to = d_w->typed_data() + row * s.G;
      const float* from = sums + row / s.U * s.parts * size + row % s.U * s.G;
      for (Index j = 0; j < s.G; j += kLanes) {
        Vector sum{};
        for (Index part = 0; part < s.parts; ++part) sum += load(from + part * size + j, s.G - j);
        store(to + j, sum, s.G - j);
      }
    });
  return ffi::Error::Success();
}

ffi::Error gradients(ffi::ThreadPool pool, Array gates, Array cells, Array hidden, Array x, Array w,
                     Array h_first, Array c_first, Array d_hidden, Array d_h_last, Array d_c_last,
                     Result d_w, Result d_h_first, Result d_c_first, Result d_x) {
  return backward(pool, gates, cells, hidden, x, w, h_first, c_first, d_hidden, d_h_last, d_c_last,
                  d_w, d_h_first, d_c_first, d_x->typed_data());
}

ffi::Error gradients_but_x(ffi::ThreadPool pool, Array gates, Array cells, Array hidden, Array x,
                           Array w, Array h_first, Array c_first, Array d_hidden, Array d_h_last,
                           Array d_c_last, Result d_w, Result d_h_first, Result d_c_first) {
  return backward(pool, gates, cells, hidden, x, w, h_first, c_first, d_hidden, d_h_last, d_c_last,
                  d_w, d_h_first, d_c_first, nullptr);
}

// The arrays of a call: so many that are read, and so many that are written.
template <int arguments, int results>
auto binding() {
  if constexpr (results > 0) return binding<arguments, results - 1>().template Ret<Array>();
  else if constexpr (arguments > 0) return binding<arguments - 1, 0>().template Arg<Array>();
  else return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_run, run, (binding<4, 2>()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_keep, keep, (binding<4, 4>()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_step, step, (binding<5, 2>()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_gradients, gradients, (binding<10, 4>()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_gradients_but_x, gradients_but_x, (binding<10, 3>()));

extern "C" int64_t lstm_lanes() { return kLanes; }
