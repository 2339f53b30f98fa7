#pragma once

#include "duet/core/tensor.h"
#include "duet/cuda/device.cuh"

namespace duet::cuda {

// Sums over rows, for the gradients of biases and norms, in two passes with a fixed order: blocks sum a stretch of rows
// for some columns into a float matrix (stretches, outputs, width), then as many threads share the stretches of a
// column, since a single one would wait for most of the time.
constexpr int column_lanes = 32;          // threads side by side, `pack` columns each
constexpr int column_depth = 8;           // threads above one another, which take turns with the rows
constexpr int column_blocks_at_once = 4;  // that a multiprocessor holds, with 64 registers a thread

// f(row, first column, f.read(row, first column), out) computes `outputs` terms for `pack` columns of one row. The next
// row is read before this one is computed with, since what f writes would keep the compiler from doing so.
template <class F, int outputs, int pack>
__global__ void __launch_bounds__(column_lanes* column_depth, column_blocks_at_once)
    column_partials_kernel(F f, int64_t rows, int64_t width, int64_t rows_per_block, float* partials) {
  __shared__ float shared[column_depth][outputs][column_lanes * pack + 1];
  const int lane = static_cast<int>(threadIdx.x), depth = static_cast<int>(threadIdx.y);
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * column_lanes + lane) * pack;
  const int64_t first = blockIdx.y * rows_per_block;
  const int64_t last = first + rows_per_block < rows ? first + rows_per_block : rows;
  float sums[outputs][pack] = {};
  if (column < width && first + depth < last) {
    auto next = f.read(first + depth, column);
    for (int64_t r = first + depth; r < last; r += column_depth) {
      const auto in = next;
      if (r + column_depth < last) next = f.read(r + column_depth, column);
      float terms[outputs][pack];
      f(r, column, in, terms);
#pragma unroll
      for (int o = 0; o < outputs; ++o)
#pragma unroll
        for (int j = 0; j < pack; ++j) sums[o][j] += terms[o][j];
    }
  }
#pragma unroll
  for (int o = 0; o < outputs; ++o)
#pragma unroll
    for (int j = 0; j < pack; ++j) shared[depth][o][lane * pack + j] = sums[o][j];
  __syncthreads();
  for (int i = depth * column_lanes + lane; i < outputs * column_lanes * pack; i += column_lanes * column_depth) {
    const int o = i / (column_lanes * pack), c = i % (column_lanes * pack);
    const int64_t to = static_cast<int64_t>(blockIdx.x) * column_lanes * pack + c;
    float total = 0;
#pragma unroll
    for (int d = 0; d < column_depth; ++d) total += shared[d][o][c];
    if (to < width) partials[(blockIdx.y * outputs + o) * width + to] = total;
  }
}

// y[o][c] = sum over the stretches.
template <class Y, int outputs>
struct ColumnResults {
  Y* y[outputs];
};
template <class Y, int outputs>
__global__ void column_totals_kernel(const float* partials, int64_t stretches, int64_t width,
                                     ColumnResults<Y, outputs> results) {
  __shared__ float shared[column_depth][column_lanes];
  const int lane = static_cast<int>(threadIdx.x), depth = static_cast<int>(threadIdx.y);
  const int64_t n = outputs * width, i = static_cast<int64_t>(blockIdx.x) * column_lanes + lane;
  float total = 0;
  if (i < n)
    for (int64_t s = depth; s < stretches; s += column_depth) total += partials[s * n + i];
  shared[depth][lane] = total;
  __syncthreads();
  if (depth > 0 || i >= n) return;
  for (int d = 1; d < column_depth; ++d) total += shared[d][lane];
#pragma unroll
  for (int o = 0; o < outputs; ++o)  // an array with a runtime index would lie in local memory
    if (i / width == o) results.y[o][i % width] = from_float<Y>(total);
}

// The second pass alone, over partials (stretches, outputs, width).
template <int outputs, class Y>
void column_totals(CudaContext context, const char* name, const Tensor& partials, int64_t width,
                   ColumnResults<Y, outputs> results) {
  launch(context, name, column_totals_kernel<Y, outputs>, blocks_for(outputs * width, column_lanes),
         dim3(column_lanes, column_depth), static_cast<const float*>(partials.data<float>()), partials.dim(0), width,
         results);
}

template <int outputs, int pack, class Y, class F>
void column_reduce(CudaContext context, const char* name, F f, int64_t rows, int64_t width,
                   ColumnResults<Y, outputs> results) {
  if (width == 0) return;
  const int64_t column_blocks = (width + column_lanes * pack - 1) / (column_lanes * pack);
  // As many blocks as the device holds at once, so that none starts when others have ended, but each with rows to sum.
  const int64_t held = column_blocks_at_once * context_of(context).multiprocessors;
  const int64_t wanted = held < column_blocks ? 1 : held / column_blocks;
  int64_t stretches = rows / (4 * column_depth) + 1;
  if (stretches > wanted) stretches = wanted;
  const int64_t rows_per_block = (rows + stretches - 1) / stretches;
  const Tensor partials = Tensor::empty({stretches, outputs, width}, DType::f32, {DeviceKind::cuda, context.index});
  launch(context, name, column_partials_kernel<F, outputs, pack>,
         dim3(static_cast<unsigned>(column_blocks), static_cast<unsigned>(stretches)), dim3(column_lanes, column_depth),
         f, rows, width, rows_per_block, partials.data<float>());
  column_totals<outputs, Y>(context, name, partials, width, results);
}

template <class T, int pack>
struct ColumnValue {
  const T* x;
  int64_t width;
  __device__ Pack<T, pack> read(int64_t r, int64_t c) const { return load_pack<pack>(x + r * width + c); }
  __device__ void operator()(int64_t, int64_t, const Pack<T, pack>& in, float (&terms)[1][pack]) const {
    to_floats(in, terms[0]);
  }
};

// y[c] = sum over rows of x[r][c].
template <class T, class Y>
void column_sum(CudaContext context, const char* name, Rows<const T> x, Y* y) {
  constexpr int pack = full_pack<T>;
  if (x.width % pack == 0 && aligned16(x.data))
    column_reduce<1, pack, Y>(context, name, ColumnValue<T, pack>{x.data, x.width}, x.count, x.width,
                              ColumnResults<Y, 1>{{y}});
  else
    column_reduce<1, 1, Y>(context, name, ColumnValue<T, 1>{x.data, x.width}, x.count, x.width,
                           ColumnResults<Y, 1>{{y}});
}

}  // namespace duet::cuda
