// One matrix product as cublasLt describes it, and whether cublasLt would accept it.
#pragma once

#include "duet/tests/emulation/cublaslt_descriptors.h"

namespace duet::emulation {

// One product, with everything copied out of the descriptors.
struct Product {
  Description operation;
  Layout a, b, c, d;
  const void *a_data = nullptr, *b_data = nullptr, *c_data = nullptr;
  void* d_data = nullptr;
  float alpha = 1, beta = 0;
  const float *device_alpha = nullptr, *device_beta = nullptr;
  void* workspace = nullptr;
  uint64_t workspace_bytes = 0;
  int64_t m = 0, n = 0, k = 0;
};

inline bool has(uint32_t epilogue, uint32_t part) {
  return (epilogue & part) == part;
}
inline bool is_gelu(uint32_t e) {
  return has(e, CUBLASLT_EPILOGUE_GELU);
}
inline bool is_dgelu(uint32_t e) {
  return has(e, 64 | 128);
}
inline bool stores_aux(uint32_t e) {
  return is_gelu(e) && (e & 128);
}
inline bool adds_bias(uint32_t e) {
  return has(e, CUBLASLT_EPILOGUE_BIAS);
}
inline bool uses_bias_pointer(uint32_t e) {
  return adds_bias(e) || has(e, 16) || e == CUBLASLT_EPILOGUE_BGRADA || e == CUBLASLT_EPILOGUE_BGRADB;
}

inline size_t bytes_of(int type) {
  return type == CUDA_R_32F ? 4 : 2;
}

inline cublasStatus_t invalid(const std::string& reason) {
  return refuse(CUBLAS_STATUS_INVALID_VALUE, reason);
}
inline cublasStatus_t unsupported(const std::string& reason) {
  return refuse(CUBLAS_STATUS_NOT_SUPPORTED, reason);
}

// Fills in p.m, p.n and p.k.
cublasStatus_t validate(Product& p);

}  // namespace duet::emulation
