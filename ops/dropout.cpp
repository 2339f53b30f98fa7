#include "duet/ops/dropout.h"

#include "duet/core/dispatch.h"
#include "duet/core/parallel.h"

namespace duet::ops {

Variable dropout(const Variable& x, double p, RandomKey random) {
  // Compared as the float that the kernels use: the nearest float to 0.99999999 is 1.
  check(p >= 0 && static_cast<float>(p) < 1, "dropout", "probability must be in [0, 1), got ", p);
  if (p == 0) return x;
  const auto run = [p, random](const Tensor& in) {
    Tensor out = empty_like(in);
    dispatch("dropout", in, [&]<class T>(CpuContext, Type<T>) {
      parallel_for(in.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
        dropout_span<T>(in.data<T>() + begin, out.data<T>() + begin, end - begin, static_cast<float>(p), random, begin);
      });
    });
    return out;
  };
  return Variable::from_op("dropout", run(x.data()), {x},
                           [run](const Tensor& dy, GradientSink& sink) { sink.add(0, run(dy)); });
}

}  // namespace duet::ops
