// What the emulation keeps in cublasLt's opaque descriptors.
#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <string>

namespace duet::emulation {

struct Layout {
  static constexpr uint32_t kMagic = 0x6c617930;
  uint32_t magic = kMagic;
  int32_t type = 0;
  int32_t order = CUBLASLT_ORDER_COL;
  int32_t batches = 1;
  uint64_t rows = 0, columns = 0;
  int64_t leading = 0;
  int64_t batch_stride = 0;  // elements
};
static_assert(sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t));

struct Description {
  static constexpr uint32_t kMagic = 0x64657330;
  uint32_t magic = kMagic;
  int32_t compute = 0, scale = 0;
  int32_t pointer_mode = CUBLASLT_POINTER_MODE_HOST;
  int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  int32_t bias_type = -1, aux_type = -1;
  void* bias = nullptr;
  void* aux = nullptr;
  int64_t aux_leading = 0, aux_batch_stride = 0, bias_batch_stride = 0;
};
static_assert(sizeof(Description) <= sizeof(cublasLtMatmulDescOpaque_t));

struct Preference {
  static constexpr uint32_t kMagic = 0x70726630;
  uint32_t magic = kMagic;
  uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C, D
  uint64_t workspace_bytes = 0;
};
static_assert(sizeof(Preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t));

// The emulation's one algorithm. Like real ones it may need a workspace and operands of some alignment.
struct Algorithm {
  static constexpr uint32_t kMagic = 0x616c6730;
  uint32_t magic = kMagic;
  uint32_t alignment[4] = {};
  uint64_t workspace_bytes = 0;
  uint64_t problem = 0;  // what it was chosen for: a hash of the shapes, types and the epilogue
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

// The descriptor behind an opaque pointer; nullptr if it is none.
template <class T, class Opaque>
T* view(Opaque* opaque) {
  auto* result = reinterpret_cast<T*>(opaque);
  return result && result->magic == T::kMagic ? result : nullptr;
}
template <class T, class Opaque>
const T* view(const Opaque* opaque) {
  return view<T>(const_cast<Opaque*>(opaque));
}

// Remembers why a call failed; cublasLtGetStatusString adds it.
cublasStatus_t refuse(cublasStatus_t status, const std::string& reason);

}  // namespace duet::emulation
