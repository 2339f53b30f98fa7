#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <type_traits>

#include "duet/core/dispatch.h"
#include "duet/core/parallel.h"
#include "duet/ops/attention.h"
#include "duet/ops/attention_rows.h"
#include "duet/ops/dropout.h"
#include "duet/ops/tile_product.h"
#include "duet/ops/vector_math.h"

// Scores are made, used and forgotten in tiles of some queries by some keys that stay in the cache: memory grows with
// the tokens, not with their square (Dao et al. 2022). Sums over keys that come in several tiles are put together as
// in Milakov & Gimelshein 2018. The backward pass makes the probabilities again from each row's log-sum-exp.
namespace duet::ops {
namespace {

// What is fixed for one sample and head.
template <class T>
struct Head {
  int64_t row, tokens;         // the sample's first row, and how many it has
  int64_t query_row, queries;  // the same among queries
  int64_t place;               // of the head's first query among the rows of all heads
  int64_t padded;              // tokens that the numbering of random numbers counts
  int64_t size, width;         // width: of all heads
  int64_t keys;                // those behind the last unmasked one have probability zero
  const uint8_t* mask;         // null when none of the first `keys` is masked
  bool none;                   // all keys are masked: the probabilities are even, whatever query and key are
  Wide<T> scale;
  float dropout;
  RandomKey random;
  int64_t first;  // position of the head's first probability in the stream of random numbers

  Head(const AttentionShape& s, int64_t index, const uint8_t* key_mask, float p, RandomKey key)
      : row(s.row(index / s.heads)),
        tokens(s.row(index / s.heads + 1) - row),
        query_row(s.query_row(index / s.heads)),
        queries(std::min(tokens, s.most_queries())),
        place(s.first_query ? index : row * s.heads + index % s.heads * tokens),
        padded(s.tokens),
        size(s.head_size),
        width(s.heads * s.head_size),
        keys(tokens),
        mask(nullptr),
        none(false),
        scale(Wide<T>(1) / std::sqrt(static_cast<Wide<T>>(s.head_size))),
        dropout(p),
        random(key),
        first(index * s.tokens * s.tokens) {
    if (key_mask == nullptr) return;
    const uint8_t* seen = key_mask + row;
    while (keys > 0 && seen[keys - 1] == 0) --keys;
    none = keys == 0;
    if (none) keys = tokens;
    if (!none && std::find(seen, seen + keys, uint8_t{0}) != seen + keys) mask = seen;
  }

  // Masks a row of scores of `count` keys: those that do not count get the lowest number.
  void apply_mask(Wide<T>* scores, int64_t key0, int64_t count) const {
    if (none) std::fill_n(scores, count, Wide<T>(0));
    if (mask == nullptr) return;
    for (int64_t j = 0; j < count; ++j)
      if (mask[key0 + j] == 0) scores[j] = std::numeric_limits<Wide<T>>::lowest();
  }
  // What some queries' rows of probabilities lose; `numbers` is memory for that.
  Dropped<Wide<T>> dropped(int64_t query, int64_t rows, int64_t key0, int64_t count, uint32_t* numbers) const {
    if (dropout == 0) return {};
    return dropped_rows<Wide<T>>(rows, count, dropout, random, first + query * padded + key0, padded, numbers);
  }
};

// Rows of a tile that are made probabilities together: of up to 128 keys their random numbers and scores stay in the
// first-level cache, and short rows share what the numbers of one row alone would waste.
constexpr int64_t rows_at_once = 24;

// Calls f(index, memory) in parallel for all (sample, head) pairs. This thread makes all threads' memory: whether they
// then run side by side or in turn, a step takes the same.
template <class Memory, class F>
void for_heads(const AttentionShape& s, bool drops, F&& f) {
  const int64_t heads = s.batch * s.heads, places = s.row(s.batch) * s.heads;
  if (places == 0) return;
  const auto parts = static_cast<int>(std::clamp<int64_t>(places / s.tokens, 1, threads()));
  std::deque<Memory> memory;
  for (int part = 0; part < parts; ++part) memory.emplace_back(s, drops);
  WorkShares shares(parts);
  shares.deal(heads);
  parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
    for (auto part = static_cast<int>(begin); part < end; ++part)
      for (int64_t index; (index = shares.take(part)) >= 0;) f(index, memory[static_cast<size_t>(part)]);
  });
}

// Memory for a part's tiles, from the allocator, which a step does not make grow.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t count) : storage_(static_cast<size_t>(count) * sizeof(T), Device{}) {}
  T* data() const { return reinterpret_cast<T*>(storage_.data()); }

 private:
  Storage storage_;
};

// One operand of a head, arranged for products with it on the right, by blocks of keys (or queries) and, where it is
// transposed, by pieces of the head's size that a left operand's tile can hold.
template <class T>
class Arranged {
 public:
  Arranged(int64_t length, int64_t block, int64_t size, bool transposed)
      : block_(block),
        size_(size),
        transposed_(transposed),
        block_elements_(transposed ? pieces(size) * arranged_size<T>(std::min(size, most_tile_columns), block)
                                   : arranged_size<T>(block, size)),
        memory_((length + block - 1) / std::max<int64_t>(block, 1) * block_elements_) {}

  // rows (length, size) with `stride` elements from one to the next.
  void set(const T* rows, int64_t stride, int64_t begin, int64_t length) {
    T* to = memory_.data() + begin / block_ * block_elements_;
    if (!transposed_) return arrange<T>(length, size_, {rows, stride}, to);
    for (int64_t c = 0; c < size_; c += most_tile_columns)
      arrange<T>(std::min(size_ - c, most_tile_columns), length, {rows + c, stride, true},
                 to + c / most_tile_columns * arranged_size<T>(most_tile_columns, block_));
  }
  const T* at(int64_t begin, int64_t piece = 0) const {
    return memory_.data() + begin / block_ * block_elements_ + piece * arranged_size<T>(most_tile_columns, block_);
  }
  static int64_t pieces(int64_t size) { return (size + most_tile_columns - 1) / most_tile_columns; }

 private:
  int64_t block_, size_;
  bool transposed_;
  int64_t block_elements_;
  Scratch<T> memory_;
};

// to (queries, keys), a tile, = rows (queries, size) times the keys' rows; `tile` is scratch for the left operand.
template <class T>
void dot_products(const T* rows, int64_t stride, int64_t queries, int64_t size, const Arranged<T>& keys, int64_t key0,
                  int64_t count, T* tile, Wide<T>* to) {
  for (int64_t c = 0; c < size; c += most_tile_columns) {
    const int64_t columns = std::min(size - c, most_tile_columns);
    for (int64_t i = 0; i < queries; ++i) {
      std::copy_n(rows + i * stride + c, columns, tile + i * tile_stride);
      tile[i * tile_stride + columns] = T{};
    }
    tile_product<T>(queries, count, columns, tile, false, keys.at(key0, c / most_tile_columns), c > 0, to, tile_stride);
  }
}

// Starts fetching a row that is soon needed into the second cache: rows lie far apart, which the processor does not
// foresee. Many at once would keep the loads of what is computed meanwhile waiting. Always inline: g++ 12 takes a
// function that only fetches for one without effect, and drops its calls.
template <class T>
[[gnu::always_inline]] inline void fetch_ahead(T* row, int64_t size) {
  constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t c = 0; c < size; c += line) __builtin_prefetch(row + c, !std::is_const_v<T>, 2);
}

template <class T>
Wide<T> dot(const T* a, const T* b, int64_t n) {
  Wide<T> sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += convert<Wide<T>>(a[i]) * convert<Wide<T>>(b[i]);
  return sum;
}

// The sizes of tiles: queries in whole groups of the product's twelve rows, keys in as few equal blocks as it takes.
struct Tiling {
  int64_t queries, keys;
  explicit Tiling(const AttentionShape& s)
      : queries(part(s.most_queries(), 132, 12)), keys(part(s.tokens, most_tile_columns, 1)) {}

 private:
  static int64_t part(int64_t n, int64_t most, int64_t multiple) {
    const int64_t parts = std::max<int64_t>(1, (n + most - 1) / most), length = (n + parts - 1) / parts;
    return std::max<int64_t>(1, (length + multiple - 1) / multiple) * multiple;
  }
};

template <class T>
struct ForwardMemory {
  Tiling tiling;
  Scratch<Wide<T>> scores, sums, tops, totals;
  Scratch<T> left;
  Arranged<T> keys, values;
  Scratch<uint32_t> numbers;

  ForwardMemory(const AttentionShape& s, bool drops)
      : tiling(s),
        scores(tiling.queries * tile_stride),
        sums(tiling.queries * s.head_size),
        tops(tiling.queries),
        totals(tiling.queries),
        left(tiling.queries * tile_stride),
        keys(s.tokens, tiling.keys, s.head_size, true),
        values(s.tokens, tiling.keys, s.head_size, false),
        numbers(drops ? dropped_rows_memory(rows_at_once, tiling.keys) : 0) {}
};

// Whether a head's gradients are summed up where they belong. Their rows lie far apart: of long sequences, whose sums
// are made of many tiles, each on a page of its own.
template <class T>
constexpr bool sums_in_place(int64_t tokens) {
  return std::is_same_v<T, Wide<T>> && tokens <= most_tile_columns;
}

template <class T>
struct BackwardMemory {
  Tiling tiling;
  Scratch<Wide<T>> probabilities, dscores;
  Scratch<Wide<T>> sums;  // over tiles, of a head's three gradients, unless in place
  Scratch<Wide<T>> dots;
  Scratch<T> left;
  Arranged<T> keys_transposed, values_transposed, keys, queries, gradients;
  Scratch<uint32_t> numbers;

  BackwardMemory(const AttentionShape& s, bool drops)
      : tiling(s),
        probabilities(tiling.queries * tile_stride),
        dscores(tiling.queries * tile_stride),
        sums(sums_in_place<T>(s.tokens) ? 0 : 3 * s.tokens * s.head_size),
        dots(tiling.queries),
        left(tiling.queries * tile_stride),
        keys_transposed(s.tokens, tiling.keys, s.head_size, true),
        values_transposed(s.tokens, tiling.keys, s.head_size, true),
        keys(s.tokens, tiling.keys, s.head_size, false),
        queries(s.most_queries(), tiling.queries, s.head_size, false),
        gradients(s.most_queries(), tiling.queries, s.head_size, false),
        numbers(drops ? dropped_rows_memory(rows_at_once, tiling.keys) : 0) {}
};

// Where queries, keys and values are, or their gradients: all in rows one after the other, keys before values.
template <class T>
struct Projections {
  T *q, *k;
  int64_t q_stride, k_stride, width;

  // As attention has them, (rows, 3 width).
  static Projections packed(T* qkv, int64_t width) { return {qkv, qkv + width, 3 * width, 3 * width, width}; }
  // As class_attention has them.
  static Projections of_first(T* queries, T* kv, int64_t width) { return {queries, kv, width, 2 * width, width}; }

  struct Part {
    T *q, *k, *v;
  };
  Part of(int64_t query_row, int64_t row, int64_t column) const {
    T* const key = k + row * k_stride + column;
    return {q + query_row * q_stride + column, key, key + width};
  }
  template <class U>
  Part of(const Head<U>& head, int64_t column) const {
    return of(head.query_row, head.row, column);
  }
};

// What the head after this one reads, for fetching it ahead, row by row as the rows of this one are computed. (With one
// query there are none to speak of; fetching all keys and values at once gained nothing.)
template <class T>
struct NextHead {
  typename Projections<const T>::Part at;
  int64_t q_stride, k_stride, output, size, width;

  NextHead(const AttentionShape& s, int64_t index, const Projections<const T>& x)
      : q_stride(x.q_stride), k_stride(x.k_stride), size(s.head_size), width(x.width) {
    const int64_t next = std::min(index + 1, s.batch * s.heads - 1), sample = next / s.heads;
    const int64_t query_row = s.query_row(sample), column = next % s.heads * size;
    at = x.of(query_row, s.row(sample), column);
    output = query_row * width + column;
  }
  [[gnu::always_inline]] inline void fetch(int64_t i) const {
    fetch_ahead(at.q + i * q_stride, size);
    fetch_ahead(at.k + i * k_stride, size);
    fetch_ahead(at.v + i * k_stride, size);
  }
  [[gnu::always_inline]] inline void fetch_output(const T* y, int64_t i) const {
    fetch_ahead(y + output + i * width, size);
  }
};

// One thread per (sample, head): the matrices are small, so parallel heads beat a parallel product.
template <class T>
void forward(const AttentionShape& s, const Projections<const T>& x, const uint8_t* key_mask, float dropout,
             RandomKey random, Wide<T>* log_sums, T* y) {
  using W = Wide<T>;
  const int64_t d = s.head_size, width = s.heads * d, q_stride = x.q_stride, stride = x.k_stride;
  const AttentionRows<W>& math = attention_rows<W>();
  for_heads<ForwardMemory<T>>(s, dropout > 0, [&](int64_t bh, ForwardMemory<T>& memory) {
    auto& [tiling, scores, sums, tops, totals, left, keys, values, numbers] = memory;
    const Head<T> head(s, bh, key_mask, dropout, random);
    const int64_t n = head.queries, column = bh % s.heads * d;
    const auto [q, k, v] = x.of(head, column);
    T* const out = y + head.query_row * width + column;
    const NextHead<T> next(s, bh, x);
    for (int64_t j0 = 0; j0 < head.keys; j0 += tiling.keys) {
      const int64_t cols = std::min(tiling.keys, head.keys - j0);
      keys.set(k + j0 * stride, stride, j0, cols);
      values.set(v + j0 * stride, stride, j0, cols);
    }
    for (int64_t i0 = 0; i0 < n; i0 += tiling.queries) {
      const int64_t rows = std::min(tiling.queries, n - i0);
      W *top = tops.data(), *total = totals.data(), *tile = scores.data();
      std::fill_n(top, rows, -std::numeric_limits<W>::infinity());
      for (int64_t j0 = 0; j0 < head.keys; j0 += tiling.keys) {
        const int64_t cols = std::min(tiling.keys, head.keys - j0);
        dot_products<T>(q + i0 * q_stride, q_stride, rows, d, keys, j0, cols, left.data(), tile);
        for (int64_t begin = 0; begin < rows; begin += rows_at_once) {
          const int64_t end = std::min(begin + rows_at_once, rows);
          W before[rows_at_once], sum[rows_at_once];
          std::copy(top + begin, top + end, before);
          for (int64_t i = begin; i < end; ++i) {
            head.apply_mask(tile + i * tile_stride, j0, cols);
            if (j0 > 0) continue;
            next.fetch(i0 + i);
            fetch_ahead(out + (i0 + i) * width, d);
          }
          math.softmax(tile + begin * tile_stride, end - begin, cols, head.scale,
                       head.dropped(i0 + begin, end - begin, j0, cols, numbers.data()), top + begin, sum);
          for (int64_t i = begin; i < end; ++i) {
            if (j0 == 0) {
              total[i] = sum[i - begin];
              continue;
            }
            const W shrink = std::exp(before[i - begin] - top[i]);
            total[i] = total[i] * shrink + sum[i - begin];
            for (int64_t c = 0; c < d; ++c) sums.data()[i * d + c] *= shrink;
          }
        }
        tile_product<T>(rows, d, cols, tile_of<T>(tile, rows, cols, left.data()), false, values.at(j0), j0 > 0,
                        sums.data(), d);
      }
      for (int64_t i = 0; i < rows; ++i) {
        vector_math<T>().scale(sums.data() + i * d, out + (i0 + i) * width, d, W(1) / total[i]);
        log_sums[head.place + i0 + i] = top[i] + std::log(total[i]);
      }
    }
  });
}

template <class T>
void backward(const AttentionShape& s, const Projections<const T>& x, const uint8_t* key_mask, const Wide<T>* log_sums,
              const T* y, const T* dy, float dropout, RandomKey random, const Projections<T>& dx) {
  using W = Wide<T>;
  const int64_t d = s.head_size, width = s.heads * d, q_stride = x.q_stride, stride = x.k_stride;
  const AttentionRows<W>& math = attention_rows<W>();
  for_heads<BackwardMemory<T>>(s, dropout > 0, [&](int64_t bh, BackwardMemory<T>& memory) {
    auto& [tiling, probabilities, dscores, sums, dots, left, keys_transposed, values_transposed, keys, queries,
           gradients, numbers] = memory;
    const Head<T> head(s, bh, key_mask, dropout, random);
    const int64_t n = head.queries, column = bh % s.heads * d;
    const auto [q, k, v] = x.of(head, column);
    const auto to = dx.of(head, column);
    // The sums over tiles: where they belong, or first in memory of their own.
    const bool in_place = sums_in_place<T>(s.tokens);
    const int64_t size = in_place ? 0 : head.tokens * d;
    W *dq = sums.data(), *dk = dq + size, *dv = dk + size;
    int64_t dq_stride = d, dk_stride = d;
    if constexpr (std::is_same_v<T, W>)
      if (in_place) dq = to.q, dk = to.k, dv = to.v, dq_stride = q_stride, dk_stride = stride;
    const int64_t out_offset = head.query_row * width + column;
    const T *out = y + out_offset, *g = dy + out_offset;
    const NextHead<T> next(s, bh, x);
    for (int64_t j0 = 0; j0 < head.keys; j0 += tiling.keys) {
      const int64_t cols = std::min(tiling.keys, head.keys - j0);
      keys_transposed.set(k + j0 * stride, stride, j0, cols);
      values_transposed.set(v + j0 * stride, stride, j0, cols);
      keys.set(k + j0 * stride, stride, j0, cols);
    }
    for (int64_t i0 = 0; i0 < n; i0 += tiling.queries) {
      const int64_t rows = std::min(tiling.queries, n - i0);
      queries.set(q + i0 * q_stride, q_stride, i0, rows);
      gradients.set(g + i0 * width, width, i0, rows);
      for (int64_t j0 = 0; j0 < head.keys; j0 += tiling.keys) {
        const int64_t cols = std::min(tiling.keys, head.keys - j0);
        W *p = probabilities.data(), *ds = dscores.data();
        dot_products<T>(q + i0 * q_stride, q_stride, rows, d, keys_transposed, j0, cols, left.data(), p);
        if (!head.none) dot_products<T>(g + i0 * width, width, rows, d, values_transposed, j0, cols, left.data(), ds);
        for (int64_t begin = 0; begin < rows; begin += rows_at_once) {
          const int64_t end = std::min(begin + rows_at_once, rows);
          for (int64_t i = begin; i < end; ++i) {
            head.apply_mask(p + i * tile_stride, j0, cols);
            if (j0 > 0) continue;
            dots.data()[i] = dot(out + (i0 + i) * width, g + (i0 + i) * width, d);
            next.fetch(i0 + i);
            next.fetch_output(y, i0 + i);
            next.fetch_output(dy, i0 + i);
          }
          const int64_t at = begin * tile_stride;
          math.softmax_backward(p + at, head.none ? nullptr : ds + at, end - begin, cols, head.scale,
                                head.dropped(i0 + begin, end - begin, j0, cols, numbers.data()),
                                log_sums + head.place + i0 + begin, dots.data() + begin);
        }
        tile_product<T>(cols, d, rows, tile_of_pairs<T>(p, rows, cols, left.data()), true, gradients.at(i0), i0 > 0,
                        dv + j0 * dk_stride, dk_stride);
        if (head.none) continue;
        tile_product<T>(rows, d, cols, tile_of<T>(ds, rows, cols, left.data()), false, keys.at(j0), j0 > 0,
                        dq + i0 * dq_stride, dq_stride);
        tile_product<T>(cols, d, rows, tile_of_pairs<T>(ds, rows, cols, left.data()), true, queries.at(i0), i0 > 0,
                        dk + j0 * dk_stride, dk_stride);
      }
    }
    const auto write = [d, in_place](const W* from, T* row, bool made) {
      if (!made)
        std::fill_n(row, d, T{});
      else if (!in_place)
        vector_math<T>().scale(from, row, d, 1);
    };
    for (int64_t i = 0; i < n; ++i) write(dq + i * dq_stride, to.q + i * q_stride, !head.none);
    for (int64_t i = 0; i < head.tokens; ++i) {
      const bool reached = n > 0 && i < head.keys;
      write(dk + i * dk_stride, to.k + i * stride, !head.none && reached);
      write(dv + i * dk_stride, to.v + i * stride, reached);
    }
  });
}

}  // namespace

Shape attention_saved(CpuContext, AttentionShape s) {
  if (s.first_query) return {s.batch, s.heads};
  return s.starts ? Shape{s.heads * s.row(s.batch)} : Shape{s.batch, s.heads, s.tokens};
}

template <class T>
void attention_forward(CpuContext, AttentionShape s, const T* qkv, const uint8_t* key_mask, float dropout,
                       RandomKey random, Wide<T>* log_sums, T* y) {
  forward<T>(s, Projections<const T>::packed(qkv, s.heads * s.head_size), key_mask, dropout, random, log_sums, y);
}

template <class T>
void attention_backward(CpuContext, AttentionShape s, const T* qkv, const uint8_t* key_mask, const Wide<T>* log_sums,
                        const T* y, const T* dy, float dropout, RandomKey random, T* dqkv) {
  const int64_t width = s.heads * s.head_size;
  backward<T>(s, Projections<const T>::packed(qkv, width), key_mask, log_sums, y, dy, dropout, random,
              Projections<T>::packed(dqkv, width));
}

template <class T>
void class_attention_forward(CpuContext, AttentionShape s, const T* q, const T* kv, const uint8_t* key_mask,
                             float dropout, RandomKey random, Wide<T>* log_sums, T* y) {
  forward<T>(s, Projections<const T>::of_first(q, kv, s.heads * s.head_size), key_mask, dropout, random, log_sums, y);
}

template <class T>
void class_attention_backward(CpuContext, AttentionShape s, const T* q, const T* kv, const uint8_t* key_mask,
                              const Wide<T>* log_sums, const T* y, const T* dy, float dropout, RandomKey random, T* dq,
                              T* dkv) {
  const int64_t width = s.heads * s.head_size;
  backward<T>(s, Projections<const T>::of_first(q, kv, width), key_mask, log_sums, y, dy, dropout, random,
              Projections<T>::of_first(dq, dkv, width));
}

#define DUET_INSTANTIATE(T)                                                                                            \
  template void attention_forward<T>(CpuContext, AttentionShape, const T*, const uint8_t*, float, RandomKey, Wide<T>*, \
                                     T*);                                                                              \
  template void attention_backward<T>(CpuContext, AttentionShape, const T*, const uint8_t*, const Wide<T>*, const T*,  \
                                      const T*, float, RandomKey, T*);                                                 \
  template void class_attention_forward<T>(CpuContext, AttentionShape, const T*, const T*, const uint8_t*, float,      \
                                           RandomKey, Wide<T>*, T*);                                                   \
  template void class_attention_backward<T>(CpuContext, AttentionShape, const T*, const T*, const uint8_t*,            \
                                            const Wide<T>*, const T*, const T*, float, RandomKey, T*, T*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)

}  // namespace duet::ops
