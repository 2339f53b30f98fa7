// Small kernels, right and wrong, to test the emulation with. Each launcher returns what its launch returned.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

namespace duet::emulation::samples {

// Right ones.
cudaError_t scale(float* y, const float* x, float factor, int n, cudaStream_t stream = nullptr, int blocks = 0);
cudaError_t row_sums(float* sums, const float* x, int rows, int columns, cudaStream_t stream = nullptr);
cudaError_t transpose(float* y, const float* x, int rows, int columns);
cudaError_t histogram(int* counts, const int* values, int n, int bins);
cudaError_t add_bf16(__nv_bfloat16* y, const __nv_bfloat16* x, int n);
cudaError_t copy_float4(float* y, const float* x, int n);
cudaError_t total(float* sum, float* partial, unsigned* done, const float* x, int n);  // the last block adds up
// out (8, 32): each warp operation, one row each, of the value lane * lane.
cudaError_t warp_operations(int* out);
cudaError_t block_votes(int* out, int threads);
cudaError_t shared_by_warp(int* out, bool synchronise);

// Faulty ones.
cudaError_t missing_barrier(int* out);
cudaError_t missing_second_barrier(int* out);
cudaError_t divergent_barrier(int* out);
cudaError_t barrier_after_return(int* out);
cudaError_t barrier_against_shuffle(int* out);
cudaError_t shuffle_from_returned_lane(int* out);
cudaError_t shuffle_outside_mask(int* out);
cudaError_t different_warp_operations(int* out);
cudaError_t unwritten_shared(float* out);
cudaError_t shared_out_of_bounds(int* out, int index);
// Shared memory that the launch asks for; more than 48 KiB only after allow_dynamic_shared.
cudaError_t dynamic_shared(int* out, int index, bool written, size_t bytes);
cudaError_t allow_dynamic_shared(int bytes);
cudaError_t cross_block_race(int* out);
cudaError_t half_words(unsigned short* x, int count, bool peek);
cudaError_t write_at(float* out, long long index);
cudaError_t read_at(float* out, const float* in, long long index);
cudaError_t misaligned_float4(float* y, const float* x);
cudaError_t stop_itself();
cudaError_t deep_recursion(int* out, int depth);
cudaError_t launch_shape(int* out, dim3 grid, dim3 block);

}  // namespace duet::emulation::samples
