#pragma once

#include "duet/autograd/variable.h"

namespace duet::models {

// Whether every row of a mask (B, T) is some ones, at least one, and then zeros. False for a mask on a GPU.
bool pads_at_end(const Tensor& mask);

// The real tokens of a batch of texts, one text after the other, as rows (N, D) in place of (B, T, D) with padding.
// Nothing is computed for padding then, and every number for a real token stays the same, those of dropout included.
struct Packing {
  Tensor starts;  // i64: text b has rows starts[b] up to starts[b + 1]; behind the texts may be sequences of filling
  Tensor rows;    // (N) i64: each one's row among all B T
  int64_t texts = 0;   // B
  int64_t tokens = 0;  // T
  int64_t real = 0;    // rows of texts; what follows is filling

  // Of the tokens that the mask (B, T) leaves. Undefined where all would stay, for a text without any, which attends to
  // its padding, for padding elsewhere than at the end, and for a mask on a GPU. Rows are filled up to a multiple of
  // `multiple` with copies of the first that nothing uses.
  static Packing of(const Tensor& mask, int64_t multiple = 1);

  bool defined() const { return starts.defined(); }
  int64_t length(int64_t text) const { return starts.data<int64_t>()[text + 1] - starts.data<int64_t>()[text]; }
  Tensor take(const Tensor& ids) const;           // (B, T) i32 or i64 -> (N)
  Tensor positions() const;                       // (N) i64: each token's place in its text
  Variable unpack(const Variable& x) const;       // (N, D) -> (B, T, D), zero at padding
  Variable first_token(const Variable& x) const;  // (N, D) -> (B, D): of each text
};

// x[:, 0]: (B, T, D) -> (B, D).
Variable first_token(const Variable& x);

}  // namespace duet::models
