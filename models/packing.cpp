#include "duet/models/packing.h"

#include <algorithm>

#include "duet/core/dispatch.h"
#include "duet/ops/gather_rows.h"
#include "duet/ops/reshape.h"
#include "duet/ops/scatter_rows.h"
#include "duet/ops/slice.h"

namespace duet::models {

bool pads_at_end(const Tensor& mask) {
  if (!mask.defined() || mask.device().kind != DeviceKind::cpu) return false;
  for (int64_t b = 0; b < mask.dim(0); ++b) {
    const auto row = mask.rows_view(b, b + 1).values<uint8_t>();
    if (row.empty() || row[0] != 1 || !std::is_sorted(row.rbegin(), row.rend())) return false;
  }
  return true;
}

Packing Packing::of(const Tensor& mask, int64_t multiple) {
  if (!pads_at_end(mask)) return {};
  const auto seen = mask.values<uint8_t>();
  const int64_t texts = mask.dim(0), tokens = mask.dim(1), real = std::count(seen.begin(), seen.end(), uint8_t{1});
  if (real == texts * tokens) return {};
  std::vector<int64_t> starts{0}, rows;
  for (int64_t b = 0; b < texts; ++b) {
    for (int64_t i = b * tokens; i < (b + 1) * tokens && seen[static_cast<size_t>(i)] != 0; ++i) rows.push_back(i);
    starts.push_back(static_cast<int64_t>(rows.size()));
  }
  const int64_t count = (real + multiple - 1) / multiple * multiple;
  rows.resize(static_cast<size_t>(count), rows[0]);
  while (starts.back() < count) starts.push_back(std::min(starts.back() + tokens, count));
  const auto boundaries = static_cast<int64_t>(starts.size());
  return {Tensor::from({boundaries}, starts), Tensor::from({count}, rows), texts, tokens, real};
}

Tensor Packing::take(const Tensor& ids) const {
  const Tensor result = Tensor::empty(rows.shape(), ids.dtype());
  const auto from = rows.values<int64_t>();
  dispatch_index(ids, "packing", [&]<class Index>(const Index* id) {
    std::transform(from.begin(), from.end(), result.data<Index>(), [id](int64_t row) { return id[row]; });
  });
  return result;
}

Tensor Packing::positions() const {
  const Tensor result = rows.clone();
  for (int64_t& row : result.values<int64_t>()) row %= tokens;
  return result;
}

Variable Packing::unpack(const Variable& x) const {
  const Variable kept = x.dim(0) > real ? ops::slice(x, 0, 0, real) : x;
  const Variable all = ops::scatter_rows(kept, rows.rows_view(0, real), texts * tokens);
  return ops::reshape(all, {texts, tokens, x.dim(1)});
}

Variable Packing::first_token(const Variable& x) const {
  return ops::gather_rows(x, starts.rows_view(0, texts));
}

Variable first_token(const Variable& x) {
  check(x.rank() == 3, "first_token", "x must be (B, T, D), got ", x);
  return ops::reshape(ops::slice(x, 1, 0, 1), {x.dim(0), x.dim(2)});
}

}  // namespace duet::models
