#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string_view>
#include <type_traits>

namespace duet {

enum class DType { f64, f32, bf16, i64, i32, u8 };

// Brain float: the upper half of an IEEE float. Storage only; arithmetic happens in float.
struct bf16 {
  uint16_t bits = 0;
  bf16() = default;
  constexpr explicit bf16(float value) {  // round to nearest even; NaN stays a (quiet) NaN
    const auto raw = std::bit_cast<uint32_t>(value);
    bits = value != value ? static_cast<uint16_t>(raw >> 16 | 0x40)
                          : static_cast<uint16_t>((raw + 0x7FFF + (raw >> 16 & 1)) >> 16);
  }
  constexpr explicit operator float() const { return std::bit_cast<float>(uint32_t{bits} << 16); }
};

// What the parameters, statistics and constants of an op on T are held in: bf16 is for activations only, since eight
// bits of mantissa lose small updates of a weight.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, bf16>, float, T>;
constexpr DType wide(DType dtype) {
  return dtype == DType::bf16 ? DType::f32 : dtype;
}

// A compile-time type as a value, for generic lambdas: [&]<class T>(auto context, Type<T>) {...}.
template <class T>
struct Type {
  using type = T;
};

template <class T>
inline constexpr bool dtype_missing = false;

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, double>)
    return DType::f64;
  else if constexpr (std::is_same_v<T, float>)
    return DType::f32;
  else if constexpr (std::is_same_v<T, bf16>)
    return DType::bf16;
  else if constexpr (std::is_same_v<T, int64_t>)
    return DType::i64;
  else if constexpr (std::is_same_v<T, int32_t>)
    return DType::i32;
  else if constexpr (std::is_same_v<T, uint8_t>)
    return DType::u8;
  else
    static_assert(dtype_missing<T>, "not a tensor element type");
}

constexpr size_t size_of(DType dtype) {
  constexpr size_t sizes[] = {8, 4, 2, 8, 4, 1};
  return sizes[static_cast<size_t>(dtype)];
}

constexpr std::string_view name_of(DType dtype) {
  constexpr std::string_view names[] = {"float64", "float32", "bfloat16", "int64", "int32", "uint8"};
  return names[static_cast<size_t>(dtype)];
}

constexpr bool is_floating(DType dtype) {
  return dtype == DType::f64 || dtype == DType::f32 || dtype == DType::bf16;
}

inline std::ostream& operator<<(std::ostream& out, DType dtype) {
  return out << name_of(dtype);
}

}  // namespace duet
