// Included by ops/packed_gemm_kernels.h: what copies a product's operands into panels, some lines at a time, and says
// which lines the next steps will read and write.
#pragma once

#include "duet/ops/gemm.h"
#include "duet/ops/register_tile.h"

namespace duet::ops::detail {
namespace {

constexpr int64_t line_bytes = 64;  // of a cache line
constexpr int64_t line = line_bytes / int64_t{sizeof(float)}, element_line = line_bytes / int64_t{sizeof(Element)};
constexpr int64_t tile_columns = tile_vectors * lanes;
static_assert(panels_together % straight_panels == 0 &&
              (panels_together % turned_panels == 0 || turned_panels % panels_together == 0));

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
template <class T>
Stream stream(const T* first, const T* second, int64_t stride) {
  return {reinterpret_cast<const char*>(first), reinterpret_cast<const char*>(second), stride * int64_t{sizeof(T)}};
}
// Operands are copied in steps of so many terms.
constexpr int64_t right_step = element_line, left_step = 2 * element_line, turned_left_step = Stream::length;

struct Streams {
  static constexpr int most = 12;
  Stream of[most];
  int count = 0;
  void add(Stream next) {
    if (count < most) of[count++] = next;
  }
};

void fetch(const Streams& streams) {
  for (int s = 0; s < streams.count; ++s)
    for (int64_t i = 0; i < Stream::length; ++i) {
      _mm_prefetch(streams.of[s].first + i * streams.of[s].step, _MM_HINT_T0);
      _mm_prefetch(streams.of[s].second + i * streams.of[s].step, _MM_HINT_T0);
    }
}

// to[j * step + i] = from[i * stride + j] for i < rows and j < columns, of both at most the first `lanes`. Of a row of
// `to` the first Kept elements are written, zeros where there is nothing.
template <int Kept>
[[gnu::always_inline]] inline void transpose(const Element* from, int64_t stride, int64_t rows, int64_t columns,
                                             float* to, int64_t step) {
  const Mask mask = first_lanes(columns);
  Floats x[lanes];
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) x[i] = i < rows ? load(from + i * stride, mask) : Floats{};
  store_transposed<Kept>(x, columns, to, step);
}

// A range of terms of an operand.
struct Piece {
  Matrix<const Element> x;
  int64_t first, terms;
};

// Copies columns [at, end) of the right operand into panels of `tile_columns`, in steps of one panel.
class RightPanels {
 public:
  RightPanels() = default;
  RightPanels(Piece piece, int64_t begin, int64_t end, float* to)
      : piece_(piece),
        at_(begin),
        end_(end),
        to_(to),
        left_(parts_of(end - begin, tile_columns) * parts_of(piece.terms, right_step)) {}

  int64_t left() const { return left_; }
  // What the step after `steps` others reads.
  Stream ahead(int64_t steps) const {
    int64_t at = at_, term = term_ + steps * right_step;
    if (term >= piece_.terms) {
      term -= parts_of(piece_.terms, right_step) * right_step;
      at += tile_columns;
    }
    const Element* const from = source(at, term);
    const bool lines_side_by_side = (piece_.x.transposed ? right_step : tile_columns) > element_line;
    return stream(from, from + (lines_side_by_side ? element_line : Stream::length * piece_.x.stride), piece_.x.stride);
  }
  // What it writes, or half of it.
  Stream target(int64_t steps) const {
    const float* const to = to_ + (term_ + steps * right_step) * tile_columns;
    return stream(to, to + line, 2 * line);
  }
  void step() {
    const int64_t columns = smaller(tile_columns, end_ - at_), terms = smaller(right_step, piece_.terms - term_);
    const int64_t stride = piece_.x.stride;
    const Element* const from = source(at_, term_);
    float* const to = to_ + term_ * tile_columns;
    if (!piece_.x.transposed) {
      for (int64_t i = 0; i < terms; ++i)
        for (int64_t v = 0; v < tile_columns; v += lanes)
          store(to + i * tile_columns + v, load(from + i * stride + v, first_lanes(columns - v)));
    } else {
      for (int64_t v = 0; v < tile_columns; v += lanes)
        for (int64_t i = 0; i < terms; i += lanes) {
          const Element* const block = from + v * stride + i;
          float* const place = to + i * tile_columns + v;
          if (columns == tile_columns && terms - i >= lanes)
            transpose<lanes>(block, stride, lanes, lanes, place, tile_columns);
          else
            transpose<lanes>(block, stride, columns - v, terms - i, place, tile_columns);
        }
    }
    --left_;
    term_ += right_step;
    if (term_ < piece_.terms) return;
    term_ = 0;
    at_ += tile_columns;
    to_ += tile_columns * piece_.terms;
  }

 private:
  const Element* source(int64_t column, int64_t term) const {
    term += piece_.first;
    return piece_.x.data + (piece_.x.transposed ? column * piece_.x.stride + term : term * piece_.x.stride + column);
  }

  Piece piece_{};
  int64_t at_ = 0, end_ = 0, term_ = 0;
  float* to_ = nullptr;
  int64_t left_ = 0;
};

// Copies the left operand's m rows, or a function of them, into panels of `tile_rows`, in steps of one panel or, of a
// transposed operand, of several. The first panels, with which a piece begins, stand alone, so that they can be made
// while the piece before is still in use.
class LeftPanels {
 public:
  LeftPanels() = default;
  LeftPanels(Piece piece, SpanFunction<Element> f, int64_t m, int64_t panel_size, float* first, float* others)
      : piece_(piece),
        f_(f),
        m_(m),
        panel_size_(panel_size),
        per_step_(panels_per_step(piece.x.transposed)),
        step_terms_(piece.x.transposed ? turned_left_step : left_step),
        first_rows_(first_panels(piece.x.transposed) * tile_rows),
        to_(first),
        others_(others),
        left_(parts_of(m, per_step_ * tile_rows) * steps()) {}

  static int64_t panels_per_step(bool transposed) { return transposed ? turned_panels : straight_panels; }
  static int64_t first_panels(bool transposed) { return larger(panels_per_step(transposed), panels_together); }
  // Panels are complete after so many.
  int64_t steps() const { return parts_of(piece_.terms, step_terms_); }
  int64_t left() const { return left_; }
  // Of the first panels.
  int64_t left_of_first() const {
    const int64_t rows = smaller(first_rows_, m_) - at_;
    return rows > 0 ? parts_of(rows, per_step_ * tile_rows) * steps() - term_ / step_terms_ : 0;
  }
  void add_ahead(int64_t later, Streams& streams) const {
    int64_t at = at_, term = term_ + later * step_terms_;
    if (term >= piece_.terms) {
      term -= steps() * step_terms_;
      at += per_step_ * tile_rows;
    }
    const Element* const from = source(at, term);
    const int64_t lines =
        piece_.x.transposed ? parts_of(per_step_ * tile_rows, element_line) : step_terms_ / element_line;
    for (int64_t i = 0; i < lines; i += 2)
      streams.add(stream(from + i * element_line, from + (i + 1) * element_line, piece_.x.stride));
    // Where it writes too, unless that is in the next panels, which may stand elsewhere.
    if (term_ + later * step_terms_ >= piece_.terms) return;
    float* const to = to_ + term * tile_rows;
    if (piece_.x.transposed) {
      for (int64_t p = 0; p < per_step_; p += 2)
        streams.add(stream(to + p * panel_size_, to + (p + 1) * panel_size_, line));
    } else {
      streams.add(stream(to, to + line, 2 * line));
    }
  }
  void step() {
    const int64_t rows = smaller(per_step_ * tile_rows, m_ - at_), terms = smaller(step_terms_, piece_.terms - term_);
    int64_t stride = piece_.x.stride;
    const Element* from = source(at_, term_);
    alignas(line_bytes) Element results[straight_panels * tile_rows * left_step];
    if (f_ != nullptr) {
      for (int64_t i = 0; i < rows; ++i) f_(from + i * stride, results + i * left_step, terms);
      from = results;
      stride = left_step;
    }
    float* const to = to_ + term_ * tile_rows;
    if (piece_.x.transposed) {
      int64_t whole = 0;
      for (; whole + lanes <= terms && rows == per_step_ * tile_rows; whole += lanes)
        for (int64_t p = 0; p < per_step_; ++p) {
          const Element* const block = from + whole * stride + p * tile_rows;
          Floats x[lanes];
#pragma GCC unroll 16
          for (int i = 0; i < lanes; ++i) x[i] = load_some<tile_rows>(block + i * stride);
          store_side_by_side<tile_rows>(to + p * panel_size_ + whole * tile_rows, x);
        }
      for (int64_t i = whole; i < terms; ++i)
        for (int64_t p = 0; p * tile_rows < rows; ++p) {
          const Element* const x = from + i * stride + p * tile_rows;
          const int64_t there = rows - p * tile_rows;
          store_some<tile_rows>(to + p * panel_size_ + i * tile_rows,
                                there >= tile_rows ? load_some<tile_rows>(x) : load(x, first_lanes(there)));
        }
    } else {
      for (int64_t p = 0; p * tile_rows < rows; ++p)
        for (int64_t i = 0; i < terms; i += lanes) {
          const Element* const block = from + p * tile_rows * stride + i;
          float* const place = to + p * panel_size_ + i * tile_rows;
          if (rows - p * tile_rows >= tile_rows && terms - i >= lanes)
            transpose<tile_rows>(block, stride, tile_rows, lanes, place, tile_rows);
          else
            transpose<tile_rows>(block, stride, smaller(tile_rows, rows - p * tile_rows), terms - i, place, tile_rows);
        }
    }
    --left_;
    term_ += step_terms_;
    if (term_ < piece_.terms) return;
    term_ = 0;
    at_ += per_step_ * tile_rows;
    to_ = at_ == first_rows_ ? others_ : to_ + per_step_ * panel_size_;
  }

 private:
  const Element* source(int64_t row, int64_t term) const {
    term += piece_.first;
    return piece_.x.data + (piece_.x.transposed ? term * piece_.x.stride + row : row * piece_.x.stride + term);
  }

  Piece piece_{};
  SpanFunction<Element> f_ = nullptr;  // of the operand, which then is not transposed
  int64_t m_ = 0, panel_size_ = 0, per_step_ = 1, step_terms_ = 1, first_rows_ = 0, at_ = 0, term_ = 0;
  float *to_ = nullptr, *others_ = nullptr;
  int64_t left_ = 0;
};

}  // namespace
}  // namespace duet::ops::detail
