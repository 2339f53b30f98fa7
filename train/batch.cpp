#include "duet/train/batch.h"

#include <algorithm>

namespace duet::train {

Batch Batch::to(Device device) const {
  if (device.kind != DeviceKind::cpu && models::pads_at_end(text.mask)) {
    Batch known = *this;
    known.text.padding_at_end = true;
    known.text.mask = text.mask.to(device);
    return known.to(device);
  }
  const auto moved = [&](const Tensor& t) { return t.defined() ? t.to(device) : t; };
  Batch result = *this;
  for (Tensor* t : {&result.images, &result.text.ids, &result.text.type_ids, &result.text.mask, &result.labels,
                    &result.masked_positions})
    *t = moved(*t);
  return result;
}

std::vector<Batch> split_batch(const Batch& batch, int64_t size) {
  if (batch.size() <= size) return {batch};
  std::vector<Batch> parts;
  for (int64_t begin = 0; begin < batch.size(); begin += size) {
    const int64_t end = std::min(batch.size(), begin + size);
    const auto rows = [&](const Tensor& t) { return t.defined() ? t.rows_view(begin, end) : Tensor(); };
    Batch part;
    part.images = rows(batch.images);
    part.text = {rows(batch.text.ids), rows(batch.text.type_ids), rows(batch.text.mask), batch.text.padding_at_end};
    part.samples.assign(batch.samples.begin() + begin, batch.samples.begin() + end);
    if (batch.masked_positions.defined()) {
      // Masked positions count over the flattened batch: take those of these rows, counted from the first of them.
      const auto all = batch.masked_positions.values<int64_t>();
      const int64_t first = begin * batch.tokens();
      const auto from = std::lower_bound(all.begin(), all.end(), first);
      const auto to = std::lower_bound(from, all.end(), end * batch.tokens());
      std::vector<int64_t> positions(from, to);
      for (int64_t& p : positions) p -= first;
      part.masked_positions = Tensor::from({static_cast<int64_t>(positions.size())}, positions);
      part.labels = batch.labels.rows_view(from - all.begin(), to - all.begin());
    } else {
      part.labels = rows(batch.labels);
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace duet::train
