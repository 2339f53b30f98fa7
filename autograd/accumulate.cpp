#include "duet/autograd/accumulate.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"
#include "duet/core/parallel.h"

namespace duet {

void accumulate(Tensor& total, Tensor addend) {
  if (!total.defined()) {
    total = std::move(addend);
    return;
  }
  const OpScope scope("accumulate", ScopeKind::backward);
  check(total.shape() == addend.shape() && total.dtype() == addend.dtype(), "accumulate", addend, " into ", total);
  const Tensor out = total.unique() ? total : empty_like(total);
  OpScope::touches(total, addend, out);
  dispatch(total, [&]<class T>(auto context, Type<T>) {
    add_elements<T>(context, total.data<T>(), addend.data<T>(), out.data<T>(), total.numel());
  });
  total = out;
}

template <class T>
void add_elements(CpuContext, const T* a, const T* b, T* y, int64_t count) {
  parallel_for(count, 1 << 15, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      y[i] = static_cast<T>(static_cast<Wide<T>>(a[i]) + static_cast<Wide<T>>(b[i]));
  });
}

}  // namespace duet
