#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>

#include "duet/core/error.h"

namespace duet {

// Up to six dimensions, row-major. Rank 0 is a scalar with one element.
class Shape {
 public:
  static constexpr int max_rank = 6;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    for (const int64_t dim : dims) append(dim);
  }

  int rank() const { return rank_; }

  // Negative indices count from the end, as in dim(-1) for the last.
  int64_t operator[](int axis) const { return dims_[index(axis)]; }
  void set(int axis, int64_t dim) {
    check(dim >= 0, "shape", "negative dimension ", dim);
    dims_[index(axis)] = dim;
  }
  void append(int64_t dim) {
    check(rank_ < max_rank, "shape", "more than ", max_rank, " dimensions");
    check(dim >= 0, "shape", "negative dimension ", dim);
    dims_[static_cast<size_t>(rank_++)] = dim;
  }

  int64_t numel() const { return product(0, rank_); }
  // Product of the dimensions in [begin, end). Throws Error when it does not fit into 63 bits.
  int64_t product(int begin, int end) const {
    int64_t n = 1;
    for (int i = begin; i < end; ++i)
      check(!__builtin_mul_overflow(n, dims_[static_cast<size_t>(i)], &n), "shape", *this, " is too large to count");
    return n;
  }

  bool operator==(const Shape& other) const {
    if (rank_ != other.rank_) return false;
    for (int i = 0; i < rank_; ++i)
      if ((*this)[i] != other[i]) return false;
    return true;
  }

 private:
  size_t index(int axis) const {
    check(axis >= -rank_ && axis < rank_, "shape", "axis ", axis, " out of range for ", *this);
    return static_cast<size_t>(axis < 0 ? axis + rank_ : axis);
  }
  friend std::ostream& operator<<(std::ostream& out, const Shape& shape) {
    out << '(';
    for (int i = 0; i < shape.rank_; ++i) out << (i ? ", " : "") << shape.dims_[static_cast<size_t>(i)];
    return out << ')';
  }

  std::array<int64_t, max_rank> dims_{};
  int rank_ = 0;
};

}  // namespace duet
