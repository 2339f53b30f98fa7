#include "duet/cuda/attention.h"

#include "duet/cuda/device.cuh"

// Attention that never writes the (T, T) matrix: tiles of keys (or queries) pass through shared memory while a running
// maximum and sum make the softmax exact (Milakov & Gimelshein 2018; Dao et al. 2022, "FlashAttention"). Scores are
// made again in the backward pass from the logarithm of each row's sum. Arithmetic is float, in a fixed order.
namespace duet {
namespace cuda {
namespace {

using ops::AttentionShape;

// Every warp owns `rows` rows (queries or keys) and meets 32 others at a time, one a lane.
template <int head>
struct Tile {
  static constexpr int warps = head <= 64 ? 8 : 4;
  static constexpr int rows = head <= 64 ? 4 : 2;
  static constexpr int own = warps * rows;
  static constexpr int threads = warps * warp;
  static constexpr int columns = head / warp;  // of the head that a lane sums up
};

struct Arguments {
  AttentionShape s;
  const uint8_t* key_mask;
  float scale;
  float dropout;
  uint32_t threshold;
  DeviceKey random;
};

// Element (b, t, part, h, 0) of the packed projections; part 0, 1, 2 = query, key, value.
__device__ inline int64_t packed_row(const AttentionShape& s, int64_t b, int64_t t, int part, int64_t h) {
  return ((b * s.tokens + t) * 3 + part) * s.heads * s.head_size + h * s.head_size;
}
__device__ inline int64_t output_row(const AttentionShape& s, int64_t b, int64_t t, int64_t h) {
  return (b * s.tokens + t) * s.heads * s.head_size + h * s.head_size;
}

// Loads `count` rows of a head into shared memory; what lies beyond the tokens or the head's size is zero. row(t) gives
// where row t begins.
template <int head, int count, int stride, class T, class Row>
__device__ void load_rows(const AttentionShape& s, int64_t first, const T* from, Row row, float* to) {
  for (int i = static_cast<int>(threadIdx.x); i < count * head; i += Tile<head>::threads) {
    const int r = i / head, c = i % head;
    const int64_t t = first + r;
    to[r * stride + c] = t < s.tokens && c < s.head_size ? to_float(from[row(t) + c]) : 0.0f;
  }
}

// Whether any key of the sample may be attended to. Every thread of the block must ask.
__device__ inline bool any_key(const Arguments& a, int64_t b) {
  if (a.key_mask == nullptr) return true;
  __shared__ int found;
  if (threadIdx.x == 0) found = 0;
  __syncthreads();
  for (int64_t t = threadIdx.x; t < a.s.tokens; t += blockDim.x)
    if (a.key_mask[b * a.s.tokens + t] != 0) atomicExch(&found, 1);
  __syncthreads();
  const bool result = found != 0;
  __syncthreads();
  return result;
}

__device__ inline bool attends(const Arguments& a, int64_t b, int64_t key) {
  return key < a.s.tokens && (a.key_mask == nullptr || a.key_mask[b * a.s.tokens + key] != 0);
}

// What dropout multiplies probability (b, h, query, key) by.
__device__ inline float keep(const Arguments& a, int64_t bh, int64_t query, int64_t key) {
  if (a.dropout == 0) return 1.0f;
  const auto n = static_cast<uint64_t>((bh * a.s.tokens + query) * a.s.tokens + key);
  return philox_number(a.random.resolve(), n) >= a.threshold ? 1.0f / (1.0f - a.dropout) : 0.0f;
}

// Four neighbouring floats of shared memory, 16-byte aligned.
__device__ inline Pack<float, 4> four(const float* from) {
  return *reinterpret_cast<const Pack<float, 4>*>(from);
}

// sums[r] = own row r . other: the lane's row is read once for all of the warp's, which come four floats at a time.
template <int head, int rows>
__device__ void dot_rows(const float* own, const float* other, float (&sums)[rows]) {
#pragma unroll
  for (int r = 0; r < rows; ++r) sums[r] = 0;
#pragma unroll 4
  for (int c = 0; c < head; c += 4) {
    float o[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) o[j] = other[c + j];
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      const Pack<float, 4> mine = four(own + r * head + c);
#pragma unroll
      for (int j = 0; j < 4; ++j) sums[r] = fmaf(mine.v[j], o[j], sums[r]);
    }
  }
}

// sums[r][c] += sum over the 32 others j of weights[r][j] rows[j][column of c], for the lane's columns.
template <int head, int rows, int columns>
__device__ void add_weighted(const float (&weights)[rows][warp], const float* other, int lane,
                             float (&sums)[rows][columns]) {
  for (int j = 0; j < warp; j += 4) {
    Pack<float, 4> w[rows];
#pragma unroll
    for (int r = 0; r < rows; ++r) w[r] = four(weights[r] + j);
#pragma unroll
    for (int k = 0; k < 4; ++k)
#pragma unroll
      for (int c = 0; c < columns; ++c) {
        const float value = other[(j + k) * (head + 1) + c * warp + lane];
#pragma unroll
        for (int r = 0; r < rows; ++r) sums[r][c] = fmaf(w[r].v[k], value, sums[r][c]);
      }
  }
}

// One block: `own` queries of one head. Writes y and the logarithm of each row's sum of exponentials; where every key
// is padding the probabilities are even, and that logarithm is not used.
template <class T, int head>
__global__ void __launch_bounds__(Tile<head>::threads)
    attention_kernel(Arguments a, const T* qkv, float* log_sums, T* y) {
  using Own = Tile<head>;
  alignas(16) __shared__ float queries[Own::own * head];
  __shared__ float keys[warp * (head + 1)], values[warp * (head + 1)];
  alignas(16) __shared__ float p[Own::warps][Own::rows][warp];
  const AttentionShape& s = a.s;
  const int64_t bh = blockIdx.y, b = bh / s.heads, h = bh % s.heads,
                first = static_cast<int64_t>(blockIdx.x) * Own::own;
  const int lane = static_cast<int>(threadIdx.x) % warp, w = static_cast<int>(threadIdx.x) / warp;
  const bool any = any_key(a, b);
  load_rows<head, Own::own, head>(
      s, first, qkv, [&](int64_t t) { return packed_row(s, b, t, 0, h); }, queries);
  float top[Own::rows], sum[Own::rows], out[Own::rows][Own::columns];
#pragma unroll
  for (int r = 0; r < Own::rows; ++r) {
    top[r] = -INFINITY;
    sum[r] = 0;
#pragma unroll
    for (int c = 0; c < Own::columns; ++c) out[r][c] = 0;
  }
  for (int64_t tile = 0; tile < s.tokens; tile += warp) {
    __syncthreads();
    load_rows<head, warp, head + 1>(
        s, tile, qkv, [&](int64_t t) { return packed_row(s, b, t, 1, h); }, keys);
    load_rows<head, warp, head + 1>(
        s, tile, qkv, [&](int64_t t) { return packed_row(s, b, t, 2, h); }, values);
    __syncthreads();
    const int64_t key = tile + lane;
    const bool used = any ? attends(a, b, key) : key < s.tokens;
    float scores[Own::rows];
    dot_rows<head>(queries + w * Own::rows * head, keys + lane * (head + 1), scores);
#pragma unroll
    for (int r = 0; r < Own::rows; ++r) {
      float score = any ? a.scale * scores[r] : 0.0f;
      if (!used) score = -INFINITY;
      const float tile_top = warp_reduce(score, Max{});
      if (tile_top == -INFINITY) {  // no key of this tile counts
        p[w][r][lane] = 0;
        continue;
      }
      const float new_top = fmaxf(top[r], tile_top);
      const float old = expf(top[r] - new_top), mine = used ? expf(score - new_top) : 0.0f;
      sum[r] = sum[r] * old + warp_reduce(mine, Sum{});
      top[r] = new_top;
#pragma unroll
      for (int c = 0; c < Own::columns; ++c) out[r][c] *= old;
      const int64_t query = first + w * Own::rows + r;
      p[w][r][lane] = mine > 0 && query < s.tokens ? mine * keep(a, bh, query, key) : mine;
    }
    __syncwarp();
    add_weighted<head>(p[w], values, lane, out);
    __syncwarp();
  }
#pragma unroll
  for (int r = 0; r < Own::rows; ++r) {
    const int64_t query = first + w * Own::rows + r;
    if (query >= s.tokens) continue;
    if (lane == 0) log_sums[bh * s.tokens + query] = top[r] + logf(sum[r]);
    const float inverse = 1.0f / sum[r];
#pragma unroll
    for (int c = 0; c < Own::columns; ++c)
      if (c * warp + lane < s.head_size)
        y[output_row(s, b, query, h) + c * warp + lane] = from_float<T>(out[r][c] * inverse);
  }
}

// sums[b, h, t] = dy . y of the row: what softmax's backward pass subtracts.
template <class T>
__global__ void output_dots_kernel(AttentionShape s, const T* y, const T* dy, float* sums) {
  const int64_t i = row_index<warp>();
  if (i >= s.batch * s.heads * s.tokens) return;
  const int64_t bh = i / s.tokens, from = output_row(s, bh / s.heads, i % s.tokens, bh % s.heads);
  float total = 0;
  for (int64_t c = row_lane<warp>(); c < s.head_size; c += warp)
    total += to_float(y[from + c]) * to_float(dy[from + c]);
  total = warp_reduce(total, Sum{});
  if (row_lane<warp>() == 0) sums[i] = total;
}

// Gradients of the queries (to_keys false: own rows are queries, the others keys), or of keys and values (own rows are
// keys, the others queries). With p the probability, m what dropout multiplies it by and D = dy . y:
//   dv_j = sum_i p m dy_i,  ds_ij = p (m dy_i . v_j - D_i) scale,  dq_i = sum_j ds_ij k_j,  dk_j = sum_i ds_ij q_i.
template <class T, int head, bool to_keys>
__global__ void __launch_bounds__(Tile<head>::threads, 2)
    attention_backward_kernel(Arguments a, const T* qkv, const float* log_sums, const float* dots, const T* dy,
                              T* dqkv) {
  using Own = Tile<head>;
  // A holds queries or keys, B the rows of dy or values that go with them.
  alignas(16) __shared__ float own_a[Own::own * head], own_b[Own::own * head];
  __shared__ float other_a[warp * (head + 1)], other_b[warp * (head + 1)];
  alignas(16) __shared__ float ds[Own::warps][Own::rows][warp], pm[Own::warps][Own::rows][warp];
  const AttentionShape& s = a.s;
  const int64_t bh = blockIdx.y, b = bh / s.heads, h = bh % s.heads,
                first = static_cast<int64_t>(blockIdx.x) * Own::own;
  const int lane = static_cast<int>(threadIdx.x) % warp, w = static_cast<int>(threadIdx.x) / warp;
  const bool any = any_key(a, b);
  const auto query_row = [&](int64_t t) { return packed_row(s, b, t, 0, h); };
  const auto key_row = [&](int64_t t) { return packed_row(s, b, t, 1, h); };
  const auto value_row = [&](int64_t t) { return packed_row(s, b, t, 2, h); };
  const auto dy_row = [&](int64_t t) { return output_row(s, b, t, h); };
  if constexpr (to_keys) {
    load_rows<head, Own::own, head>(s, first, qkv, key_row, own_a);
    load_rows<head, Own::own, head>(s, first, qkv, value_row, own_b);
  } else {
    load_rows<head, Own::own, head>(s, first, qkv, query_row, own_a);
    load_rows<head, Own::own, head>(s, first, dy, dy_row, own_b);
  }
  float da[Own::rows][Own::columns] = {}, db[Own::rows][Own::columns] = {};
  for (int64_t tile = 0; tile < s.tokens; tile += warp) {
    __syncthreads();
    if constexpr (to_keys) {
      load_rows<head, warp, head + 1>(s, tile, qkv, query_row, other_a);
      load_rows<head, warp, head + 1>(s, tile, dy, dy_row, other_b);
    } else {
      load_rows<head, warp, head + 1>(s, tile, qkv, key_row, other_a);
      load_rows<head, warp, head + 1>(s, tile, qkv, value_row, other_b);
    }
    __syncthreads();
    float scores[Own::rows], products[Own::rows];
    dot_rows<head>(own_a + w * Own::rows * head, other_a + lane * (head + 1), scores);
    dot_rows<head>(own_b + w * Own::rows * head, other_b + lane * (head + 1), products);
#pragma unroll
    for (int r = 0; r < Own::rows; ++r) {
      const int64_t mine = first + w * Own::rows + r, others = tile + lane;
      const int64_t query = to_keys ? others : mine, key = to_keys ? mine : others;
      float probability = 0, gradient = 0, factor = 0;
      if (query < s.tokens && key < s.tokens) {
        factor = keep(a, bh, query, key);
        if (!any) {
          probability = 1.0f / static_cast<float>(s.tokens);  // even, and independent of query and key
        } else if (attends(a, b, key)) {
          const float score = a.scale * scores[r];
          probability = expf(score - log_sums[bh * s.tokens + query]);
          const float dp = factor * products[r];
          gradient = probability * (dp - dots[bh * s.tokens + query]) * a.scale;
        }
      }
      ds[w][r][lane] = gradient;
      if constexpr (to_keys) pm[w][r][lane] = probability * factor;
    }
    __syncwarp();
    add_weighted<head>(ds[w], other_a, lane, da);
    if constexpr (to_keys) add_weighted<head>(pm[w], other_b, lane, db);
    __syncwarp();
  }
#pragma unroll
  for (int r = 0; r < Own::rows; ++r) {
    const int64_t t = first + w * Own::rows + r;
    if (t >= s.tokens) continue;
#pragma unroll
    for (int c = 0; c < Own::columns; ++c) {
      const int column = c * warp + lane;
      if (column >= s.head_size) continue;
      dqkv[(to_keys ? key_row(t) : query_row(t)) + column] = from_float<T>(da[r][c]);
      if constexpr (to_keys) dqkv[value_row(t) + column] = from_float<T>(db[r][c]);
    }
  }
}

Arguments arguments(CudaContext context, AttentionShape s, const uint8_t* key_mask, float dropout, RandomKey random) {
  check(s.head_size <= 128, "attention", "heads of ", s.head_size, " are not supported on the GPU; at most 128 are");
  check(s.batch * s.heads <= 65535, "attention", s.batch, " samples of ", s.heads,
        " heads are more than 65535 together, which a GPU grid allows; use a smaller --batch");
  return {s,
          key_mask,
          static_cast<float>(1 / std::sqrt(static_cast<double>(s.head_size))),
          dropout,
          static_cast<uint32_t>(static_cast<double>(dropout) * 0x1p32),
          device_key(context, random)};
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

// lengths[b] = number of ones in the sample's mask, which must come first. A sample that breaks this is reported.
__global__ void mask_lengths_kernel(int64_t batch, int64_t tokens, const uint8_t* mask, int32_t* lengths,
                                    Fault* fault) {
  const int64_t b = row_index<warp>();
  if (b >= batch) return;
  const uint8_t* row = mask + b * tokens;
  int count = 0;
  for (int64_t t = row_lane<warp>(); t < tokens; t += warp) {
    count += row[t] != 0;
    if (t > 0 && row[t] != 0 && row[t - 1] == 0) report(fault, Finding::mask, t, b, tokens);
  }
  count = static_cast<int>(warp_reduce(static_cast<float>(count), Sum{}));  // exact: far below 2^24
  if (row_lane<warp>() != 0) return;
  if (count == 0) report(fault, Finding::mask, 0, b, tokens);
  lengths[b] = count > 0 ? count : 1;
}

}  // namespace

template <class T>
void own_attention_forward(CudaContext context, AttentionShape s, const T* qkv, const uint8_t* key_mask, float dropout,
                           RandomKey random, float* log_sums, T* y) {
  const Arguments a = arguments(context, s, key_mask, dropout, random);
  with_head(s, [&](auto head) {
    launch(context, "attention", attention_kernel<T, head>, grid_of<head>(s), dim3(Tile<head>::threads), a, qkv,
           log_sums, y);
  });
}

template <class T>
void own_attention_backward(CudaContext context, AttentionShape s, const T* qkv, const uint8_t* key_mask,
                            const float* log_sums, const T* y, const T* dy, float dropout, RandomKey random, T* dqkv) {
  const Arguments a = arguments(context, s, key_mask, dropout, random);
  const Tensor dots = Tensor::empty({s.batch, s.heads, s.tokens}, DType::f32, {DeviceKind::cuda, context.index});
  float* sums = dots.data<float>();
  launch(context, "attention_dots", output_dots_kernel<T>, row_blocks<warp>(s.batch * s.heads * s.tokens),
         dim3(block_threads), s, y, dy, sums);
  with_head(s, [&](auto head) {
    const dim3 grid = grid_of<head>(s), block(Tile<head>::threads);
    launch(context, "attention_backward_query", attention_backward_kernel<T, head, false>, grid, block, a, qkv,
           log_sums, sums, dy, dqkv);
    launch(context, "attention_backward_key", attention_backward_kernel<T, head, true>, grid, block, a, qkv, log_sums,
           sums, dy, dqkv);
  });
}

void mask_lengths(CudaContext context, int64_t batch, int64_t tokens, const uint8_t* mask, int32_t* lengths) {
  launch(context, "mask_lengths", mask_lengths_kernel, row_blocks<warp>(batch), dim3(block_threads), batch, tokens,
         mask, lengths, context_of(context).fault);
}

#define DUET_INSTANTIATE(T)                                                                                       \
  template void own_attention_forward<T>(CudaContext, AttentionShape, const T*, const uint8_t*, float, RandomKey, \
                                         float*, T*);                                                             \
  template void own_attention_backward<T>(CudaContext, AttentionShape, const T*, const uint8_t*, const float*,    \
                                          const T*, const T*, float, RandomKey, T*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(bf16)

}  // namespace cuda
}  // namespace duet
