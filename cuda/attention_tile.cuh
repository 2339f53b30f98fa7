#pragma once

#include <algorithm>
#include <cmath>

#include "duet/cuda/device.cuh"
#include "duet/ops/attention.h"

// What the forward and the backward kernels of duet's own attention share: how a block cuts its head into tiles, and
// the two products that they are made of. Arithmetic is float, in a fixed order.
namespace duet::cuda::attention_tile {

using ops::AttentionShape;

// A block owns `own` rows of a head (queries or keys) and meets the others (keys or queries) in tiles. Its warps own a
// band of the rows each; a thread has `rows` rows of its warp's band and four neighbouring others, a tile of scores in
// registers, so that 16 bytes read from shared memory serve as many multiplications as possible. In the products that
// sum over the others it has the same rows and `columns` columns of the head.
template <int head>
struct Tile {
  static constexpr int lanes = head == 64 ? 16 : 8;  // threads that share a row
  static constexpr int rows = head == 128 ? 4 : 8;
  static constexpr int columns = head / lanes;
  static constexpr int others = 4 * lanes;
  static constexpr int band = warp / lanes * rows;
  static constexpr int warps = head == 64 ? 4 : head == 128 ? 2 : 1;
  static constexpr int own = warps * band;
  static constexpr int threads = warps * warp;

  static constexpr int own_floats = own * head;
  static constexpr int other_floats = others * head;
  // Weights of others (probabilities or their gradients) go from the threads that have them to those of the whole row
  // through these.
  static constexpr int weight_floats = own * others;

  // Blocks of a multiprocessor that each thread may have so many registers with.
  static constexpr int blocks(int registers) { return 65536 / (threads * registers); }
};

// Which rows and columns are the thread's. Neighbouring lanes have the same others but different rows, so that the 16
// lanes whose 16-byte reads the hardware serves together read 128 bytes of others and two rows.
template <int head>
struct Position {
  using Own = Tile<head>;
  int x;      // which others and which columns, below `lanes`
  int first;  // row within the block's, with `y`
  int begin;  // of the warp's band

  __device__ Position() {
    const int lane = static_cast<int>(threadIdx.x) % warp;
    const int y = Own::lanes == 16 ? lane & 1 : (lane & 1) | (lane >> 4 << 1);
    x = (lane >> 1) % Own::lanes;
    begin = static_cast<int>(threadIdx.x) / warp * Own::band;
    first = begin + 4 * y;
  }
  // Of the block's rows, for i < rows: groups of four neighbours.
  __device__ int row(int i) const { return first + i / 4 * (4 * warp / Own::lanes) + i % 4; }
  // Of the head, for c < columns: groups of four neighbours.
  __device__ int column(int c) const { return 4 * x + c / 4 * (4 * Own::lanes) + c % 4; }
};

// Where four neighbouring floats, number `chunk` of a row, lie in a tile. The order of chunks differs from row to row,
// so that lanes that read the same chunk of different rows use different banks: two rows of own tiles and weights
// (neighbours in y), eight of the others' (neighbours in x).
template <int width>
__device__ inline int own_place(int row, int chunk) {
  return row * width + 4 * (chunk ^ (row & 4));
}
template <int width>
__device__ inline int other_place(int row, int chunk) {
  return row * width + 4 * (chunk ^ (row >> 2 & 7));
}

// Four neighbouring floats of shared memory, in one access.
__device__ inline Pack<float, 4> four(const float* from) {
  return load_pack<4>(from);
}
__device__ inline void store_four(const float (&from)[4], float* to) {
  *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);  // a pack may go word by word
}

struct Arguments {
  AttentionShape s;
  const uint8_t* key_mask;
  float scale;
  float dropout;
  uint32_t threshold;
  DeviceKey random;
  bool packs;  // four neighbours of every tensor's rows are one access
};

inline Arguments arguments(CudaContext context, AttentionShape s, const uint8_t* key_mask, float dropout,
                           RandomKey random, bool aligned) {
  check(s.head_size <= 128, "attention", "heads of ", s.head_size, " are not supported on the GPU; at most 128 are");
  check(s.batch * s.heads <= 65535, "attention", s.batch, " samples of ", s.heads,
        " heads are more than 65535 together, which a GPU grid allows; use a smaller --batch");
  return {s,
          key_mask,
          static_cast<float>(1 / std::sqrt(static_cast<double>(s.head_size))),
          dropout,
          static_cast<uint32_t>(static_cast<double>(dropout) * 0x1p32),
          device_key(context, random),
          aligned && s.head_size % 4 == 0};
}
template <class... T>
bool aligned_packs(const T*... tensors) {
  return ((reinterpret_cast<uintptr_t>(tensors) % sizeof(Pack<T, 4>) == 0) && ...);
}

// Calls f with the smallest compiled head size that holds this one.
template <class F>
void with_head(const AttentionShape& s, F&& f) {
  if (s.head_size <= 32) return f(std::integral_constant<int, 32>{});
  if (s.head_size <= 64) return f(std::integral_constant<int, 64>{});
  return f(std::integral_constant<int, 128>{});
}

template <int head>
dim3 grid_of(const AttentionShape& s) {
  constexpr int own = Tile<head>::own;
  return dim3(static_cast<unsigned>((s.tokens + own - 1) / own), static_cast<unsigned>(s.batch * s.heads));
}

// One head's rows in a tensor: row t begins at at(t).
template <class T>
struct Rows {
  T* from;
  int stride;
  __device__ T* at(int t) const { return from + static_cast<int64_t>(t) * stride; }
};
// Of the packed projections; part 0, 1, 2 = query, key, value.
template <class T>
__device__ inline Rows<T> packed_rows(const AttentionShape& s, T* qkv, int b, int part, int h) {
  const int64_t width = s.heads * s.head_size;
  return {qkv + (b * s.tokens * 3 + part) * width + h * s.head_size, static_cast<int>(3 * width)};
}
template <class T>
__device__ inline Rows<T> output_rows(const AttentionShape& s, T* y, int b, int h) {
  const int64_t width = s.heads * s.head_size;
  return {y + b * s.tokens * width + h * s.head_size, static_cast<int>(width)};
}

// Loads `count` rows from row `first` on; what lies at or behind row `end` or beyond the head's size is zero. Several
// reads are under way before the first is waited for.
template <int head, int count, bool own, class T>
__device__ inline void load_rows(const Arguments& a, Rows<const T> rows, int first, int end, float* to) {
  constexpr int chunks = head / 4, threads = Tile<head>::threads, each = count * chunks / threads, at_once = 4;
  static_assert(each % at_once == 0 && count * chunks % threads == 0);
  const int size = static_cast<int>(a.s.head_size);
#pragma unroll 1
  for (int begin = 0; begin < each; begin += at_once) {
    float v[at_once][4] = {};
#pragma unroll
    for (int n = 0; n < at_once; ++n) {
      const int i = (begin + n) * threads + static_cast<int>(threadIdx.x), chunk = i % chunks, t = first + i / chunks;
      if (t >= end || 4 * chunk >= size) continue;
      const T* from = rows.at(t) + 4 * chunk;
      if (a.packs) {
        load<4>(from, v[n]);
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (4 * chunk + j < size) v[n][j] = to_float(from[j]);
      }
    }
#pragma unroll
    for (int n = 0; n < at_once; ++n) {
      const int i = (begin + n) * threads + static_cast<int>(threadIdx.x), chunk = i % chunks, r = i / chunks;
      store_four(v[n], to + (own ? own_place<head>(r, chunk) : other_place<head>(r, chunk)));
    }
  }
}

// Writes the thread's part of the block's rows, which begin at row `first`.
template <int head, class T>
__device__ inline void store_rows(const Arguments& a, const Position<head>& at, Rows<T> rows, int first,
                                  const float (&values)[Tile<head>::rows][Tile<head>::columns]) {
  const int tokens = static_cast<int>(a.s.tokens), size = static_cast<int>(a.s.head_size);
#pragma unroll
  for (int i = 0; i < Tile<head>::rows; ++i) {
    const int t = first + at.row(i);
    if (t >= tokens) continue;
#pragma unroll
    for (int c = 0; c < Tile<head>::columns; c += 4) {
      T* to = rows.at(t) + at.column(c);
      const float v[4] = {values[i][c], values[i][c + 1], values[i][c + 2], values[i][c + 3]};
      if (a.packs) {
        if (at.column(c) < size) store<4>(v, to);
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (at.column(c + j) < size) to[j] = from_float<T>(v[j]);
      }
    }
  }
}

// One more than the last key that may be attended to, 0 where the sample's mask allows none. Every thread of the block
// must ask, once.
template <int head>
__device__ inline int keys_end(const Arguments& a, int b) {
  const int tokens = static_cast<int>(a.s.tokens);
  if (a.key_mask == nullptr) return tokens;
  constexpr int warps = Tile<head>::warps;
  __shared__ int ends[warps];
  int end = 0;
  for (int t = static_cast<int>(threadIdx.x); t < tokens; t += Tile<head>::threads)
    if (a.key_mask[b * a.s.tokens + t] != 0) end = t + 1;
#pragma unroll
  for (int offset = warp / 2; offset > 0; offset /= 2) end = max(end, __shfl_xor_sync(all_lanes, end, offset));
  if (threadIdx.x % warp == 0) ends[threadIdx.x / warp] = end;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < warps; ++w) end = max(end, ends[w]);
  return end;
}

// Bit j: whether key `first` + j counts, for j < 4. Only keys before `end` do, and with `masked` those of the mask.
__device__ inline unsigned used_keys(const Arguments& a, int b, int first, int end, bool masked) {
  unsigned used = 0;
#pragma unroll
  for (int j = 0; j < 4; ++j)
    if (first + j < end && (!masked || a.key_mask[b * a.s.tokens + first + j] != 0)) used |= 1u << j;
  return used;
}

// Bit j: whether dropout keeps number n + j of the stream, for j < 4.
__device__ inline unsigned kept_numbers(const Arguments& a, const RandomKey& key, uint64_t n) {
  const auto bits = [&](uint64_t block) {
    const auto numbers = philox(key, block);
    unsigned kept = 0;
#pragma unroll
    for (unsigned j = 0; j < 4; ++j) kept |= static_cast<unsigned>(numbers[j] >= a.threshold) << j;
    return kept;
  };
  const unsigned offset = n % 4;
  unsigned kept = bits(n / 4);
  if (offset != 0) kept |= bits(n / 4 + 1) << 4;
  return kept >> offset & 15;
}

// Which of the thread's probabilities dropout keeps, for own rows and others that begin at these: in bit kept_bit(i, j)
// that of row i and other j. Four neighbouring keys of a query come from one or two blocks of random numbers.
template <bool own_keys>
__device__ constexpr int kept_bit(int i, int j) {
  return own_keys ? 4 * (i / 4 * 4 + j) + i % 4 : 4 * i + j;
}
template <int head, bool own_keys>
__device__ inline unsigned kept_probabilities(const Arguments& a, const Position<head>& at, int bh, int own,
                                              int others) {
  const RandomKey key = a.random.resolve();
  unsigned kept = 0;
#pragma unroll 1
  for (int group = 0; group < Tile<head>::rows; ++group) {
    const int64_t query = own_keys ? others + 4 * at.x + group % 4 : own + at.row(group);
    const int64_t first_key = own_keys ? own + at.row(group / 4 * 4) : others + 4 * at.x;
    const auto n = static_cast<uint64_t>((bh * a.s.tokens + query) * a.s.tokens + first_key);
    kept |= kept_numbers(a, key, n) << 4 * group;
  }
  return kept;
}

// sums[i][j] = own row i . other row j, for the thread's rows and others, where a tile has `count` of these. If that is
// half of a tile or less, the threads without others take a part of each sum; they get sums that mean nothing.
// `unrolled` chunks are done at a time.
template <int head, int unrolled>
__device__ inline void dot_rows(const Position<head>& at, const float* own, const float* other, int count,
                                float (&sums)[Tile<head>::rows][4]) {
  using Own = Tile<head>;
#pragma unroll
  for (int i = 0; i < Own::rows; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[i][j] = 0;
  const int halvings = (count <= Own::others / 2) + (count <= Own::others / 4);
  const int lanes = Own::lanes >> halvings, x = at.x & (lanes - 1), chunks = head / 4 >> halvings;
  const int begin = at.x / lanes * chunks, end = begin + chunks;
#pragma unroll 1
  for (int first = begin; first < end; first += unrolled)
#pragma unroll
    for (int chunk = first; chunk < first + unrolled; ++chunk) {
      Pack<float, 4> theirs[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) theirs[j] = four(other + other_place<head>(4 * x + j, chunk));
#pragma unroll
      for (int i = 0; i < Own::rows; ++i) {
        const Pack<float, 4> mine = four(own + own_place<head>(at.row(i), chunk));
#pragma unroll
        for (int k = 0; k < 4; ++k)
#pragma unroll
          for (int j = 0; j < 4; ++j) sums[i][j] = fmaf(mine.v[k], theirs[j].v[k], sums[i][j]);
      }
    }
#pragma unroll 1
  for (int offset = Own::lanes; offset > lanes; offset /= 2)
#pragma unroll
    for (int i = 0; i < Own::rows; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) sums[i][j] += __shfl_xor_sync(all_lanes, sums[i][j], offset);
}

// sums[i][c] += sum over the first `count` others j of a tile of the weight of row i and j times other[j][c], for the
// thread's rows and columns. own_weights[i][j] are those of its own others; `weights` takes them to the rest of the
// warp.
template <int head>
__device__ inline void add_weighted(const Position<head>& at, const float (&own_weights)[Tile<head>::rows][4],
                                    float* weights, const float* other, int count,
                                    float (&sums)[Tile<head>::rows][Tile<head>::columns]) {
  using Own = Tile<head>;
  __syncwarp();  // what lay there before has been read
#pragma unroll
  for (int i = 0; i < Own::rows; ++i) store_four(own_weights[i], weights + own_place<Own::others>(at.row(i), at.x));
  __syncwarp();
#pragma unroll 1
  for (int j = 0; 4 * j < count; ++j)  // behind the last other there are zeros
#pragma unroll
    for (int c = 0; c < Own::columns; c += 4) {
      Pack<float, 4> values[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) values[k] = four(other + other_place<head>(4 * j + k, at.column(c) / 4));
#pragma unroll
      for (int i = 0; i < Own::rows; ++i) {
        const Pack<float, 4> w = four(weights + own_place<Own::others>(at.row(i), j));
#pragma unroll
        for (int k = 0; k < 4; ++k)
#pragma unroll
          for (int l = 0; l < 4; ++l) sums[i][c + l] = fmaf(w.v[k], values[k].v[l], sums[i][c + l]);
      }
    }
}

// The reduction over the threads that share a row, in a fixed order, given to all of them.
template <int head, class F>
__device__ inline float across_row(float value, F f) {
#pragma unroll
  for (int offset = Tile<head>::lanes; offset > 1; offset /= 2)
    value = f(value, __shfl_xor_sync(all_lanes, value, offset));
  return value;
}

}  // namespace duet::cuda::attention_tile
