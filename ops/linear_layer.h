#pragma once

#include "duet/autograd/variable.h"
#include "duet/ops/linear.h"

namespace duet::ops {

// A linear layer inside an op, for rows of one width; what linear and feed_forward share. Its products count as the
// op's work.
class LinearLayer {
 public:
  // For inputs of shape `input`, dtype and device of x. Throws Error in the name of `op` if the weight (out, in) or the
  // bias (out, or undefined) do not fit.
  LinearLayer(const char* op, const Tensor& x, const Shape& input, const Variable& weight, const Variable& bias);

  const Shape& output() const { return output_; }
  // z = x w^T + bias and y = activation(z); y may be undefined without activation.
  void forward(const Tensor& x, Activation activation, const Tensor& z, const Tensor& y) const;
  // y = activation(z) w^T + bias; on the CPU.
  void activated_forward(const Tensor& z, Activation activation, const Tensor& y) const;
  // dz w, added to `sum` if that is defined, which must then be of x's shape and is written over if nobody else holds
  // it.
  Tensor input_gradient(const Tensor& dz, Tensor sum = {}) const;
  struct Gradients {
    Tensor weight, bias;
  };
  // dz^T x, and the sum of dz over rows if it is wanted; where `to` has them, in those tensors.
  Gradients weight_gradient(const Tensor& dz, const Tensor& x, bool bias_wanted = false, Gradients to = {}) const;
  // Memory for the gradient of a weight (or of some layers' weights) for inputs of dtype and device of x.
  static Tensor empty_weight_gradient(const Shape& shape, const Tensor& x);
  // The sum of dz over rows; in `to` if that is defined.
  Tensor bias_gradient(const Tensor& dz, Tensor to = {}) const;
  // dz = dy activation'(z), which may be written over dy, and on the CPU activation(z) once more into y if that is
  // defined. Returns the bias's gradient if it is wanted.
  Tensor activation_gradient(const Tensor& z, Activation activation, const Tensor& dy, const Tensor& dz,
                             const Tensor& y, bool bias_wanted) const;

 private:
  int64_t flops() const { return 2 * rows_ * in_ * out_; }

  Tensor weight_, bias_;  // the weight in the dtype of x
  Shape input_, output_;
  int64_t rows_ = 0, in_ = 0, out_ = 0;
};

}  // namespace duet::ops
