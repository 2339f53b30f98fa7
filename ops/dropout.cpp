#include "duet/ops/dropout.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"
#include "duet/core/parallel.h"

namespace duet::ops {

Variable dropout(const Variable& x, double p, RandomKey random, const Tensor& rows) {
  const OpScope scope("dropout");
  // Compared as the float that the kernels use: the nearest float to 0.99999999 is 1.
  check(p >= 0 && static_cast<float>(p) < 1, "dropout", "probability must be in [0, 1), got ", p);
  if (rows.defined()) {
    check(x.data().device().kind == DeviceKind::cpu, "dropout", "rows of a larger matrix are for the CPU only, x ", x,
          " is on ", x.data().device());
    check(x.rank() == 2 && rows.shape() == Shape{x.dim(0)} && rows.dtype() == DType::i64, "dropout",
          "rows must be (N) int64 for x (N, C), got ", rows, " for ", x);
  }
  if (p == 0) return x;
  const auto run = [p, random, rows](const Tensor& in) {
    Tensor out = empty_like(in);
    const auto share = static_cast<float>(p);
    OpScope::touches(rows);
    dispatch("dropout", in, [&]<class T>(auto context, Type<T>) {
      if constexpr (std::is_same_v<decltype(context), CpuContext>)
        if (rows.defined())
          return dropout_rows<T>(context, duet::rows<const T>(in), rows.data<int64_t>(), duet::rows<T>(out), share,
                                 random);
      dropout_forward<T>(context, in.data<T>(), out.data<T>(), in.numel(), share, random);
    });
    return out;
  };
  return Variable::from_op("dropout", run(x.data()), {x},
                           [run](const Tensor& dy, GradientSink& sink) { sink.add(0, run(dy)); });
}

}  // namespace duet::ops
