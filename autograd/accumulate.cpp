#include "duet/autograd/accumulate.h"

#include "duet/core/dispatch.h"
#include "duet/core/parallel.h"

namespace duet {

void accumulate(Tensor& total, Tensor addend) {
  if (!total.defined()) {
    total = std::move(addend);
    return;
  }
  check(total.shape() == addend.shape() && total.dtype() == addend.dtype(), "accumulate", addend, " into ", total);
  const Tensor out = total.unique() ? total : empty_like(total);
  dispatch(total, [&]<class T>(CpuContext, Type<T>) {
    const T *a = total.data<T>(), *b = addend.data<T>();
    T* y = out.data<T>();
    parallel_for(total.numel(), 1 << 15, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) y[i] = a[i] + b[i];
    });
  });
  total = out;
}

}  // namespace duet
