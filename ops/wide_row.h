#pragma once

#include <vector>

#include "duet/core/dtype.h"

namespace duet::ops {

// The elements of a row in what is computed in.
template <class T>
struct Widened {
  const T* row;
  Wide<T> operator[](int64_t i) const { return static_cast<Wide<T>>(row[i]); }
};

// Where a kernel computes a row of T in several passes: for float and double in the row itself; for bf16 in floats
// beside it, which `store` rounds, once.
template <class T>
class WideRow {
 public:
  explicit WideRow(int64_t width) : room_(narrow ? static_cast<size_t>(width) : 0) {}
  Wide<T>* of(T* row) {
    if constexpr (narrow)
      return room_.data();
    else
      return row;
  }
  void store(T* row) const {
    if constexpr (narrow)
      for (size_t i = 0; i < room_.size(); ++i) row[i] = static_cast<T>(room_[i]);
  }

 private:
  static constexpr bool narrow = !std::is_same_v<T, Wide<T>>;
  std::vector<Wide<T>> room_;
};

}  // namespace duet::ops
