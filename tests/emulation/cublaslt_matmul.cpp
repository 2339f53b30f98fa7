// cublasLtMatmul, computed by the CPU's gemm. Matrices are column-major unless their ORDER says otherwise:
//   D (m, n) = epilogue(alpha op(A) (m, k) op(B) (k, n) + beta C (m, n))
// Formulas and demands follow the cuBLAS 13 manual and the comments of cublasLt.h.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "duet/core/dtype.h"
#include "duet/core/error.h"
#include "duet/ops/gemm.h"
#include "duet/tests/emulation/arena.h"
#include "duet/tests/emulation/cublaslt_product.h"
#include "duet/tests/emulation/runtime.h"

namespace duet::emulation {

namespace {

constexpr uint64_t kWorkspaceBytes = 64 << 10;  // asked for when the preference allows it

const std::byte* batch_of(const void* data, const Layout& x, int batch) {
  return static_cast<const std::byte*>(data) + batch * x.batch_stride * static_cast<int64_t>(bytes_of(x.type));
}

// `lines` lines of `length` elements, `leading` elements apart.
bool access_lines(const void* data, int type, int64_t lines, int64_t length, int64_t leading, bool write) {
  const auto size = static_cast<int64_t>(bytes_of(type));
  if (length == leading) return access_range(data, static_cast<size_t>(lines * length * size), write);
  for (int64_t i = 0; i < lines; i++) {
    const auto* line = static_cast<const std::byte*>(data) + i * leading * size;
    if (!access_range(line, static_cast<size_t>(length * size), write)) return false;
  }
  return true;
}

bool access_matrix(const void* data, const Layout& x, bool write) {
  const auto rows = static_cast<int64_t>(x.rows), columns = static_cast<int64_t>(x.columns);
  const bool by_column = x.order == CUBLASLT_ORDER_COL;
  return access_lines(data, x.type, by_column ? columns : rows, by_column ? rows : columns, x.leading, write);
}

float load(const void* data, int type, int64_t i) {
  if (type == CUDA_R_32F) return static_cast<const float*>(data)[i];
  return static_cast<float>(static_cast<const bf16*>(data)[i]);
}
void store(void* data, int type, int64_t i, float value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(data)[i] = value;
  } else {
    static_cast<bf16*>(data)[i] = bf16(value);
  }
}

int64_t index(const Layout& x, int64_t row, int64_t column) {
  return x.order == CUBLASLT_ORDER_COL ? column * x.leading + row : row * x.leading + column;
}

// TF32 keeps 10 bits of the fraction.
float round_to_tf32(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if ((bits & 0x7f800000u) == 0x7f800000u) return x;
  bits = (bits + 0xfffu + (bits >> 13 & 1)) & ~0x1fffu;
  std::memcpy(&x, &bits, 4);
  return x;
}

// An operand as packed f32, its lines one after another.
std::vector<float> unpack(const void* data, const Layout& x, bool tf32) {
  const auto lines = static_cast<int64_t>(x.order == CUBLASLT_ORDER_COL ? x.columns : x.rows);
  const auto length = static_cast<int64_t>(x.order == CUBLASLT_ORDER_COL ? x.rows : x.columns);
  std::vector<float> result(static_cast<size_t>(lines * length));
  for (int64_t i = 0; i < lines; i++) {
    for (int64_t j = 0; j < length; j++) {
      const float value = load(data, x.type, i * x.leading + j);
      result[static_cast<size_t>(i * length + j)] = tf32 ? round_to_tf32(value) : value;
    }
  }
  return result;
}

// The tanh form that cuBLAS uses: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
constexpr float kRoot = 0.7978845608f, kCubic = 0.044715f;
float gelu(float x) {
  return 0.5f * x * (1 + std::tanh(kRoot * (x + kCubic * x * x * x)));
}
float gelu_derivative(float x) {
  const float t = std::tanh(kRoot * (x + kCubic * x * x * x));
  return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * kRoot * (1 + 3 * kCubic * x * x);
}

// product: (n, m) row-major, that is (m, n) column-major; becomes D of one batch.
bool finish(const Product& p, int batch, std::vector<float>& product, const std::vector<float>& a,
            const std::vector<float>& b) {
  const Description& o = p.operation;
  const uint32_t e = o.epilogue;
  const void* c = batch_of(p.c_data, p.c, batch);
  void* d = const_cast<std::byte*>(batch_of(p.d_data, p.d, batch));
  auto* aux = static_cast<std::byte*>(o.aux) + batch * o.aux_batch_stride * static_cast<int64_t>(bytes_of(p.d.type));
  const size_t bias_length = static_cast<size_t>(e == CUBLASLT_EPILOGUE_BGRADB ? p.n : p.m);
  std::vector<float> gradient(uses_bias_pointer(e) && !adds_bias(e) ? bias_length : 0);
  if (adds_bias(e) && !access_range(o.bias, bias_length * bytes_of(p.d.type), false)) return false;
  if (is_dgelu(e) && !access_lines(aux, p.d.type, p.n, p.m, o.aux_leading, false)) return false;
  if (p.beta != 0 && !access_matrix(c, p.c, false)) return false;
  for (int64_t j = 0; j < p.n; j++) {
    for (int64_t i = 0; i < p.m; i++) {
      float& value = product[static_cast<size_t>(j * p.m + i)];
      if (p.beta != 0) value += p.beta * load(c, p.c.type, index(p.c, i, j));
      if (adds_bias(e)) value += load(o.bias, p.d.type, i);
      if (is_dgelu(e)) value *= gelu_derivative(load(aux, p.d.type, j * o.aux_leading + i));
      if (has(e, 16) && is_dgelu(e)) gradient[static_cast<size_t>(i)] += value;
    }
  }
  if (stores_aux(e)) {
    if (!access_lines(aux, p.d.type, p.n, p.m, o.aux_leading, true)) return false;
    for (int64_t j = 0; j < p.n; j++) {
      for (int64_t i = 0; i < p.m; i++) {
        store(aux, p.d.type, j * o.aux_leading + i, product[static_cast<size_t>(j * p.m + i)]);
      }
    }
  }
  if (!access_matrix(d, p.d, true)) return false;
  for (int64_t j = 0; j < p.n; j++) {
    for (int64_t i = 0; i < p.m; i++) {
      const float value = product[static_cast<size_t>(j * p.m + i)];
      store(d, p.d.type, index(p.d, i, j), is_gelu(e) ? gelu(value) : value);
    }
  }
  if (e == CUBLASLT_EPILOGUE_BGRADA || e == CUBLASLT_EPILOGUE_BGRADB) {
    const bool from_a = e == CUBLASLT_EPILOGUE_BGRADA;
    const auto& operand = from_a ? a : b;
    // Stored column-major: A is (m, k) and B (k, n), or the other way round when transposed. Sums run over k.
    const bool keeps_rows = from_a != ((from_a ? o.transpose_a : o.transpose_b) != CUBLAS_OP_N);
    const size_t rows = keeps_rows ? bias_length : static_cast<size_t>(p.k);
    for (size_t i = 0; i < operand.size(); i++) gradient[keeps_rows ? i % rows : i / rows] += operand[i];
  }
  if (gradient.empty()) return true;
  if (!access_range(o.bias, bias_length * bytes_of(p.d.type), true)) return false;
  for (size_t i = 0; i < bias_length; i++) store(o.bias, p.d.type, static_cast<int64_t>(i), gradient[i]);
  return true;
}

void run_product(Product p) {
  const OpenMemory open;
  if (p.device_alpha) {
    if (!access_range(p.device_alpha, 4, false) || !access_range(p.device_beta, 4, false)) return;
    p.alpha = *p.device_alpha;
    p.beta = *p.device_beta;
  }
  if (p.workspace_bytes > 0) {
    // Two products that may run at the same time must not share a workspace: a write shows it.
    if (!access_range(p.workspace, p.workspace_bytes, true)) return;
    std::memset(p.workspace, 0xff, p.workspace_bytes);
  }
  const bool tf32 = p.operation.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  const bool ta = p.operation.transpose_a != CUBLAS_OP_N, tb = p.operation.transpose_b != CUBLAS_OP_N;
  std::vector<float> product(static_cast<size_t>(p.m * p.n));
  for (int batch = 0; batch < p.d.batches; batch++) {
    const void* a_data = batch_of(p.a_data, p.a, batch);
    const void* b_data = batch_of(p.b_data, p.b, batch);
    if (!access_matrix(a_data, p.a, false) || !access_matrix(b_data, p.b, false)) return;
    const std::vector<float> a = unpack(a_data, p.a, tf32), b = unpack(b_data, p.b, tf32);
    // Column-major (m, n) is row-major (n, m), so the product is taken transposed: D' = op(B)' op(A)'.
    const auto operand = [](const std::vector<float>& data, const Layout& x, bool transposed) {
      const bool by_column = x.order == CUBLASLT_ORDER_COL;
      return ops::Matrix<const float>{data.data(), static_cast<int64_t>(by_column ? x.rows : x.columns),
                                      transposed == by_column};
    };
    ops::gemm<float>(CpuContext{}, p.n, p.m, p.k, p.alpha, operand(b, p.b, tb), operand(a, p.a, ta), 0.0f,
                     ops::Matrix<float>{product.data(), p.m});
    if (!finish(p, batch, product, a, b)) return;
  }
}

bool without_epilogues() {
  static const bool result = std::getenv("DUET_EMULATED_NO_EPILOGUES") != nullptr;
  return result;
}

uint64_t problem_hash(const Product& p) {
  uint64_t hash = 1469598103934665603u;
  const auto add = [&](uint64_t value) { hash = (hash ^ value) * 1099511628211u; };
  for (const Layout* x : {&p.a, &p.b, &p.c, &p.d}) {
    add(static_cast<uint64_t>(x->type));
    add(static_cast<uint64_t>(x->order));
    add(x->rows);
    add(x->columns);
    add(static_cast<uint64_t>(x->leading));
    add(static_cast<uint64_t>(x->batches));
  }
  add(static_cast<uint64_t>(p.operation.compute));
  add(static_cast<uint64_t>(p.operation.transpose_a));
  add(static_cast<uint64_t>(p.operation.transpose_b));
  add(p.operation.epilogue);
  return hash;
}

cublasStatus_t read_descriptors(Product& p, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                                cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d) {
  const auto* o = view<Description>(operation);
  const Layout* layouts[] = {view<Layout>(a), view<Layout>(b), view<Layout>(c), view<Layout>(d)};
  if (!o || !layouts[0] || !layouts[1] || !layouts[2] || !layouts[3]) return invalid("a descriptor is missing");
  p.operation = *o;
  p.a = *layouts[0];
  p.b = *layouts[1];
  p.c = *layouts[2];
  p.d = *layouts[3];
  return validate(p);
}

}  // namespace
}  // namespace duet::emulation

using namespace duet::emulation;

extern "C" {

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* found) {
  const auto lock = lock_runtime();
  if (!handle) return refuse(CUBLAS_STATUS_NOT_INITIALIZED, "no handle");
  const auto* wish = view<Preference>(preference);
  if (!wish || !results || !found || requested < 1) return invalid("an argument is missing");
  *found = 0;
  Product p;
  if (const auto status = read_descriptors(p, operation, a, b, c, d); status != CUBLAS_STATUS_SUCCESS) return status;
  if (p.operation.epilogue != CUBLASLT_EPILOGUE_DEFAULT && without_epilogues())
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "epilogues are refused, as DUET_EMULATED_NO_EPILOGUES=1 asks");
  Algorithm algorithm;
  for (int i = 0; i < 4; i++) algorithm.alignment[i] = std::min(wish->alignment[i], 16u);
  if (wish->workspace_bytes >= kWorkspaceBytes) algorithm.workspace_bytes = kWorkspaceBytes;
  algorithm.problem = problem_hash(p);
  results[0] = {};
  std::memcpy(static_cast<void*>(&results[0].algo), &algorithm, sizeof(algorithm));
  results[0].workspaceSize = algorithm.workspace_bytes;
  results[0].state = CUBLAS_STATUS_SUCCESS;
  results[0].wavesCount = 1;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream_handle) {
  const auto lock = lock_runtime();
  if (!handle) return refuse(CUBLAS_STATUS_NOT_INITIALIZED, "no handle");
  Product p;
  if (const auto status = read_descriptors(p, operation, a_layout, b_layout, c_layout, d_layout);
      status != CUBLAS_STATUS_SUCCESS) {
    return status;
  }
  if (!alpha || !beta || !a || !b || !c || !d) return invalid("a pointer is null");
  p.a_data = a;
  p.b_data = b;
  p.c_data = c;
  p.d_data = d;
  if (p.operation.pointer_mode == CUBLASLT_POINTER_MODE_HOST) {
    if (in_arena(reinterpret_cast<uintptr_t>(alpha))) return invalid("alpha on the device in pointer mode HOST");
    p.alpha = *static_cast<const float*>(alpha);
    p.beta = *static_cast<const float*>(beta);
  } else if (p.operation.pointer_mode == CUBLASLT_POINTER_MODE_DEVICE) {
    p.device_alpha = static_cast<const float*>(alpha);
    p.device_beta = static_cast<const float*>(beta);
  } else {
    return unsupported("pointer modes other than HOST and DEVICE");
  }
  Algorithm algorithm;
  if (algo) {
    const auto* given = view<Algorithm>(algo);
    if (!given) return invalid("an algorithm that no heuristic returned");
    algorithm = *given;
    if (algorithm.problem != problem_hash(p)) return invalid("the algorithm was chosen for another problem");
  }
  const void* pointers[] = {a, b, c, d};
  const Layout* layouts[] = {&p.a, &p.b, &p.c, &p.d};
  for (int i = 0; i < 4; i++) {
    const size_t alignment = std::max<size_t>(bytes_of(layouts[i]->type), algorithm.alignment[i]);
    if (reinterpret_cast<uintptr_t>(pointers[i]) % alignment != 0) {
      return invalid(duet::text("operand \"", "ABCD"[i], "\" at ", pointers[i], " is not a multiple of ", alignment,
                                " bytes, as the algorithm demands (see CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_*)"));
    }
  }
  if (algorithm.workspace_bytes > 0 && (!workspace || workspace_bytes < algorithm.workspace_bytes)) {
    return invalid(
        duet::text("a workspace of ", workspace_bytes, " bytes, the algorithm needs ", algorithm.workspace_bytes));
  }
  if (workspace && reinterpret_cast<uintptr_t>(workspace) % 16 != 0) return invalid("the workspace is misaligned");
  if ((a == d || b == d) || (c == d && (p.c.leading != p.d.leading || p.c.batch_stride != p.d.batch_stride))) {
    return invalid("D overlaps an operand");
  }
  p.workspace = workspace;
  p.workspace_bytes = algorithm.workspace_bytes;
  CUstream_st* stream = resolve(stream_handle);
  if (!stream) return refuse(CUBLAS_STATUS_EXECUTION_FAILED, "unknown stream");
  const cudaError_t error = submit(*stream, {Node::Kind::matmul, "cublasLtMatmul", [p] { run_product(p); }});
  if (error != cudaSuccess) return refuse(CUBLAS_STATUS_EXECUTION_FAILED, cudaGetErrorString(error));
  return CUBLAS_STATUS_SUCCESS;
}
}
