#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>

#include "duet/core/backend.h"
#include "duet/core/cpu.h"
#include "duet/core/parallel.h"
#include "duet/ops/gemm.h"
#include "duet/ops/packed_gemm.h"

// Products of bfloat16 on the CPU, summed in float: by oneDNN's matmul primitive but for large ones on processors that
// multiply floats faster (packed_gemm.h).
namespace duet::ops {
namespace {

using dnnl::memory;

// All that a primitive is made for.
struct Form {
  int64_t m, n, k;
  std::array<int64_t, 3> strides;
  bool transpose_a, transpose_b, bias, wide, adds;  // wide: the result is float; adds: to what it holds
  auto operator<=>(const Form&) const = default;
};

const dnnl::engine& engine() {
  static const dnnl::engine result(dnnl::engine::kind::cpu, 0);
  return result;
}

memory::desc description(int64_t rows, int64_t columns, memory::data_type type, int64_t stride, bool transposed) {
  return {{rows, columns}, type, transposed ? memory::dims{1, stride} : memory::dims{stride, 1}};
}

// A product ready to run, for one thread at a time.
class Product {
 public:
  explicit Product(const Form& f) {
    const memory::desc a = description(f.m, f.k, memory::data_type::bf16, f.strides[0], f.transpose_a);
    const memory::desc b = description(f.k, f.n, memory::data_type::bf16, f.strides[1], f.transpose_b);
    const memory::desc c =
        description(f.m, f.n, f.wide ? memory::data_type::f32 : memory::data_type::bf16, f.strides[2], false);
    const memory::desc bias =
        f.bias ? memory::desc({1, f.n}, memory::data_type::f32, memory::dims{f.n, 1}) : memory::desc();
    // Empty, rather than an exception, where this processor has no kernel.
    constexpr bool allow_empty = true;
    dnnl::primitive_attr settings;
    if (f.adds) {
      dnnl::post_ops after;
      after.append_sum(1);
      settings.set_post_ops(after);
    }
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc kernel(engine(), a, b, bias, c, settings, allow_empty);
#else
    const dnnl::matmul::primitive_desc kernel({a, b, bias, c}, settings, engine(), allow_empty);
#endif
    if (!kernel) return;
    primitive_ = dnnl::matmul(kernel);
    a_ = memory(a, engine(), nullptr);
    b_ = memory(b, engine(), nullptr);
    if (f.bias) bias_ = memory(bias, engine(), nullptr);
    c_ = memory(c, engine(), nullptr);
  }

  bool available() const {
    return static_cast<bool>(primitive_);
  }

  void run(const bf16* a, const bf16* b, const float* bias, void* c) {
    // oneDNN only reads what is not the destination.
    a_.set_data_handle(const_cast<bf16*>(a));
    b_.set_data_handle(const_cast<bf16*>(b));
    c_.set_data_handle(c);
    std::array<dnnl_exec_arg_t, 4> arguments = {
        {{DNNL_ARG_SRC, a_.get()}, {DNNL_ARG_WEIGHTS, b_.get()}, {DNNL_ARG_DST, c_.get()}}};
    int count = 3;
    if (bias != nullptr) {
      bias_.set_data_handle(const_cast<float*>(bias));
      arguments[3] = {DNNL_ARG_BIAS, bias_.get()};
      count = 4;
    }
    thread_local const dnnl::stream stream(engine());
    const dnnl_status_t status = dnnl_primitive_execute(primitive_.get(), stream.get(), count, arguments.data());
    check(status == dnnl_success, "gemm", "oneDNN failed with status ", static_cast<int>(status));
  }

 private:
  dnnl::matmul primitive_;
  memory a_, b_, bias_, c_;
};

// Making a primitive takes longer than a small product, and one must not run on two threads at once: each thread keeps
// its own. Texts of many lengths have many shapes, so what is kept has a bound.
Product& product_of(const Form& form) {
  constexpr size_t most = 1024;
  thread_local std::map<Form, Product> products;
  const auto found = products.find(form);
  if (found != products.end()) return found->second;
  if (products.size() >= most) products.clear();
  return products.try_emplace(form, form).first->second;
}

// The stored rows as floats, one after the other.
Tensor widened(Matrix<const bf16> x, int64_t rows, int64_t columns) {
  if (x.transposed) std::swap(rows, columns);
  const Tensor result = Tensor::empty({rows, columns}, DType::f32);
  for (int64_t i = 0; i < rows; ++i)
    convert_elements<float, bf16>(CpuContext{}, x.data + i * x.stride, result.data<float>() + i * columns, columns);
  return result;
}

// c = x + bias, and with `adds` plus c; x (m, n) without gaps.
void add_rows(int64_t m, int64_t n, const float* x, const float* bias, bool adds, Matrix<bf16> c) {
  parallel_for(m, 1 + (1 << 14) / n, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* row = x + i * n;
      bf16* out = c.data + i * c.stride;
      for (int64_t j = 0; j < n; ++j) {
        const float sum = bias ? row[j] + bias[j] : row[j];
        out[j] = static_cast<bf16>(adds ? sum + static_cast<float>(out[j]) : sum);
      }
    }
  });
}

// c = a b + bias, and with `adds` plus c, for sizes above zero. bias may be null, which it is where Out is float.
template <class Out>
void multiply(int64_t m, int64_t n, int64_t k, Matrix<const bf16> a, Matrix<const bf16> b, const float* bias, bool adds,
              Matrix<Out> c) {
  if (const auto* packed = detail::widened_gemm_for<Out>(m, n, k))
    return detail::packed_gemm(*packed, m, n, k, a, b, bias, adds, c);
  constexpr bool wide = std::is_same_v<Out, float>;
  const auto product_for = [&](int64_t rows) -> Product& {
    return product_of(
        {rows, n, k, {a.stride, b.stride, c.stride}, a.transposed, b.transposed, bias != nullptr, wide, adds});
  };
  // Each thread has a product of its own over some of the rows, as in float; 3 % faster over all the products of a step
  // than oneDNN's own division of the work, 8 % for those with a transposed.
  constexpr int64_t block = 16;
  if (cpu_has_bfloat16()) {
    std::atomic<bool> available = true;
    const auto for_parts = [&](auto part) {
      parallel_for((m + block - 1) / block, std::max<int64_t>(3, (1 << 22) / (block * n * k)),
                   [&](int64_t begin, int64_t end) {
                     const int64_t first = begin * block, rows = std::min(end * block, m) - first;
                     Product& product = product_for(rows);
                     if (product.available())
                       part(product, first);
                     else
                       available = false;
                   },
                   1);
    };
    // What has been added to once cannot be done again by the way below.
    if (adds) for_parts([](Product&, int64_t) {});
    if (available)
      for_parts([&](Product& product, int64_t first) {
        product.run(a.data + first * (a.transposed ? 1 : a.stride), b.data, bias, c.data + first * c.stride);
      });
    if (available) return;
  }
  const Tensor x = widened(a, m, k), y = widened(b, k, n);
  const auto into = [&](Matrix<float> z, float beta) {
    gemm<float>(CpuContext{}, m, n, k, 1, {x.data<float>(), x.dim(1), a.transposed},
                {y.data<float>(), y.dim(1), b.transposed}, beta, z);
  };
  if constexpr (wide) {
    into(c, adds ? 1 : 0);
  } else {
    const Tensor z = Tensor::empty({m, n}, DType::f32);
    into({z.data<float>(), n}, 0);
    add_rows(m, n, z.data<float>(), bias, adds, c);
  }
}

template <class Out>
void scaled(int64_t m, int64_t n, int64_t k, float alpha, Matrix<const bf16> a, Matrix<const bf16> b, float beta,
            Matrix<Out> c) {
  if (m == 0 || n == 0) return;
  if (k > 0 && alpha == 1 && (beta == 0 || beta == 1)) return multiply<Out>(m, n, k, a, b, nullptr, beta == 1, c);
  Tensor product = Tensor::zeros({m, n}, DType::f32);
  if (k > 0) multiply<float>(m, n, k, a, b, nullptr, false, {product.data<float>(), n});
  for (int64_t i = 0; i < m; ++i) {
    const float* from = product.data<float>() + i * n;
    Out* to = c.data + i * c.stride;
    // A matrix that beta 0 overwrites may hold anything.
    for (int64_t j = 0; j < n; ++j)
      to[j] = static_cast<Out>(alpha * from[j] + (beta == 0 ? 0 : beta * static_cast<float>(to[j])));
  }
}

}  // namespace

template <>
void gemm<bf16, bf16>(CpuContext, int64_t m, int64_t n, int64_t k, float alpha, Matrix<const bf16> a,
                      Matrix<const bf16> b, float beta, Matrix<bf16> c) {
  scaled(m, n, k, alpha, a, b, beta, c);
}

template <>
void gemm<bf16, float>(CpuContext, int64_t m, int64_t n, int64_t k, float alpha, Matrix<const bf16> a,
                       Matrix<const bf16> b, float beta, Matrix<float> c) {
  scaled(m, n, k, alpha, a, b, beta, c);
}

template <>
void gemm_batched<bf16>(CpuContext, int64_t batch, int64_t m, int64_t n, int64_t k, const bf16* a, bool transpose_a,
                        const bf16* b, bool transpose_b, bf16* c) {
  for (int64_t i = 0; i < batch; ++i)
    scaled<bf16>(m, n, k, 1, {a + i * m * k, transpose_a ? m : k, transpose_a},
                 {b + i * k * n, transpose_b ? k : n, transpose_b}, 0, {c + i * m * n, n});
}

void gemm_add_bias(CpuContext, int64_t m, int64_t n, int64_t k, Matrix<const bf16> a, Matrix<const bf16> b,
                   const float* bias, Matrix<bf16> c) {
  if (m == 0 || n == 0) return;
  if (k > 0) return multiply(m, n, k, a, b, bias, false, c);
  const Tensor none = Tensor::zeros({m, n}, DType::f32);
  add_rows(m, n, none.data<float>(), bias, false, c);
}

}  // namespace duet::ops
