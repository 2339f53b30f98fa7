// The emulated cublasLt against a naive loop, and what it must refuse.
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <gtest/gtest.h>

#include <cmath>

#include "duet/tests/emulation/device_vector.h"

namespace duet::emulation {

namespace {

// A column-major (or row-major) matrix for each batch, with room between its lines.
struct Operand {
  int64_t rows, columns, leading, stride;
  int batches;
  cudaDataType type;
  bool row_major = false;
  std::vector<float> values;
  DeviceVector<std::byte> device;

  Operand(int64_t r, int64_t c, int b, cudaDataType t, int padding, int seed, bool by_row = false)
      : rows(r),
        columns(c),
        leading((by_row ? c : r) + padding),
        stride(leading * (by_row ? r : c) + 8),
        batches(b),
        type(t),
        row_major(by_row),
        values(static_cast<size_t>(stride * b)),
        device(values.size() * element()) {
    uint32_t state = static_cast<uint32_t>(seed) * 2654435761u + 1;
    for (float& value : values) {
      state = state * 1664525u + 1013904223u;
      value = __bfloat162float(__float2bfloat16_rn(static_cast<float>(state >> 8) / (1 << 23) - 1));
    }
    upload();
  }
  size_t element() const { return type == CUDA_R_32F ? 4 : 2; }
  void upload() {
    if (type == CUDA_R_32F) {
      cudaMemcpy(device.get(), values.data(), values.size() * 4, cudaMemcpyHostToDevice);
    } else {
      std::vector<__nv_bfloat16> narrow(values.size());
      for (size_t i = 0; i < values.size(); i++) narrow[i] = __float2bfloat16_rn(values[i]);
      cudaMemcpy(device.get(), narrow.data(), narrow.size() * 2, cudaMemcpyHostToDevice);
    }
  }
  std::vector<float> download() const {
    std::vector<float> result(values.size());
    if (type == CUDA_R_32F) {
      cudaMemcpy(result.data(), device.get(), result.size() * 4, cudaMemcpyDeviceToHost);
    } else {
      std::vector<__nv_bfloat16> narrow(result.size());
      cudaMemcpy(narrow.data(), device.get(), narrow.size() * 2, cudaMemcpyDeviceToHost);
      for (size_t i = 0; i < narrow.size(); i++) result[i] = __bfloat162float(narrow[i]);
    }
    return result;
  }
  size_t index(int b, int64_t r, int64_t c) const {
    return static_cast<size_t>(b * stride + (row_major ? r * leading + c : c * leading + r));
  }
  double at(int b, int64_t r, int64_t c) const { return values[index(b, r, c)]; }
};

struct Case {
  int64_t m = 24, n = 7, k = 19;
  bool transpose_a = false, transpose_b = false;
  int batches = 1;
  cudaDataType in = CUDA_R_32F, out = CUDA_R_32F;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  float alpha = 1, beta = 0;
  bool row_major = false, device_scalars = false;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
};

class Layouts {
 public:
  explicit Layouts(const Operand& x) {
    cublasLtMatrixLayoutCreate(&layout_, x.type, static_cast<uint64_t>(x.rows), static_cast<uint64_t>(x.columns),
                               x.leading);
    const int32_t order = x.row_major ? CUBLASLT_ORDER_ROW : CUBLASLT_ORDER_COL;
    const int32_t batches = x.batches;
    cublasLtMatrixLayoutSetAttribute(layout_, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof(order));
    cublasLtMatrixLayoutSetAttribute(layout_, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batches, sizeof(batches));
    cublasLtMatrixLayoutSetAttribute(layout_, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &x.stride, sizeof(x.stride));
  }
  ~Layouts() { cublasLtMatrixLayoutDestroy(layout_); }
  Layouts(const Layouts&) = delete;
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

// A matmul description and the calls around it.
struct Matmul {
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t description = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  explicit Matmul(cublasComputeType_t compute = CUBLAS_COMPUTE_32F) {
    EXPECT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulDescCreate(&description, compute, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulPreferenceCreate(&preference), CUBLAS_STATUS_SUCCESS);
  }
  ~Matmul() {
    cublasLtMatmulPreferenceDestroy(preference);
    cublasLtMatmulDescDestroy(description);
    cublasLtDestroy(handle);
  }
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    EXPECT_EQ(cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof(value)), CUBLAS_STATUS_SUCCESS);
  }
};

double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double gelu_slope(double x) {
  return (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5;
}

void run(const Case& t) {
  SCOPED_TRACE(::testing::Message() << "transposed " << t.transpose_a << t.transpose_b << " batches " << t.batches
                                    << " types " << t.in << " " << t.out << " epilogue " << t.epilogue << " row-major "
                                    << t.row_major);
  const Operand a(t.transpose_a ? t.k : t.m, t.transpose_a ? t.m : t.k, t.batches, t.in, 3, 1, t.row_major);
  const Operand b(t.transpose_b ? t.n : t.k, t.transpose_b ? t.k : t.n, t.batches, t.in, 1, 2);
  const Operand c(t.m, t.n, t.batches, t.out, 2, 3, t.row_major), aux(t.m, t.n, t.batches, t.out, 8, 5);
  Operand d(t.m, t.n, t.batches, t.out, 5, 4, t.row_major);
  const Operand bias(std::max(t.m, t.n), 1, 1, t.out, 0, 6);
  Matmul matmul(t.compute);
  matmul.set(CUBLASLT_MATMUL_DESC_TRANSA, static_cast<int32_t>(t.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N));
  matmul.set(CUBLASLT_MATMUL_DESC_TRANSB, static_cast<int32_t>(t.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N));
  const uint32_t e = t.epilogue;
  matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE, e);
  const bool adds_bias = (e & CUBLASLT_EPILOGUE_BIAS) != 0, has_gelu = (e & 32) != 0, has_dgelu = (e & 64) != 0;
  const bool gradient = (e & (16 | 256 | 512)) != 0, has_aux = (e & 128) != 0;
  if (adds_bias || gradient) matmul.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<void*>(bias.device.get()));
  if (has_aux) {
    matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, static_cast<void*>(aux.device.get()));
    matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, aux.leading);
    matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, aux.stride);
  }
  const DeviceVector<float> scalars(std::vector<float>{t.alpha, t.beta});
  if (t.device_scalars)
    matmul.set(CUBLASLT_MATMUL_DESC_POINTER_MODE, static_cast<int32_t>(CUBLASLT_POINTER_MODE_DEVICE));
  const Layouts la(a), lb(b), lc(c), ld(d);
  const uint64_t workspace_bytes = 1 << 20;
  const DeviceVector<std::byte> workspace(workspace_bytes);
  cublasLtMatmulPreferenceSetAttribute(matmul.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                                       8);
  cublasLtMatmulHeuristicResult_t found;
  int count = 0;
  ASSERT_EQ(cublasLtMatmulAlgoGetHeuristic(matmul.handle, matmul.description, la.get(), lb.get(), lc.get(), ld.get(),
                                           matmul.preference, 1, &found, &count),
            CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(count, 1);
  const float* alpha = t.device_scalars ? scalars.get() : &t.alpha;
  const float* beta = t.device_scalars ? scalars.get() + 1 : &t.beta;
  const auto status = cublasLtMatmul(matmul.handle, matmul.description, alpha, a.device.get(), la.get(), b.device.get(),
                                     lb.get(), beta, c.device.get(), lc.get(), d.device.get(), ld.get(), &found.algo,
                                     workspace.get(), workspace_bytes, nullptr);
  ASSERT_EQ(status, CUBLAS_STATUS_SUCCESS) << cublasLtGetStatusString(status);
  ASSERT_EQ(take_error(), "");

  const std::vector<float> got = d.download(), got_aux = aux.download(), got_bias = bias.download();
  const double tolerance = t.out == CUDA_R_16BF ? 0.03 : t.compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? 0.01 : 1e-4;
  std::vector<double> sums(static_cast<size_t>(bias.rows));
  for (int batch = 0; batch < t.batches; batch++) {
    for (int64_t i = 0; i < t.m; i++) {
      for (int64_t j = 0; j < t.n; j++) {
        double value = 0;
        for (int64_t l = 0; l < t.k; l++) {
          value += (t.transpose_a ? a.at(batch, l, i) : a.at(batch, i, l)) *
                   (t.transpose_b ? b.at(batch, j, l) : b.at(batch, l, j));
        }
        value = t.alpha * value + t.beta * c.at(batch, i, j);
        if (adds_bias) value += bias.at(0, i, 0);
        if (has_dgelu) value *= gelu_slope(aux.at(batch, i, j));
        if (e & 16) sums[static_cast<size_t>(i)] += value;
        if (has_gelu && has_aux) {
          ASSERT_NEAR(got_aux[aux.index(batch, i, j)], value, tolerance * (1 + std::abs(value)));
        }
        if (has_gelu) value = gelu(value);
        ASSERT_NEAR(got[d.index(batch, i, j)], value, tolerance * (1 + std::abs(value))) << i << " " << j;
      }
    }
  }
  for (int64_t l = 0; l < t.k; l++) {
    for (int64_t i = 0; i < t.m && e == CUBLASLT_EPILOGUE_BGRADA; i++)
      sums[i] += t.transpose_a ? a.at(0, l, i) : a.at(0, i, l);
    for (int64_t j = 0; j < t.n && e == CUBLASLT_EPILOGUE_BGRADB; j++)
      sums[j] += t.transpose_b ? b.at(0, j, l) : b.at(0, l, j);
  }
  for (int64_t i = 0; gradient && i < (e == CUBLASLT_EPILOGUE_BGRADB ? t.n : t.m); i++) {
    EXPECT_NEAR(got_bias[i], sums[i], tolerance * (1 + std::abs(sums[i])));
  }
  // What lies between the columns is untouched.
  EXPECT_EQ(got[static_cast<size_t>(t.row_major ? t.n : t.m)], d.values[static_cast<size_t>(t.row_major ? t.n : t.m)]);
}

TEST(EmulatedCublasLt, TransposesBatchesTypes) {
  for (bool ta : {false, true}) {
    for (bool tb : {false, true}) {
      for (int batches : {1, 3}) {
        run({.transpose_a = ta, .transpose_b = tb, .batches = batches});
        run({.transpose_a = ta, .transpose_b = tb, .batches = batches, .in = CUDA_R_16BF, .out = CUDA_R_16BF});
        run({.transpose_a = ta, .transpose_b = tb, .batches = batches, .in = CUDA_R_16BF, .alpha = 0.5f, .beta = 2});
        run({.transpose_a = ta, .transpose_b = tb, .batches = batches, .alpha = -1, .beta = 1, .row_major = true});
      }
    }
  }
  run({.alpha = 2, .beta = 3, .device_scalars = true});
  run({.compute = CUBLAS_COMPUTE_32F_FAST_TF32});
}

TEST(EmulatedCublasLt, Epilogues) {
  for (bool transposed : {false, true}) {
    for (cublasLtEpilogue_t e : {CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_GELU_BIAS,
                                 CUBLASLT_EPILOGUE_GELU_AUX, CUBLASLT_EPILOGUE_GELU_AUX_BIAS, CUBLASLT_EPILOGUE_DGELU,
                                 CUBLASLT_EPILOGUE_DGELU_BGRAD, CUBLASLT_EPILOGUE_BGRADA, CUBLASLT_EPILOGUE_BGRADB}) {
      run({.transpose_a = transposed, .epilogue = e});
      run({.transpose_b = transposed, .in = CUDA_R_16BF, .out = CUDA_R_16BF, .epilogue = e, .alpha = 0.5f});
    }
    run({.batches = 2, .epilogue = CUBLASLT_EPILOGUE_GELU_AUX_BIAS, .beta = 1});
  }
}

class CublasLtRefusals : public ::testing::Test {
 protected:
  CublasLtRefusals() { set_deferred(false); }
  // The status of the heuristic and, if that agrees, of the product.
  cublasStatus_t status(const Operand& a, const Operand& b, const Operand& d, Matmul& matmul,
                        const std::byte* a_data = nullptr, uint64_t workspace_bytes = 0) {
    const Layouts la(a), lb(b), ld(d);
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    const uint64_t allowed = 1 << 20;
    cublasLtMatmulPreferenceSetAttribute(matmul.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &allowed, 8);
    const auto heuristic = cublasLtMatmulAlgoGetHeuristic(matmul.handle, matmul.description, la.get(), lb.get(),
                                                          ld.get(), ld.get(), matmul.preference, 1, &found, &count);
    if (heuristic != CUBLAS_STATUS_SUCCESS) return heuristic;
    const float one = 1, zero = 0;
    const DeviceVector<std::byte> workspace(std::max<uint64_t>(workspace_bytes, 1));
    return cublasLtMatmul(matmul.handle, matmul.description, &one, a_data ? a_data : a.device.get(), la.get(),
                          b.device.get(), lb.get(), &zero, d.device.get(), ld.get(), d.device.get(), ld.get(),
                          &found.algo, workspace.get(), workspace_bytes, nullptr);
  }
  Matmul matmul_;
  static constexpr uint64_t kEnough = 1 << 20;
  Operand a_{16, 8, 1, CUDA_R_32F, 0, 1}, b_{8, 4, 1, CUDA_R_32F, 0, 2}, d_{16, 4, 1, CUDA_R_32F, 0, 3};
};

TEST_F(CublasLtRefusals, ShapesAndTypes) {
  EXPECT_EQ(status(a_, b_, d_, matmul_, nullptr, kEnough), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(status(b_, a_, d_, matmul_, nullptr, kEnough), CUBLAS_STATUS_INVALID_VALUE);
  Operand narrow(16, 8, 1, CUDA_R_32F, 0, 1);
  narrow.leading = 15;
  EXPECT_EQ(status(narrow, b_, d_, matmul_, nullptr, kEnough), CUBLAS_STATUS_INVALID_VALUE);
  const Operand half(16, 8, 1, CUDA_R_16BF, 0, 1), batches(16, 8, 2, CUDA_R_32F, 0, 1);
  EXPECT_EQ(status(half, b_, d_, matmul_, nullptr, kEnough), CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(status(batches, b_, d_, matmul_, nullptr, kEnough), CUBLAS_STATUS_INVALID_VALUE);
}

TEST_F(CublasLtRefusals, PointersAndWorkspace) {
  EXPECT_EQ(status(a_, b_, d_, matmul_, nullptr, 16), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_NE(std::string(cublasLtGetStatusString(CUBLAS_STATUS_INVALID_VALUE)).find("workspace"), std::string::npos);
  EXPECT_EQ(status(a_, b_, d_, matmul_, a_.device.get() + 4, kEnough), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_NE(std::string(cublasLtGetStatusString(CUBLAS_STATUS_INVALID_VALUE)).find("multiple of 16"),
            std::string::npos);
}

TEST_F(CublasLtRefusals, Epilogues) {
  matmul_.set(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(CUBLASLT_EPILOGUE_GELU_AUX));
  EXPECT_EQ(status(a_, b_, d_, matmul_, nullptr, kEnough), CUBLAS_STATUS_INVALID_VALUE);
  matmul_.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, static_cast<void*>(d_.device.get()));
  matmul_.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{20});
  EXPECT_EQ(status(a_, b_, d_, matmul_, nullptr, kEnough), CUBLAS_STATUS_INVALID_VALUE);
  matmul_.set(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(CUBLASLT_EPILOGUE_BIAS));
  EXPECT_EQ(status(a_, b_, d_, matmul_, nullptr, kEnough), CUBLAS_STATUS_INVALID_VALUE);
  matmul_.set(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(CUBLASLT_EPILOGUE_RELU));
  EXPECT_EQ(status(a_, b_, d_, matmul_, nullptr, kEnough), CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(CublasLtRefusals, MemoryFaults) {
  Operand taller(16, 9, 1, CUDA_R_32F, 0, 1);
  taller.columns = 8;
  taller.leading = 40;  // runs past the end
  EXPECT_EQ(status(taller, b_, d_, matmul_, nullptr, kEnough), CUBLAS_STATUS_EXECUTION_FAILED);
  EXPECT_NE(take_error().find("out of bounds: reads"), std::string::npos);
  const DeviceVector<std::byte> unwritten(16 * 8 * 4);
  EXPECT_EQ(status(a_, b_, d_, matmul_, unwritten.get(), kEnough), CUBLAS_STATUS_EXECUTION_FAILED);
  EXPECT_NE(take_error().find("uninitialised: reads"), std::string::npos);
}

}  // namespace
}  // namespace duet::emulation
