// cuBLASLt's functions as the backend calls them, loaded with the first call: the library takes 150 MB of memory and a
// tenth of a second as soon as it is there, which commands that compute on the CPU need not pay. The emulation has its
// own in place of this file.
#include <cublasLt.h>
#include <dlfcn.h>

#include "duet/core/error.h"
#include "duet/cuda/cublaslt_library.h"

#define DUET_TEXT_OF(x) #x
#define DUET_TEXT(x) DUET_TEXT_OF(x)

namespace duet::cuda {

void* open_library(std::initializer_list<const char*> names) {
  std::string reasons;
  for (const char* name : names) {
    if (void* const found = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return found;
    reasons += text(reasons.empty() ? "" : "; ", dlerror());
  }
  fail("cublas", "cuBLASLt cannot be loaded: ", reasons,
       "; install CUDA's libcublas, or add its folder to LD_LIBRARY_PATH, or use --device cpu");
}

namespace {

void* library() {
  // By its name, and then where the build found it, for a toolkit that the loader does not look into.
  static void* const handle = open_library({"libcublasLt.so." DUET_TEXT(CUBLAS_VER_MAJOR), DUET_CUBLASLT_LIBRARY});
  return handle;
}

// The library's function of this name and, as the compiler checks, of this type.
template <class F>
F* function(const char* name) {
  void* const found = dlsym(library(), name);
  check(found != nullptr, "cublas", "the cuBLASLt that was loaded has no ", name, "; install the version of CUDA ",
        CUBLAS_VER_MAJOR, " that duet was built for, or a newer one");
  return reinterpret_cast<F*>(found);
}

}  // namespace
}  // namespace duet::cuda

#define DUET_FORWARD(name, ...)                                                   \
  static auto* const name##_loaded = duet::cuda::function<decltype(name)>(#name); \
  return name##_loaded(__VA_ARGS__)

extern "C" {

size_t cublasLtGetVersion() {
  DUET_FORWARD(cublasLtGetVersion);
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  DUET_FORWARD(cublasLtGetStatusString, status);
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  DUET_FORWARD(cublasLtCreate, handle);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute, cudaDataType_t scale) {
  DUET_FORWARD(cublasLtMatmulDescCreate, desc, compute, scale);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  DUET_FORWARD(cublasLtMatmulDescSetAttribute, desc, attribute, value, bytes);
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
  DUET_FORWARD(cublasLtMatrixLayoutCreate, layout, type, rows, columns, leading);
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                size_t bytes) {
  DUET_FORWARD(cublasLtMatrixLayoutSetAttribute, layout, attribute, value, bytes);
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  DUET_FORWARD(cublasLtMatmulPreferenceCreate, preference);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  DUET_FORWARD(cublasLtMatmulPreferenceDestroy, preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  DUET_FORWARD(cublasLtMatmulPreferenceSetAttribute, preference, attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* found) {
  DUET_FORWARD(cublasLtMatmulAlgoGetHeuristic, handle, desc, a, b, c, d, preference, requested, results, found);
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  DUET_FORWARD(cublasLtMatmul, handle, desc, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout, algorithm,
               workspace, workspace_bytes, stream);
}
}
