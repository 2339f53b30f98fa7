// Compiled for AVX-512. No function of others that is inline or a template: the linker might choose the copy from here
// for all, also where there are no such instructions.
#ifdef __AVX512F__
#include "duet/ops/lanes_avx512.h"
#include "duet/ops/packed_gemm.h"

namespace duet::ops::detail {
namespace {

constexpr int64_t lanes = 16, tile_rows = 14, tile_columns = 2 * lanes;
// How long a product is made of one piece; longer ones of pieces of at most so many terms.
constexpr int64_t most_terms = 1024, piece_terms = 832;
// Bytes of the right operand that are held in panels at a time: with the next ones and some panels of the left operand
// they should fit into 1 MiB of second-level cache.
constexpr int64_t right_bytes = 420 << 10;

int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}
int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}
int64_t parts_of(int64_t n, int64_t size) {
  return (n + size - 1) / size;
}

// Cache lines to be fetched, which need not lie inside the operand: `length` times one at `first` and one at `second`,
// each `step` bytes further.
struct Stream {
  static constexpr int64_t length = 16;
  const char *first, *second;
  int64_t step;
};
Stream stream(const float* first, const float* second, int64_t stride) {
  return {reinterpret_cast<const char*>(first), reinterpret_cast<const char*>(second), stride * int64_t{sizeof(float)}};
}
struct Streams {
  static constexpr int most = 12;
  Stream of[most];
  int count = 0;
  void add(Stream next) {
    if (count < most) of[count++] = next;
  }
};

// One term of a tile of R rows.
template <int R>
[[gnu::always_inline]] inline void add_term(const float* a, const float* b, __m512 (&sum)[R][2]) {
  const __m512 left = _mm512_load_ps(b), right = _mm512_load_ps(b + lanes);
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r) {
    const __m512 x = _mm512_set1_ps(a[r]);
    sum[r][0] = _mm512_fmadd_ps(x, left, sum[r][0]);
    sum[r][1] = _mm512_fmadd_ps(x, right, sum[r][1]);
  }
}

// R rows by `columns` of c from a panel of each operand.
template <int R>
void tile(int64_t terms, const float* a, const float* b, const float* bias, bool adds, float* c, int64_t c_stride,
          int64_t columns, const Streams& ahead) {
  const __mmask16 masks[2] = {first_lanes(columns), first_lanes(columns - lanes)};
  __m512 sum[R][2];
#pragma GCC unroll 2
  for (int v = 0; v < 2; ++v) {
    const __m512 start = bias ? _mm512_maskz_loadu_ps(masks[v], bias + v * lanes) : _mm512_setzero_ps();
#pragma GCC unroll 14
    for (int r = 0; r < R; ++r) sum[r][v] = start;
  }
  constexpr int unrolled = 4;
  int64_t left = terms;
  const auto add_terms = [&] {
#pragma GCC unroll 4
    for (int u = 0; u < unrolled; ++u) add_term<R>(a + u * tile_rows, b + u * tile_columns, sum);
    a += unrolled * tile_rows;
    b += unrolled * tile_columns;
    left -= unrolled;
  };
  for (const Stream* s = ahead.of; s != ahead.of + ahead.count && left >= unrolled * Stream::length; ++s) {
    const char *first = s->first, *second = s->second;
    for (int64_t i = 0; i < Stream::length; ++i) {
      _mm_prefetch(first, _MM_HINT_T0);
      _mm_prefetch(second, _MM_HINT_T0);
      first += s->step;
      second += s->step;
      add_terms();
    }
  }
  while (left >= unrolled) add_terms();
  for (; left > 0; --left, a += tile_rows, b += tile_columns) add_term<R>(a, b, sum);
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      float* const to = c + r * c_stride + v * lanes;
      if (adds) sum[r][v] = _mm512_add_ps(sum[r][v], _mm512_maskz_loadu_ps(masks[v], to));
      _mm512_mask_storeu_ps(to, masks[v], sum[r][v]);
    }
}
using Tile = void (*)(int64_t, const float*, const float*, const float*, bool, float*, int64_t, int64_t,
                      const Streams&);
constexpr Tile tiles[tile_rows] = {tile<1>, tile<2>, tile<3>,  tile<4>,  tile<5>,  tile<6>,  tile<7>,
                                   tile<8>, tile<9>, tile<10>, tile<11>, tile<12>, tile<13>, tile<14>};

// to[j * step + i] = from[i * stride + j] for i < rows and j < columns, of both at most the first 16. Of the 16
// elements of a row of `to`, those are written that `keep` names, zeros where there is nothing.
[[gnu::always_inline]] inline void transpose(const float* from, int64_t stride, int64_t rows, int64_t columns,
                                             float* to, int64_t step, __mmask16 keep) {
  const __mmask16 mask = first_lanes(columns);
  __m512i x[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i)
    x[i] = i < rows ? _mm512_castps_si512(_mm512_maskz_loadu_ps(mask, from + i * stride)) : _mm512_setzero_si512();
  transpose_lanes(x);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i)
    if (i < columns) _mm512_mask_storeu_ps(to + i * step, keep, _mm512_castsi512_ps(x[i]));
}

// A range of terms of an operand.
struct Piece {
  Matrix<const float> x;
  int64_t first, terms;
};

// Copies columns [at, end) of the right operand into panels of 32 columns, in steps of one panel by 16 terms.
class RightPanels {
 public:
  RightPanels() = default;
  RightPanels(Piece piece, int64_t begin, int64_t end, float* to)
      : piece_(piece),
        at_(begin),
        end_(end),
        to_(to),
        left_(parts_of(end - begin, tile_columns) * parts_of(piece.terms, lanes)) {}

  int64_t left() const { return left_; }
  // What the step after `steps` others reads.
  Stream ahead(int64_t steps) const {
    int64_t at = at_, term = term_ + steps * lanes;
    if (term >= piece_.terms) {
      term -= parts_of(piece_.terms, lanes) * lanes;
      at += tile_columns;
    }
    const float* const from = source(at, term);
    return stream(from, from + (piece_.x.transposed ? lanes * piece_.x.stride : lanes), piece_.x.stride);
  }
  void step() {
    const int64_t columns = smaller(tile_columns, end_ - at_), terms = smaller(lanes, piece_.terms - term_);
    const int64_t stride = piece_.x.stride;
    const float* const from = source(at_, term_);
    float* const to = to_ + term_ * tile_columns;
    if (!piece_.x.transposed) {
      const __mmask16 low = first_lanes(columns), high = first_lanes(columns - lanes);
      for (int64_t i = 0; i < terms; ++i) {
        _mm512_store_ps(to + i * tile_columns, _mm512_maskz_loadu_ps(low, from + i * stride));
        _mm512_store_ps(to + i * tile_columns + lanes, _mm512_maskz_loadu_ps(high, from + i * stride + lanes));
      }
    } else if (columns == tile_columns && terms == lanes) {
      for (int64_t half = 0; half < tile_columns; half += lanes)
        transpose(from + half * stride, stride, lanes, lanes, to + half, tile_columns, 0xFFFF);
    } else {
      for (int64_t half = 0; half < tile_columns; half += lanes)
        transpose(from + half * stride, stride, columns - half, terms, to + half, tile_columns, 0xFFFF);
    }
    --left_;
    term_ += lanes;
    if (term_ < piece_.terms) return;
    term_ = 0;
    at_ += tile_columns;
    to_ += tile_columns * piece_.terms;
  }

 private:
  const float* source(int64_t column, int64_t term) const {
    term += piece_.first;
    return piece_.x.data + (piece_.x.transposed ? column * piece_.x.stride + term : term * piece_.x.stride + column);
  }

  Piece piece_{};
  int64_t at_ = 0, end_ = 0, term_ = 0;
  float* to_ = nullptr;
  int64_t left_ = 0;
};

// Copies the left operand's m rows into panels of 14, in steps of one panel by 32 terms or, of a transposed operand, of
// four panels by 16 terms: less would use a small part of the cache lines that lie far from each other. The panels of
// the first group stand alone, so that they can be made while the piece before is still in use.
class LeftPanels {
 public:
  LeftPanels() = default;
  LeftPanels(Piece piece, int64_t m, int64_t panel_size, float* first, float* others)
      : piece_(piece),
        m_(m),
        panel_size_(panel_size),
        per_group_(panels_per_group(piece.x.transposed)),
        step_terms_(piece.x.transposed ? lanes : 2 * lanes),
        to_(first),
        others_(others),
        left_(parts_of(m, per_group_ * tile_rows) * steps_per_group()) {}

  static int64_t panels_per_group(bool transposed) { return transposed ? 4 : 1; }
  // A group of panels is complete after so many steps.
  int64_t steps_per_group() const { return parts_of(piece_.terms, step_terms_); }
  int64_t left() const { return left_; }
  // Of the first group.
  int64_t left_of_first() const { return at_ == 0 ? steps_per_group() - term_ / step_terms_ : 0; }
  void add_ahead(int64_t steps, Streams& streams) const {
    int64_t at = at_, term = term_ + steps * step_terms_;
    if (term >= piece_.terms) {
      term -= steps_per_group() * step_terms_;
      at += per_group_ * tile_rows;
    }
    const float* const from = source(at, term);
    streams.add(stream(from, from + lanes, piece_.x.stride));
    if (piece_.x.transposed) streams.add(stream(from + 2 * lanes, from + 3 * lanes, piece_.x.stride));
  }
  void step() {
    const int64_t rows = smaller(per_group_ * tile_rows, m_ - at_), terms = smaller(step_terms_, piece_.terms - term_);
    const int64_t stride = piece_.x.stride;
    const float* const from = source(at_, term_);
    float* const to = to_ + term_ * tile_rows;
    constexpr __mmask16 panel = (1 << tile_rows) - 1;
    if (piece_.x.transposed) {
      for (int64_t i = 0; i < terms; ++i)
        for (int64_t p = 0; p * tile_rows < rows; ++p)
          _mm512_mask_storeu_ps(to + p * panel_size_ + i * tile_rows, panel,
                                _mm512_maskz_loadu_ps(first_lanes(smaller(tile_rows, rows - p * tile_rows)),
                                                      from + i * stride + p * tile_rows));
    } else if (rows == tile_rows && terms == 2 * lanes) {
      for (int64_t half = 0; half < 2 * lanes; half += lanes)
        transpose(from + half, stride, tile_rows, lanes, to + half * tile_rows, tile_rows, panel);
    } else {
      for (int64_t half = 0; half < terms; half += lanes)
        transpose(from + half, stride, rows, smaller(lanes, terms - half), to + half * tile_rows, tile_rows, panel);
    }
    --left_;
    term_ += step_terms_;
    if (term_ < piece_.terms) return;
    to_ = at_ == 0 ? others_ : to_ + per_group_ * panel_size_;
    term_ = 0;
    at_ += per_group_ * tile_rows;
  }

 private:
  const float* source(int64_t row, int64_t term) const {
    term += piece_.first;
    return piece_.x.data + (piece_.x.transposed ? term * piece_.x.stride + row : row * piece_.x.stride + term);
  }

  Piece piece_{};
  int64_t m_ = 0, panel_size_ = 0, per_group_ = 1, step_terms_ = 1, at_ = 0, term_ = 0;
  float *to_ = nullptr, *others_ = nullptr;
  int64_t left_ = 0;
};

// How a product is cut.
struct Plan {
  Plan(int64_t rows, int64_t n, int64_t terms)
      : m(rows),
        k(terms),
        pieces(k <= most_terms ? 1 : parts_of(k, piece_terms)),
        panel_size(parts_of(parts_of(k, pieces) * tile_rows, lanes) * lanes),
        panels(parts_of(m, tile_rows)),
        columns(smaller(larger(right_bytes / int64_t{sizeof(float)} / parts_of(k, pieces) / tile_columns, 1),
                        parts_of(n, tile_columns)) *
                tile_columns),
        right_size(columns * parts_of(k, pieces)) {}

  Piece piece(Matrix<const float> x, int64_t i) const {
    const int64_t first = k * i / pieces;
    return {x, first, k * (i + 1) / pieces - first};
  }

  int64_t m, k;
  int64_t pieces;      // along k
  int64_t panel_size;  // floats from one panel of the left operand to the next
  int64_t panels;      // of the left operand
  int64_t columns;     // of the right operand, in panels at a time
  int64_t right_size;  // their floats
};

// Where the panels stand in the scratch memory.
class Memory {
 public:
  Memory(const Plan& plan, bool left_transposed, float* data)
      : plan_(plan), per_group_(LeftPanels::panels_per_group(left_transposed)), data_(data) {}
  static int64_t size(const Plan& plan) {
    const int64_t most_per_group = LeftPanels::panels_per_group(true);
    return 2 * plan.right_size + (plan.panels + 2 * most_per_group) * plan.panel_size;
  }

  float* right(int64_t block) const { return data_ + block % 2 * plan_.right_size; }
  float* first_left(int64_t piece) const {
    return data_ + 2 * plan_.right_size + piece % 2 * per_group_ * plan_.panel_size;
  }
  float* other_left() const { return first_left(0) + 2 * per_group_ * plan_.panel_size; }
  const float* left(int64_t piece, int64_t panel) const {
    return panel < per_group_ ? first_left(piece) + panel * plan_.panel_size
                              : other_left() + (panel - per_group_) * plan_.panel_size;
  }

 private:
  const Plan& plan_;
  int64_t per_group_;
  float* data_;
};

int64_t scratch(int64_t m, int64_t n, int64_t k) {
  return Memory::size(Plan(m, n, k));
}

// A part of a panel of the left operand.
void add_panel_ahead(const float* panel, int64_t size, int64_t part, int64_t parts, Streams& streams) {
  constexpr int64_t per_stream = 2 * Stream::length * lanes;
  const int64_t length = parts_of(size, parts * lanes) * lanes;
  for (int64_t i = 0; i < length; i += per_stream) {
    const float* const from = panel + part * length + i;
    streams.add(stream(from, from + lanes, 2 * lanes));
  }
}

void fetch(const Streams& streams) {
  for (int s = 0; s < streams.count; ++s)
    for (int64_t i = 0; i < Stream::length; ++i) {
      _mm_prefetch(streams.of[s].first + i * streams.of[s].step, _MM_HINT_T0);
      _mm_prefetch(streams.of[s].second + i * streams.of[s].step, _MM_HINT_T0);
    }
}

// Copies what comes next between a product's tiles.
class Packing {
 public:
  Packing(const Plan& plan, const Memory& memory, Matrix<const float> a, Matrix<const float> b, int64_t n)
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
    left_steps_ = parts_of(left_.steps_per_group(), LeftPanels::panels_per_group(a_.transposed) * across);
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
    for (int64_t i = 0; i < right_now_; ++i) ahead.add(right_.ahead(i));
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
  Matrix<const float> a_, b_;
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

}  // namespace

struct PackedBlock {
  const Plan& plan;
  const Memory& memory;
  int64_t piece, terms, column, end;
  const float* panels;  // of the right operand
  const float* bias;
  bool adds, complete;  // complete: all panels of the left operand are there
  Matrix<float> c;
};

namespace {

template <class Copies>
void compute_rows(const PackedBlock& block, int64_t p, Copies& copies) {
  const Plan& plan = block.plan;
  const int64_t row = p * tile_rows, rows = smaller(tile_rows, plan.m - row);
  const int64_t across = parts_of(block.end - block.column, tile_columns);
  const float* const panel = block.memory.left(block.piece, p);
  for (int64_t q = 0; q < across; ++q) {
    const int64_t at = block.column + q * tile_columns;
    float* const to = block.c.data + row * block.c.stride + at;
    Streams ahead;
    ahead.add(stream(to, to + lanes, block.c.stride));
    copies.announce(ahead);
    if (block.complete)
      add_panel_ahead(block.memory.left(block.piece, p + 1 < plan.panels ? p + 1 : 0), plan.panel_size, q, across,
                      ahead);
    tiles[rows - 1](block.terms, panel, block.panels + q * tile_columns * block.terms,
                    block.bias == nullptr ? nullptr : block.bias + at, block.adds, to, block.c.stride, block.end - at,
                    ahead);
    copies.step();
  }
}

void rows(const PackedBlock& block, int64_t panel) {
  NoPacking none;
  compute_rows(block, panel, none);
}

void run(int64_t m, int64_t n, int64_t k, Matrix<const float> a, Matrix<const float> b, const float* bias, bool adds,
         Matrix<float> c, float* data, RowSharing& sharing) {
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
      const PackedBlock block{plan,
                              memory,
                              piece,
                              plan.piece(a, piece).terms,
                              column,
                              end,
                              memory.right(count),
                              piece == 0 ? bias : nullptr,
                              adds || piece > 0,
                              complete,
                              c};
      if (!complete) {
        for (int64_t p = 0; p < plan.panels; ++p) compute_rows(block, p, packing);
      } else {
        sharing.open(block, plan.panels);
        for (int64_t p; (p = sharing.take()) >= 0;) compute_rows(block, p, packing);
        sharing.close();
      }
      packing.end_block();
    }
  }
}

}  // namespace

const PackedGemm avx512_packed_gemm{scratch, run, rows};

}  // namespace duet::ops::detail
#endif
