#include "duet/cuda/attention.h"

#include <numbers>

#include "duet/cuda/attention_tile.cuh"

// Attention that never writes the (T, T) matrix: tiles of keys pass through shared memory while a running maximum and
// sum make the softmax exact (Milakov & Gimelshein 2018; Dao et al. 2022, "FlashAttention").
namespace duet {
namespace cuda {
namespace {

using namespace attention_tile;

// Bytes of shared memory: the queries, and a tile of keys and values. The weights lie where the keys have been.
template <int head>
constexpr size_t forward_shared = sizeof(float) * (Tile<head>::own_floats + 2 * Tile<head>::other_floats);

// One block: `own` queries of one head. Writes y and the logarithm of each row's sum of exponentials; where every key
// is padding the probabilities are even, and that logarithm is not used. Exponentials are powers of two.
template <class T, int head>
__global__ void __launch_bounds__(Tile<head>::threads, Tile<head>::blocks(head == 128 ? 255 : 168))
    attention_kernel(Arguments a, const T* qkv, float* log_sums, T* y) {
  using Own = Tile<head>;
  static_assert(Own::weight_floats <= Own::other_floats);
  float* const queries = dynamic_shared();
  float *const keys = queries + Own::own_floats, *const values = keys + Own::other_floats, *const weights = keys;
  const AttentionShape& s = a.s;
  const int bh = static_cast<int>(blockIdx.y), heads = static_cast<int>(s.heads), b = bh / heads, h = bh % heads;
  const int tokens = static_cast<int>(s.tokens), first = static_cast<int>(blockIdx.x) * Own::own;
  const Position<head> at;
  const int last = keys_end<head>(a, b);
  const bool any = last > 0, masked = any && a.key_mask != nullptr;
  const int end = any ? last : tokens;
  load_rows<head, Own::own, true>(a, packed_rows(s, qkv, b, 0, h), first, tokens, queries);
  const bool busy = first + at.begin < tokens;  // the warp has a query
  const float scale = a.scale * std::numbers::log2e_v<float>, kept_scale = 1.0f / (1.0f - a.dropout);
  float top[Own::rows], sum[Own::rows], out[Own::rows][Own::columns];
#pragma unroll
  for (int i = 0; i < Own::rows; ++i) {
    top[i] = -INFINITY;
    sum[i] = 0;
#pragma unroll
    for (int c = 0; c < Own::columns; ++c) out[i][c] = 0;
  }
  for (int tile = 0; tile < end; tile += Own::others) {
    __syncthreads();
    load_rows<head, Own::others, false>(a, packed_rows(s, qkv, b, 1, h), tile, end, keys);
    load_rows<head, Own::others, false>(a, packed_rows(s, qkv, b, 2, h), tile, end, values);
    __syncthreads();
    const int count = min(end - tile, Own::others);
    float p[Own::rows][4];
    if (busy) {
      dot_rows<head, 1>(at, queries, keys, count, p);
      const unsigned used = used_keys(a, b, tile + 4 * at.x, end, masked);
#pragma unroll
      for (int i = 0; i < Own::rows; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) p[i][j] = used >> j & 1 ? (any ? scale * p[i][j] : 0.0f) : -INFINITY;
        const float tile_top = fmaxf(fmaxf(p[i][0], p[i][1]), fmaxf(p[i][2], p[i][3]));
        const float new_top = fmaxf(top[i], across_row<head>(tile_top, Max{}));
        const float base = new_top == -INFINITY ? 0.0f : new_top;  // no key has counted so far
        const float old = exp2f(top[i] - base);
        top[i] = new_top;
#pragma unroll
        for (int j = 0; j < 4; ++j) p[i][j] = exp2f(p[i][j] - base);
        sum[i] = sum[i] * old + ((p[i][0] + p[i][1]) + (p[i][2] + p[i][3]));  // of the thread's keys
#pragma unroll
        for (int c = 0; c < Own::columns; ++c) out[i][c] *= old;
      }
      if (a.dropout > 0) {
        const unsigned kept = kept_probabilities<head, false>(a, at, bh, first, tile);
#pragma unroll
        for (int i = 0; i < Own::rows; ++i)
#pragma unroll
          for (int j = 0; j < 4; ++j) p[i][j] *= kept >> kept_bit<false>(i, j) & 1 ? kept_scale : 0.0f;
      }
    }
    __syncthreads();  // the weights take the keys' place
    if (busy) add_weighted<head>(at, p, weights, values, count, out);
  }
#pragma unroll
  for (int i = 0; i < Own::rows; ++i) {
    const float total = across_row<head>(sum[i], Sum{}), inverse = 1.0f / total;
    const int query = first + at.row(i);
    if (at.x == 0 && query < tokens)
      log_sums[bh * s.tokens + query] = (top[i] + log2f(total)) * std::numbers::ln2_v<float>;
#pragma unroll
    for (int c = 0; c < Own::columns; ++c) out[i][c] *= inverse;
  }
  store_rows<head>(a, at, output_rows(s, y, b, h), first, out);
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
  const Arguments a = arguments(context, s, key_mask, dropout, random, aligned_packs(qkv, y));
  with_head(s, [&](auto head) {
    launch(context, "attention", attention_kernel<T, head>, grid_of<head>(s),
           BlockShape(Tile<head>::threads, forward_shared<head>), a, qkv, log_sums, y);
  });
}

void mask_lengths(CudaContext context, int64_t batch, int64_t tokens, const uint8_t* mask, int32_t* lengths) {
  launch(context, "mask_lengths", mask_lengths_kernel, row_blocks<warp>(batch), dim3(block_threads), batch, tokens,
         mask, lengths, context_of(context).fault);
}

template void own_attention_forward<float>(CudaContext, AttentionShape, const float*, const uint8_t*, float, RandomKey,
                                           float*, float*);
template void own_attention_forward<bf16>(CudaContext, AttentionShape, const bf16*, const uint8_t*, float, RandomKey,
                                          float*, bf16*);

}  // namespace cuda
}  // namespace duet
