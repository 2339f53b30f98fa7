#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// The input layer of ViT (Dosovitskiy et al. 2021): images (B, C, H, W) cut into patches of p x p, projected, preceded
// by the class token, plus position embeddings. weight (D, C, p, p), bias (D), class_token (1, 1, D), positions
// (1, N + 1, D) with N = (H / p)(W / p) -> (B, N + 1, D). Equals a convolution of kernel and stride p.
// The parameters are float32 when the images are bfloat16.
Variable patch_embedding(const Variable& images, const Variable& weight, const Variable& bias,
                         const Variable& class_token, const Variable& positions);

struct PatchGrid {
  int64_t batch, channels, height, width, patch;
  constexpr int64_t columns() const { return width / patch; }
  constexpr int64_t count() const { return (height / patch) * columns(); }
  constexpr int64_t size() const { return channels * patch * patch; }
};
// patches (B N, C p p), inner order (channel, row, column).
template <class T>
void patchify(CpuContext, PatchGrid grid, const T* images, T* patches);
template <class T>
void patchify(CudaContext, PatchGrid grid, const T* images, T* patches);
template <class T>
void unpatchify(CpuContext, PatchGrid grid, const T* patches, T* images);
template <class T>
void unpatchify(CudaContext, PatchGrid grid, const T* patches, T* images);
// y (B, N + 1, D): row 0 is the class token, rows 1.. are projected + bias; positions are added to all.
template <class T>
void assemble_tokens(CpuContext, int64_t batch, int64_t count, int64_t width, const T* projected, const Wide<T>* bias,
                     const Wide<T>* class_token, const Wide<T>* positions, T* y);
template <class T>
void assemble_tokens(CudaContext, int64_t batch, int64_t count, int64_t width, const T* projected, const Wide<T>* bias,
                     const Wide<T>* class_token, const Wide<T>* positions, T* y);

}  // namespace duet::ops
