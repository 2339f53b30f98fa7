#include "duet/ops/gather_rows.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"
#include "duet/ops/embedding.h"

namespace duet::ops {

Variable gather_rows(const Variable& x, const Tensor& indices) {
  const OpScope scope("gather_rows");
  check(x.rank() == 2 && indices.rank() == 1, "gather_rows", "x must be (N, D) and indices (M), got ", x, " and ",
        indices);
  dispatch_index(indices, "gather_rows", [&](const auto* index) {
    for (int64_t i = 0; i < (indices.device().kind == DeviceKind::cpu ? indices.numel() : 0); ++i)
      check(index[i] >= 0 && index[i] < x.dim(0), "gather_rows", "index ", index[i], " at position ", i,
            " is outside x ", x);
  });
  return embedding(indices, x);
}

}  // namespace duet::ops
