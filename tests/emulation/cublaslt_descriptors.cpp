#include "duet/tests/emulation/cublaslt_descriptors.h"

#include <cstring>

#include "duet/core/error.h"
#include "duet/tests/emulation/runtime.h"

namespace duet::emulation {

namespace {

struct Refusal {
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  std::string reason;
  std::string shown;
};
Refusal& refusal() {
  static Refusal& instance = *new Refusal;
  return instance;
}

// Opaque descriptors come from the caller or from new_descriptor; either way their first bytes are ours.
template <class T, class Opaque>
cublasStatus_t new_descriptor(Opaque** result, const T& value) {
  if (!result) return refuse(CUBLAS_STATUS_INVALID_VALUE, "nowhere to put the descriptor");
  *result = new Opaque{};
  std::memcpy(static_cast<void*>(*result), &value, sizeof(value));
  return CUBLAS_STATUS_SUCCESS;
}

template <class T, class Opaque>
cublasStatus_t delete_descriptor(const Opaque* opaque) {
  if (!view<T>(opaque)) return refuse(CUBLAS_STATUS_INVALID_VALUE, "destroying what is no such descriptor");
  std::memset(const_cast<Opaque*>(opaque), 0, sizeof(Opaque));
  delete opaque;
  return CUBLAS_STATUS_SUCCESS;
}

template <class T>
cublasStatus_t assign(T& field, const void* value, size_t bytes) {
  if (!value || bytes != sizeof(T)) {
    return refuse(CUBLAS_STATUS_INVALID_VALUE, text("attribute of ", bytes, " bytes, expected ", sizeof(T)));
  }
  std::memcpy(&field, value, sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

cublasStatus_t refuse(cublasStatus_t status, const std::string& reason) {
  refusal().status = status;
  refusal().reason = reason;
  return status;
}

}  // namespace duet::emulation

using namespace duet::emulation;

struct cublasLtContext {
  int device;
};

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  const auto lock = lock_runtime();
  if (!handle) return refuse(CUBLAS_STATUS_INVALID_VALUE, "nowhere to put the handle");
  *handle = new cublasLtContext{current_device()};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion() {
  return CUBLAS_VERSION;
}
size_t cublasLtGetCudartVersion() {
  return CUDART_VERSION;
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "CUBLAS_STATUS_UNKNOWN";
  }
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
  const auto lock = lock_runtime();
  const char* name = cublasLtGetStatusName(status);
  if (status == CUBLAS_STATUS_SUCCESS || status != refusal().status) return name;
  refusal().shown = duet::text(name, ": ", refusal().reason);
  return refusal().shown.c_str();
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
  const auto lock = lock_runtime();
  return new_descriptor(layout, Layout{.type = type, .rows = rows, .columns = columns, .leading = leading});
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t bytes, cudaDataType type,
                                                 uint64_t rows, uint64_t columns, int64_t leading) {
  const Layout value{.type = type, .rows = rows, .columns = columns, .leading = leading};
  if (!layout || bytes < sizeof(value)) return refuse(CUBLAS_STATUS_INVALID_VALUE, "layout too small");
  std::memcpy(static_cast<void*>(layout), &value, sizeof(value));
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  const auto lock = lock_runtime();
  return delete_descriptor<Layout>(layout);
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                size_t bytes) {
  const auto lock = lock_runtime();
  auto* self = view<Layout>(layout);
  if (!self) return refuse(CUBLAS_STATUS_INVALID_VALUE, "not a matrix layout");
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
      return assign(self->type, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      return assign(self->order, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
      return assign(self->rows, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return assign(self->columns, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return assign(self->leading, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return assign(self->batches, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return assign(self->batch_stride, value, bytes);
    default:
      return refuse(CUBLAS_STATUS_NOT_SUPPORTED, duet::text("layout attribute ", static_cast<int>(attribute)));
  }
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  const auto lock = lock_runtime();
  return new_descriptor(description, Description{.compute = compute, .scale = scale});
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t description, size_t bytes,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
  const Description value{.compute = compute, .scale = scale};
  if (!description || bytes < sizeof(value)) return refuse(CUBLAS_STATUS_INVALID_VALUE, "description too small");
  std::memcpy(static_cast<void*>(description), &value, sizeof(value));
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  const auto lock = lock_runtime();
  return delete_descriptor<Description>(description);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t bytes) {
  const auto lock = lock_runtime();
  auto* self = view<Description>(description);
  if (!self) return refuse(CUBLAS_STATUS_INVALID_VALUE, "not a matmul description");
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
      return assign(self->compute, value, bytes);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
      return assign(self->scale, value, bytes);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
      return assign(self->pointer_mode, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return assign(self->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return assign(self->transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return assign(self->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return assign(self->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return assign(self->bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
      return assign(self->bias_batch_stride, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return assign(self->aux, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return assign(self->aux_leading, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE:
      return assign(self->aux_batch_stride, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE:
      return assign(self->aux_type, value, bytes);
    default:
      return refuse(CUBLAS_STATUS_NOT_SUPPORTED, duet::text("matmul attribute ", static_cast<int>(attribute)));
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  const auto lock = lock_runtime();
  return new_descriptor(preference, Preference{});
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference, size_t bytes) {
  const Preference value;
  if (!preference || bytes < sizeof(value)) return refuse(CUBLAS_STATUS_INVALID_VALUE, "preference too small");
  std::memcpy(static_cast<void*>(preference), &value, sizeof(value));
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  const auto lock = lock_runtime();
  return delete_descriptor<Preference>(preference);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  const auto lock = lock_runtime();
  auto* self = view<Preference>(preference);
  if (!self) return refuse(CUBLAS_STATUS_INVALID_VALUE, "not a matmul preference");
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return assign(self->workspace_bytes, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return assign(self->alignment[0], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return assign(self->alignment[1], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return assign(self->alignment[2], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return assign(self->alignment[3], value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
    case CUBLASLT_MATMUL_PREF_SEARCH_MODE:
    case CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT:
    case CUBLASLT_MATMUL_PREF_IMPL_MASK:
      return CUBLAS_STATUS_SUCCESS;
    default:
      return refuse(CUBLAS_STATUS_NOT_SUPPORTED, duet::text("preference ", static_cast<int>(attribute)));
  }
}
}
