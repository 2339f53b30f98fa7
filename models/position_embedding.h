#pragma once

#include "duet/core/tensor.h"

namespace duet::models {

// How a grid of position embeddings is resampled for another image size. Both are bicubic with half-pixel centres.
enum class Interpolation {
  hugging_face,  // A = -0.75, no antialiasing: Transformers' interpolate_pos_encoding
  timm           // a = -0.5, antialiased when shrinking: timm's resample_abs_pos_embed
};

// The side of the square grid behind `positions` positions, the class token's included; 0 when there is none.
int64_t grid_side(int64_t positions);

// table (1, N + 1, D), a class token and a square grid of N positions in row-major order -> (1, rows * columns + 1, D).
// The class token's position stays. Computed in double. Throws Error when N is no square.
Tensor interpolate_positions(const Tensor& table, int64_t rows, int64_t columns, Interpolation interpolation);

}  // namespace duet::models
