#pragma once

#include "duet/autograd/variable.h"

namespace duet::ops {

struct CrossEntropyOptions {
  double label_smoothing = 0;   // e: target (1 - e) one-hot + e / K uniform
  Tensor class_weights;         // (K), the dtype of logits or float32 for bfloat16; undefined = all 1
  int64_t ignore_index = -100;  // rows with this label do not count
};

// Mean negative log-likelihood of labels (N), int32 or int64, under softmax(logits (N, K)) -> (), float32 for bfloat16.
// As in PyTorch, with class weights w the mean divides by the sum of w over the counted rows:
//   loss = (1 - e) sum_i w[y_i] (-lp[i, y_i]) / D + (e / K) sum_i sum_k w[k] (-lp[i, k]) / D,   D = sum_i w[y_i].
// Throws Error for labels outside [0, K). With no counted row the loss is 0 and so are the gradients.
Variable cross_entropy(const Variable& logits, const Tensor& labels, const CrossEntropyOptions& options = {});

// Row losses summed in double; dlogits = d(loss)/d(logits). weights may be null.
template <class T>
void cross_entropy_kernel(CpuContext, Rows<const T> logits, const int64_t* labels, const Wide<T>* weights,
                          double smoothing, int64_t ignore_index, Rows<T> dlogits, Wide<T>* loss);
template <class T>
void cross_entropy_kernel(CudaContext, Rows<const T> logits, const int64_t* labels, const Wide<T>* weights,
                          double smoothing, int64_t ignore_index, Rows<T> dlogits, Wide<T>* loss);
// y = factor * x, the factor being a single element on the device.
template <class T>
void scale_by_element(CpuContext, const T* x, const Wide<T>* factor, T* y, int64_t n);
template <class T>
void scale_by_element(CudaContext, const T* x, const Wide<T>* factor, T* y, int64_t n);

}  // namespace duet::ops
