#include "duet/cuda/gemm.h"

#include <map>
#include <mutex>
#include <tuple>

#include "duet/core/numerics.h"
#include "duet/cuda/check.h"
#include "duet/cuda/context.h"

namespace duet {
namespace cuda {
namespace {

template <class T>
constexpr cudaDataType_t data_type() {
  return std::is_same_v<T, bf16> ? CUDA_R_16BF : CUDA_R_32F;
}

// What cuBLASLt does to a product while it writes it, and the vector and the matrix that takes.
struct Epilogue {
  cublasLtEpilogue_t kind = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;  // added; or the bias gradient, which is written
  void* aux = nullptr;         // the value before GELU, which is written; as wide as the result
};

// One product as cuBLASLt sees it, in its column-major words: d (rows, columns) = a b.
struct Problem {
  int64_t rows, columns, inner;
  int64_t lda, ldb, ldd;
  bool transpose_a, transpose_b;
  cudaDataType_t in, out;
  int64_t batch, stride_a, stride_b, stride_d;
  int alignment;  // of the least aligned operand, in bytes, up to 256
  bool fast;      // TF32
  cublasLtEpilogue_t epilogue;
  int device;
  auto operator<=>(const Problem&) const = default;
};

// Descriptors and the algorithm that the heuristics chose, kept for the life of the process.
struct Plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
  cublasLtMatmulAlgo_t algorithm;
  bool usable = true;  // false when a fused epilogue is not to be had
};

template <class V>
void set(cublasLtMatmulDesc_t descriptor, cublasLtMatmulDescAttributes_t attribute, const V& value) {
  check_cublas(cublasLtMatmulDescSetAttribute(descriptor, attribute, &value, sizeof value),
               "cublasLtMatmulDescSetAttribute");
}

cublasLtMatrixLayout_t make_layout(cudaDataType_t type, int64_t rows, int64_t columns, int64_t ld, int64_t batch,
                                   int64_t stride) {
  cublasLtMatrixLayout_t layout = nullptr;
  check_cublas(
      cublasLtMatrixLayoutCreate(&layout, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), ld),
      "cublasLtMatrixLayoutCreate");
  if (batch > 1) {
    const auto count = static_cast<int32_t>(batch);
    check_cublas(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
                 "cublasLtMatrixLayoutSetAttribute");
    check_cublas(
        cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride),
        "cublasLtMatrixLayoutSetAttribute");
  }
  return layout;
}

// A descriptor holds the pointers of one call.
void set_pointers(cublasLtMatmulDesc_t operation, const Epilogue& epilogue) {
  if (epilogue.bias != nullptr) set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, epilogue.bias);
  if (epilogue.aux != nullptr) set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, epilogue.aux);
}

Plan make_plan(Context& context, const Problem& p, const Epilogue& epilogue) {
  Plan plan;
  const cublasComputeType_t compute = p.fast ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  check_cublas(cublasLtMatmulDescCreate(&plan.operation, compute, CUDA_R_32F), "cublasLtMatmulDescCreate");
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  plan.a =
      make_layout(p.in, p.transpose_a ? p.inner : p.rows, p.transpose_a ? p.rows : p.inner, p.lda, p.batch, p.stride_a);
  plan.b = make_layout(p.in, p.transpose_b ? p.columns : p.inner, p.transpose_b ? p.inner : p.columns, p.ldb, p.batch,
                       p.stride_b);
  plan.d = make_layout(p.out, p.rows, p.columns, p.ldd, p.batch, p.stride_d);
  if (p.epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
    set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, p.epilogue);
    set_pointers(plan.operation, epilogue);  // the heuristics may refuse an epilogue without a place
    if (epilogue.aux != nullptr) set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.ldd);
  }
  cublasLtMatmulPreference_t preference = nullptr;
  check_cublas(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check_cublas(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value),
                 "cublasLtMatmulPreferenceSetAttribute");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, context.workspace_bytes);
  const auto alignment = static_cast<uint32_t>(p.alignment);
  for (const auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                               CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    prefer(attribute, alignment);
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(context.blas, plan.operation, plan.a, plan.b, plan.d,
                                                               plan.d, preference, 1, &result, &found);
  cublasLtMatmulPreferenceDestroy(preference);
  plan.usable = status == CUBLAS_STATUS_SUCCESS && found > 0;
  check(plan.usable || p.epilogue != CUBLASLT_EPILOGUE_DEFAULT, "gemm", "cuBLASLt has no algorithm for (", p.columns,
        ", ", p.inner, ") by (", p.inner, ", ", p.rows, "), batch ", p.batch, ": ", cublasLtGetStatusString(status));
  plan.algorithm = result.algo;
  return plan;
}

// Plans of the process. The lock also covers a call's use of a plan, whose descriptor holds that call's pointers.
std::mutex plans_mutex;

Plan& plan_for(Context& context, const Problem& problem, const Epilogue& epilogue) {
  static std::map<Problem, Plan> plans;
  const auto it = plans.find(problem);
  if (it != plans.end()) return it->second;
  return plans.emplace(problem, make_plan(context, problem, epilogue)).first->second;
}

template <class... P>
int alignment_of(const P*... pointers) {
  const auto bits = (reinterpret_cast<uintptr_t>(pointers) | ... | 256);
  return static_cast<int>(bits & -bits);
}

// Row-major c = a b is column-major c^T = b^T a^T over the same memory, so the operands change places. False, and
// nothing done, when the epilogue is not to be had for this product.
template <class T, class Out>
bool multiply(CudaContext which, int64_t batch, int64_t m, int64_t n, int64_t k, float alpha, ops::Matrix<const T> a,
              int64_t stride_a, ops::Matrix<const T> b, int64_t stride_b, float beta, ops::Matrix<Out> c,
              int64_t stride_c, const Epilogue& epilogue = {}) {
  Context& context = context_of(which);
  const Problem problem{.rows = n,
                        .columns = m,
                        .inner = k,
                        .lda = b.stride,
                        .ldb = a.stride,
                        .ldd = c.stride,
                        .transpose_a = b.transposed,
                        .transpose_b = a.transposed,
                        .in = data_type<T>(),
                        .out = data_type<Out>(),
                        .batch = batch,
                        .stride_a = stride_b,
                        .stride_b = stride_a,
                        .stride_d = stride_c,
                        .alignment = alignment_of(a.data, b.data, c.data, epilogue.bias, epilogue.aux),
                        .fast = numerics().tf32 && std::is_same_v<T, float>,
                        .epilogue = epilogue.kind,
                        .device = which.index};
  const std::lock_guard lock(plans_mutex);
  const Plan& plan = plan_for(context, problem, epilogue);
  if (!plan.usable) return false;
  set_pointers(plan.operation, epilogue);
  const Timed timed(context, "matmul");
  check_cublas(
      cublasLtMatmul(context.blas, plan.operation, &alpha, b.data, plan.a, a.data, plan.b, &beta, c.data, plan.d,
                     c.data, plan.d, &plan.algorithm, context.workspace, context.workspace_bytes, context.stream),
      "cublasLtMatmul");
  return true;
}

}  // namespace

template <class T>
bool gemm_add_bias(CudaContext context, int64_t m, int64_t out, int64_t in, const T* x, const T* w, const T* bias,
                   T* z) {
  if (m == 0 || out == 0) return true;
  if (bias != nullptr && in > 0 &&
      multiply<T, T>(context, 1, m, out, in, 1.0f, {x, in}, 0, {w, in, true}, 0, 0.0f, {z, out}, 0,
                     {CUBLASLT_EPILOGUE_BIAS, bias}))
    return true;
  ops::gemm<T>(context, m, out, in, 1.0f, {x, in}, {w, in, true}, 0.0f, {z, out});
  return false;
}

template <class T>
bool gemm_add_bias_gelu(CudaContext context, int64_t m, int64_t out, int64_t in, const T* x, const T* w, const T* bias,
                        T* z, T* y) {
  // cuBLASLt demands whole groups of 8 of the matrix of values before GELU.
  if (m == 0 || out == 0 || in == 0 || out % 8 != 0) return false;
  return multiply<T, T>(context, 1, m, out, in, 1.0f, {x, in}, 0, {w, in, true}, 0, 0.0f, {y, out}, 0,
                        {CUBLASLT_EPILOGUE_GELU_AUX_BIAS, bias, z});
}

template <class T>
bool gemm_sum_bias(CudaContext context, int64_t m, int64_t out, int64_t in, const T* dz, const T* x, Wide<T>* dw,
                   Wide<T>* dbias) {
  if (m == 0 || out == 0 || in == 0) return false;
  return multiply<T, Wide<T>>(context, 1, out, in, m, 1.0f, {dz, out, true}, 0, {x, in}, 0, 0.0f, {dw, in}, 0,
                              {CUBLASLT_EPILOGUE_BGRADB, dbias});
}

#define DUET_INSTANTIATE(T)                                                                                 \
  template bool gemm_add_bias<T>(CudaContext, int64_t, int64_t, int64_t, const T*, const T*, const T*, T*); \
  template bool gemm_sum_bias<T>(CudaContext, int64_t, int64_t, int64_t, const T*, const T*, Wide<T>*, Wide<T>*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(bf16)
#undef DUET_INSTANTIATE
// In float32 the tanh of cuBLASLt's kernel is not known to be exact enough.
template bool gemm_add_bias_gelu<bf16>(CudaContext, int64_t, int64_t, int64_t, const bf16*, const bf16*, const bf16*,
                                       bf16*, bf16*);

}  // namespace cuda

namespace ops {

template <class T, class Out>
void gemm(CudaContext context, int64_t m, int64_t n, int64_t k, Wide<T> alpha, Matrix<const T> a, Matrix<const T> b,
          Wide<T> beta, Matrix<Out> c) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    // An empty product still has to scale c.
    if (beta == 1) return;
    check(beta == 0 && c.stride == n, "gemm", "an empty product on the GPU only writes a dense c");
    return zero_bytes(context, c.data, static_cast<size_t>(m * n) * sizeof(Out));
  }
  cuda::multiply<T, Out>(context, 1, m, n, k, alpha, a, 0, b, 0, beta, c, 0);
}

template <class T>
void gemm_batched(CudaContext context, int64_t batch, int64_t m, int64_t n, int64_t k, const T* a, bool transpose_a,
                  const T* b, bool transpose_b, T* c) {
  if (batch == 0 || m == 0 || n == 0) return;
  if (k == 0) return zero_bytes(context, c, static_cast<size_t>(batch * m * n) * sizeof(T));
  cuda::multiply<T, T>(context, batch, m, n, k, 1.0f, {a, transpose_a ? m : k, transpose_a}, m * k,
                       {b, transpose_b ? k : n, transpose_b}, k * n, 0.0f, {c, n}, m * n);
}

#define DUET_INSTANTIATE(T, Out)                                                                                \
  template void gemm<T, Out>(CudaContext, int64_t, int64_t, int64_t, Wide<T>, Matrix<const T>, Matrix<const T>, \
                             Wide<T>, Matrix<Out>);
DUET_INSTANTIATE(float, float)
DUET_INSTANTIATE(bf16, bf16)
DUET_INSTANTIATE(bf16, float)
template void gemm_batched<float>(CudaContext, int64_t, int64_t, int64_t, int64_t, const float*, bool, const float*,
                                  bool, float*);
template void gemm_batched<bf16>(CudaContext, int64_t, int64_t, int64_t, int64_t, const bf16*, bool, const bf16*, bool,
                                 bf16*);

}  // namespace ops
}  // namespace duet
