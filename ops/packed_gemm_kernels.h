// Included by the files that are compiled one per set of instructions, after ops/lanes_*.h, once each has said how the
// product is cut, in an anonymous namespace:
//   Element                   of the operands, float or bf16; panels, sums and what is computed are float
//   tile_rows, tile_vectors   of what is computed in registers: rows by vectors of columns
//   panels_together           panels of so many rows are computed with one right panel before the next: where registers
//                             are few, and a tile reads more, most of that panel then comes from the first-level cache
//   straight_panels,          how many panels of the left operand, and of a transposed one, are copied together: fewer
//   turned_panels             would use a small part of the cache lines that lie far from each other
//   most_terms, piece_terms   how long a product is made of one piece; longer ones of pieces of at most so many terms
//   right_bytes               of the right operand that are held in panels at a time: with the next ones and some of
//                             the left operand's they should fit into the second-level cache
// No function of others that is inline or a template: the linker might choose the copy from here for all, also where
// there are no such instructions.
#include "duet/ops/packed_gemm.h"
#include "duet/ops/packed_panel_kernels.h"

namespace duet::ops::detail {
namespace {

constexpr bool many_lines = tile_rows > 8;  // of c in a tile: too many to fetch at once

// The next terms of a tile.
template <class Word, int Terms, int R>
[[gnu::always_inline]] inline void add_terms(const float*& a, const float*& b, Floats (&sum)[R][tile_vectors]) {
  if constexpr (Terms > 1) add_terms<Word, Terms - 1>(a, b, sum);
  add_word<Word, 1>(a, b, sum);
  a += tile_rows;
  b += tile_columns;
}

// Where a tile's sums go. What is rounded when it is stored, is so once: before the product's last piece the sums are
// kept as floats, which of a float product are c itself.
template <class Out>
struct Target {
  Out* c;
  float* partial;
  int64_t c_stride, partial_stride;
  bool adds, continues, ends;  // to c; from the sums of pieces before; with the last piece
};
template <class Out, int R>
[[gnu::always_inline]] inline void store_tile(Floats (&sum)[R][tile_vectors], const Target<Out>& to, int64_t columns) {
  if constexpr (std::is_same_v<Out, float>) {
    // With || g++ 12 makes two paths, of which sums come back from memory in the loop before.
    store_tile(sum, (to.adds | to.continues) != 0, to.c, to.c_stride, columns);
  } else {
    if (!to.ends) return store_tile(sum, to.continues, to.partial, to.partial_stride, columns);
#pragma GCC unroll 14
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
      for (int v = 0; v < tile_vectors; ++v) {
        const Mask mask = first_lanes(columns - v * lanes);
        Out* const c = to.c + r * to.c_stride + v * lanes;
        if (to.continues) sum[r][v] = sum[r][v] + load(to.partial + r * to.partial_stride + v * lanes, mask);
        if (to.adds) sum[r][v] = sum[r][v] + load(c, mask);
        store(c, mask, sum[r][v]);
      }
  }
}

// R rows by `columns` of c from a panel of each operand.
template <class Word, class Out, int R>
void tile(int64_t terms, const float* a, const float* b, const float* bias, const Target<Out>& to, int64_t columns,
          const Streams& ahead) {
  Floats sum[R][tile_vectors];
#pragma GCC unroll 3
  for (int v = 0; v < tile_vectors; ++v) {
    const Floats start = bias ? load(bias + v * lanes, first_lanes(columns - v * lanes)) : Floats{};
#pragma GCC unroll 14
    for (int r = 0; r < R; ++r) sum[r][v] = start;
  }
  if constexpr (!many_lines)
    for (int r = 0; r < R; ++r)
      for (int64_t j = 0; j < tile_columns; j += line) _mm_prefetch(to.c + r * to.c_stride + j, _MM_HINT_T0);
  constexpr int unrolled = 4;
  int64_t left = terms;
  for (const Stream* s = ahead.of; s != ahead.of + ahead.count && left >= unrolled * Stream::length;
       ++s, left -= unrolled * Stream::length) {
    const char *first = s->first, *second = s->second;
    for (int64_t i = 0; i < Stream::length; ++i) {
      _mm_prefetch(first, _MM_HINT_T0);
      _mm_prefetch(second, _MM_HINT_T0);
      first += s->step;
      second += s->step;
      add_terms<Word, unrolled>(a, b, sum);
    }
  }
  for (; left >= unrolled; left -= unrolled) add_terms<Word, unrolled>(a, b, sum);
  for (; left > 0; --left) add_terms<Word, 1>(a, b, sum);
  store_tile(sum, to, columns);
}
template <class Out>
using Tile = void (*)(int64_t, const float*, const float*, const float*, const Target<Out>&, int64_t, const Streams&);
template <class Word, class Out, int R = tile_rows>
Tile<Out> tile_of(int64_t rows) {
  if constexpr (R > 1)
    if (rows < R) return tile_of<Word, Out, R - 1>(rows);
  return tile<Word, Out, R>;
}

// How a product is cut.
struct Plan {
  Plan(int64_t rows, int64_t n, int64_t terms)
      : m(rows),
        k(terms),
        pieces(k <= most_terms ? 1 : parts_of(k, piece_terms)),
        panel_size(parts_of(parts_of(k, pieces) * tile_rows, line) * line),
        panels(parts_of(m, tile_rows)),
        columns(smaller(larger(right_bytes / int64_t{sizeof(float)} / parts_of(k, pieces) / tile_columns, 1),
                        parts_of(n, tile_columns)) *
                tile_columns),
        right_size(columns * parts_of(k, pieces)),
        partial_stride(parts_of(n, line) * line) {}

  Piece piece(Matrix<const Element> x, int64_t i) const {
    const int64_t first = k * i / pieces;
    return {x, first, k * (i + 1) / pieces - first};
  }

  int64_t m, k;
  int64_t pieces;      // along k
  int64_t panel_size;  // floats from one panel of the left operand to the next
  int64_t panels;      // of the left operand
  int64_t columns;     // of the right operand, in panels at a time
  int64_t right_size;  // their floats
  int64_t partial_stride;
};

// Where the panels stand in the scratch memory.
class Memory {
 public:
  Memory(const Plan& plan, bool left_transposed, float* data)
      : plan_(plan), first_(LeftPanels::first_panels(left_transposed)), data_(data) {}
  // With `rounded` what is stored in c is rounded, and the sums of pieces have a place of their own.
  static int64_t size(const Plan& plan, bool rounded) {
    return panels_size(plan) + (rounded && plan.pieces > 1 ? plan.m * plan.partial_stride : 0);
  }

  float* partial() const { return data_ + panels_size(plan_); }

  float* right(int64_t block) const { return data_ + block % 2 * plan_.right_size; }
  float* first_left(int64_t piece) const {
    return data_ + 2 * plan_.right_size + piece % 2 * first_ * plan_.panel_size;
  }
  float* other_left() const { return first_left(0) + 2 * first_ * plan_.panel_size; }
  const float* left(int64_t piece, int64_t panel) const {
    return panel < first_ ? first_left(piece) + panel * plan_.panel_size
                          : other_left() + (panel - first_) * plan_.panel_size;
  }

 private:
  static int64_t panels_size(const Plan& plan) {
    return 2 * plan.right_size + (plan.panels + 2 * LeftPanels::first_panels(true)) * plan.panel_size;
  }

  const Plan& plan_;
  int64_t first_;  // panels that stand alone
  float* data_;
};

template <class Out>
int64_t scratch(int64_t m, int64_t n, int64_t k) {
  return Memory::size(Plan(m, n, k), !std::is_same_v<Out, float>);
}

// A part of a panel of the left operand.
void add_panel_ahead(const float* panel, int64_t size, int64_t part, int64_t parts, Streams& streams) {
  constexpr int64_t per_stream = 2 * Stream::length * line;
  const int64_t length = parts_of(size, parts * line) * line;
  for (int64_t i = 0; i < length; i += per_stream) {
    const float* const from = panel + part * length + i;
    streams.add(stream(from, from + line, 2 * line));
  }
}

// Copies what comes next between a product's tiles.
class Packing {
 public:
  Packing(const Plan& plan, const Memory& memory, Matrix<const Element> a, Matrix<const Element> b, int64_t n)
      : plan_(plan), memory_(memory), a_(a), b_(b), n_(n) {}

  // All of the first columns, and the first rows. Nothing computes yet: only here the thread waits for what it copies.
  void begin() {
    constexpr int64_t distance = 4;
    next_columns(0, 0, 0);
    while (right_.left() > 0) {
      Streams ahead;
      if (right_.left() > distance) ahead.add(right_.ahead(distance));
      fetch(ahead);
      right_.step();
    }
  }
  // Before the first tile of a piece.
  void begin_piece(int64_t piece) {
    if (left_piece_ != piece) next_rows(piece);
    while (left_.left_of_first() > 0) left_.step();
  }
  // Before the first tile of columns [column, end): those of the block after it are copied meanwhile, in the end those
  // of the next piece. Returns whether all rows of the piece are there.
  bool begin_block(int64_t piece, int64_t column, int64_t end, int64_t block) {
    if (end < n_)
      next_columns(piece, end, block + 1);
    else if (piece + 1 < plan_.pieces)
      next_columns(piece + 1, 0, block + 1);
    const int64_t across = parts_of(end - column, tile_columns);
    right_steps_ = parts_of(right_.left(), plan_.panels * across);
    left_steps_ = parts_of(left_.steps(), LeftPanels::panels_per_step(a_.transposed) * across);
    piece_ = piece;
    last_block_ = end == n_ && piece + 1 < plan_.pieces;
    return left_.left() == 0;
  }
  void end_block() {
    while (right_.left() > 0) right_.step();
  }

  // Around each tile: what it should fetch, and the copying itself.
  void announce(Streams& ahead) {
    if (last_block_ && left_piece_ == piece_ && left_.left() == 0) next_rows(piece_ + 1);
    right_now_ = smaller(right_steps_, right_.left());
    left_now_ = smaller(left_steps_, left_piece_ == piece_ ? left_.left() : left_.left_of_first());
    for (int64_t i = 0; i < right_now_; ++i) {
      ahead.add(right_.ahead(i));
      ahead.add(right_.target(i));
    }
    for (int64_t i = 0; i < left_now_; ++i) left_.add_ahead(i, ahead);
  }
  void step() {
    for (int64_t i = 0; i < right_now_; ++i) right_.step();
    for (int64_t i = 0; i < left_now_; ++i) left_.step();
  }

 private:
  void next_columns(int64_t piece, int64_t column, int64_t block) {
    right_ = {plan_.piece(b_, piece), column, smaller(column + plan_.columns, n_), memory_.right(block)};
  }
  void next_rows(int64_t piece) {
    left_piece_ = piece;
    left_ = {plan_.piece(a_, piece), plan_.m, plan_.panel_size, memory_.first_left(piece), memory_.other_left()};
  }

  const Plan& plan_;
  const Memory& memory_;
  Matrix<const Element> a_, b_;
  int64_t n_;
  RightPanels right_;
  LeftPanels left_;
  int64_t left_piece_ = -1;  // whose rows left_ copies
  int64_t piece_ = 0, right_steps_ = 0, left_steps_ = 0, right_now_ = 0, left_now_ = 0;
  bool last_block_ = false;
};

struct NoPacking {
  void announce(Streams&) {}
  void step() {}
};

template <class Out>
struct Block : PackedBlock {
  Block(const Plan& p, const Memory& m, Matrix<Out> to) : plan(p), memory(m), c(to) {}

  const Plan& plan;
  const Memory& memory;
  Matrix<Out> c;
  int64_t piece = 0, terms = 0, column = 0, end = 0;
  const float* panels = nullptr;  // of the right operand
  const float* bias = nullptr;
  bool adds = false;      // to c
  bool complete = false;  // all panels of the left operand are there
};

// The lines that a tile will store in; of those that are rounded one has a row.
template <class Out>
void add_target_ahead(const Target<Out>& to, Streams& ahead) {
  if constexpr (std::is_same_v<Out, float>) {
    ahead.add(stream(to.c, to.c + line, to.c_stride));
  } else {
    if (to.continues || !to.ends) ahead.add(stream(to.partial, to.partial + line, to.partial_stride));
    if (to.ends) ahead.add(stream(to.c, to.c + tile_columns - 1, to.c_stride));
  }
}

// Panels that are computed together: each right panel is used for all of them before the next.
template <class Word, class Out, class Copies>
void compute_rows(const Block<Out>& block, int64_t group, Copies& copies) {
  const Plan& plan = block.plan;
  const int64_t first = group * panels_together, last = smaller(first + panels_together, plan.panels);
  const int64_t across = parts_of(block.end - block.column, tile_columns);
  for (int64_t q = 0; q < across; ++q) {
    const int64_t at = block.column + q * tile_columns;
    for (int64_t p = first; p < last; ++p) {
      const int64_t row = p * tile_rows;
      const Target<Out> to{block.c.data + row * block.c.stride + at,
                           block.memory.partial() + row * plan.partial_stride + at,
                           block.c.stride,
                           plan.partial_stride,
                           block.adds,
                           block.piece > 0,
                           block.piece + 1 == plan.pieces};
      Streams ahead;
      if constexpr (many_lines) add_target_ahead(to, ahead);
      copies.announce(ahead);
      if (panels_together == 1 && block.complete)
        add_panel_ahead(block.memory.left(block.piece, p + 1 < plan.panels ? p + 1 : 0), plan.panel_size, q, across,
                        ahead);
      tile_of<Word, Out>(smaller(tile_rows, plan.m - row))(
          block.terms, block.memory.left(block.piece, p), block.panels + q * tile_columns * block.terms,
          block.bias == nullptr ? nullptr : block.bias + at, to, block.end - at, ahead);
      copies.step();
    }
  }
}

template <class Word, class Out>
void rows(const PackedBlock& block, int64_t group) {
  NoPacking none;
  compute_rows<Word>(static_cast<const Block<Out>&>(block), group, none);
}

template <class Word, class Out>
void run(int64_t m, int64_t n, int64_t k, Matrix<const Element> a, Matrix<const Element> b, const float* bias,
         bool adds, Matrix<Out> c, float* data, RowSharing& sharing) {
  const Plan plan(m, n, k);
  const Memory memory(plan, a.transposed, data);
  Packing packing(plan, memory, a, b, n);
  packing.begin();
  int64_t count = 0;
  for (int64_t piece = 0; piece < plan.pieces; ++piece) {
    packing.begin_piece(piece);
    for (int64_t column = 0; column < n; column += plan.columns, ++count) {
      const int64_t end = smaller(column + plan.columns, n);
      const bool complete = packing.begin_block(piece, column, end, count);
      Block<Out> block(plan, memory, c);
      block.piece = piece;
      block.terms = plan.piece(a, piece).terms;
      block.column = column;
      block.end = end;
      block.panels = memory.right(count);
      block.bias = piece == 0 ? bias : nullptr;
      block.adds = adds;
      block.complete = complete;
      const int64_t groups = parts_of(plan.panels, panels_together);
      if (!complete) {
        for (int64_t group = 0; group < groups; ++group) compute_rows<Word>(block, group, packing);
      } else {
        sharing.open(block, groups);
        for (int64_t group; (group = sharing.take()) >= 0;) compute_rows<Word>(block, group, packing);
        sharing.close();
      }
      packing.end_block();
    }
  }
}

template <class Word, class Out>
constexpr PackedGemm<Element, Out> kernels{tile_columns, scratch<Out>, run<Word, Out>, rows<Word, Out>};

}  // namespace
}  // namespace duet::ops::detail
