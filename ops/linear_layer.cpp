#include "duet/ops/linear_layer.h"

#include "duet/autograd/checkpoint.h"
#include "duet/core/allocator.h"
#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"
#include "duet/ops/gemm.h"

namespace duet::ops {

LinearLayer::LinearLayer(const char* op, const Tensor& x, const Shape& input, const Variable& weight,
                         const Variable& bias)
    : input_(input), output_(input) {
  check(input.rank() >= 1 && weight.rank() == 2 && input[-1] == weight.dim(1), op, "inner sizes differ: x ", input, ' ',
        x.dtype(), ", weight ", weight);
  check(!bias.defined() || (bias.rank() == 1 && bias.dim(0) == weight.dim(0)), op, "bias ", bias, " for weight ",
        weight);
  check(weight.dtype() == wide(x.dtype()) && (!bias.defined() || bias.dtype() == weight.dtype()), op,
        "dtypes do not fit: x ", x, ", weight ", weight, ", bias ", bias);
  check_same_device(op, {x, weight.data(), bias.defined() ? bias.data() : Tensor()});
  out_ = weight.dim(0);
  in_ = weight.dim(1);
  rows_ = input.product(0, input.rank() - 1);
  output_.set(-1, out_);
  weight_ = weight.data().to(x.dtype());
  if (bias.defined()) bias_ = bias.data();
}

void LinearLayer::forward(const Tensor& x, Activation activation, const Tensor& z, const Tensor& y) const {
  OpScope::computes(flops());
  dispatch("linear", x, [&]<class T>(auto context, Type<T>) {
    linear_forward<T>(context, rows_, in_, out_, x.data<T>(), weight_.data<T>(),
                      bias_.defined() ? bias_.data<Wide<T>>() : nullptr, activation, z.data<T>(),
                      y.defined() ? y.data<T>() : z.data<T>());
  });
}

void LinearLayer::activated_forward(const Tensor& z, Activation activation, const Tensor& y) const {
  OpScope::computes(flops());
  OpScope::touches(z);
  dispatch("linear", z, [&]<class T>(auto context, Type<T>) {
    if constexpr (std::is_same_v<decltype(context), CpuContext>)
      activated_linear_forward<T>(context, rows_, in_, out_, z.data<T>(), activation, weight_.data<T>(),
                                  bias_.defined() ? bias_.data<Wide<T>>() : nullptr, y.data<T>());
    else
      fail("linear", "activations are made in parts on the CPU only, ", z, " is on ", z.device());
  });
}

Tensor LinearLayer::input_gradient(const Tensor& dz, Tensor sum) const {
  OpScope::computes(flops());
  OpScope::touches(weight_);
  const bool adds = sum.defined();
  OpScope::touches(sum);
  if (!adds)
    sum = Tensor::empty(input_, dz.dtype(), dz.device());
  else if (!sum.unique())
    sum = sum.clone();
  dispatch(dz, [&]<class T>(auto context, Type<T>) {
    gemm<T>(context, rows_, in_, out_, 1, {dz.data<T>(), out_}, {weight_.data<T>(), in_}, adds ? 1 : 0,
            {sum.data<T>(), in_});
  });
  return sum;
}

Tensor LinearLayer::empty_weight_gradient(const Shape& shape, const Tensor& x) {
  const LastingBlocks lasting(recomputing());
  return Tensor::empty(shape, wide(x.dtype()), x.device());
}

LinearLayer::Gradients LinearLayer::weight_gradient(const Tensor& dz, const Tensor& x, bool bias_wanted,
                                                    Gradients to) const {
  OpScope::computes(flops());
  if (!to.weight.defined()) to.weight = empty_weight_gradient({out_, in_}, x);
  if (bias_wanted && !to.bias.defined()) to.bias = Tensor::empty({out_}, wide(dz.dtype()), dz.device());
  dispatch(dz, [&]<class T>(auto context, Type<T>) {
    weight_backward<T>(context, rows_, in_, out_, dz.data<T>(), x.data<T>(), to.weight.data<Wide<T>>(),
                       bias_wanted ? to.bias.data<Wide<T>>() : nullptr);
  });
  return to;
}

Tensor LinearLayer::bias_gradient(const Tensor& dz, Tensor to) const {
  if (!to.defined()) to = Tensor::empty({out_}, wide(dz.dtype()), dz.device());
  dispatch(dz, [&]<class T>(auto context, Type<T>) {
    bias_backward<T>(context, {dz.data<T>(), rows_, out_}, to.data<Wide<T>>());
  });
  return to;
}

Tensor LinearLayer::activation_gradient(const Tensor& z, Activation activation, const Tensor& dy, const Tensor& dz,
                                        const Tensor& y, bool bias_wanted) const {
  OpScope::touches(z);
  Tensor db;
  if (bias_wanted) db = Tensor::empty({out_}, wide(dz.dtype()), dz.device());
  dispatch(dz, [&]<class T>(auto context, Type<T>) {
    const Rows<const T> before{z.data<T>(), rows_, out_}, from{dy.data<T>(), rows_, out_};
    const Rows<T> to{dz.data<T>(), rows_, out_};
    Wide<T>* const dbias = db.defined() ? db.data<Wide<T>>() : nullptr;
    if constexpr (std::is_same_v<decltype(context), CpuContext>)
      activation_backward<T>(context, before, from, activation, to, dbias, y.defined() ? y.data<T>() : nullptr);
    else {
      check(!y.defined(), "linear", "activations are made again on the CPU only");
      activation_backward<T>(context, before, from, activation, to, dbias);
    }
  });
  return db;
}

}  // namespace duet::ops
