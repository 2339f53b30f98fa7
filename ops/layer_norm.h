#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

// y = (x - mean) / sqrt(variance + eps) * weight + bias over the last dimension, biased variance (Ba et al. 2016).
// x (..., C), weight and bias (C), float32 when x is bfloat16.
Variable layer_norm(const Variable& x, const Variable& weight, const Variable& bias, double eps);

// s = x + residual and y = layer_norm(s) in one pass. Returns both: pre-norm blocks go on with s, post-norm with y.
struct AddLayerNorm {
  Variable sum, normalised;
};
AddLayerNorm add_layer_norm(const Variable& x, const Variable& residual, const Variable& weight, const Variable& bias,
                            double eps);

// When residual is not null, x + residual is written to sum and normalised. mean and rstd hold one value per row.
template <class T>
void layer_norm_forward(CpuContext, Rows<const T> x, const T* residual, T* sum, const Wide<T>* weight,
                        const Wide<T>* bias, Wide<T> eps, Rows<T> y, Wide<T>* mean, Wide<T>* rstd);
template <class T>
void layer_norm_forward(CudaContext, Rows<const T> x, const T* residual, T* sum, const Wide<T>* weight,
                        const Wide<T>* bias, Wide<T> eps, Rows<T> y, Wide<T>* mean, Wide<T>* rstd);
// dx = gradient of the normalised input plus `extra` (may be null); dweight and dbias too unless they are null.
template <class T>
void layer_norm_backward(CpuContext, Rows<const T> x, const Wide<T>* mean, const Wide<T>* rstd, const Wide<T>* weight,
                         Rows<const T> dy, const T* extra, Rows<T> dx, Wide<T>* dweight, Wide<T>* dbias);
template <class T>
void layer_norm_backward(CudaContext, Rows<const T> x, const Wide<T>* mean, const Wide<T>* rstd, const Wide<T>* weight,
                         Rows<const T> dy, const T* extra, Rows<T> dx, Wide<T>* dweight, Wide<T>* dbias);
template <class T>
void layer_norm_parameter_backward(CpuContext, Rows<const T> x, const Wide<T>* mean, const Wide<T>* rstd,
                                   Rows<const T> dy, Wide<T>* dweight, Wide<T>* dbias);
template <class T>
void layer_norm_parameter_backward(CudaContext, Rows<const T> x, const Wide<T>* mean, const Wide<T>* rstd,
                                   Rows<const T> dy, Wide<T>* dweight, Wide<T>* dbias);

}  // namespace duet::ops
