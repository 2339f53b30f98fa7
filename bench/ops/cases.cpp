#include "duet/bench/ops/cases.h"

#include "duet/core/philox.h"

namespace duet::bench {

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  add_matrix_cases(cases);
  add_row_cases(cases);
  add_elementwise_cases(cases);
  add_layout_cases(cases);
  add_optimizer_cases(cases);
  return cases;
}

std::string label(const std::string& model, const std::string& detail, const std::vector<int64_t>& sizes) {
  std::string result = detail.empty() ? model : model + "." + detail;
  for (size_t i = 0; i < sizes.size(); ++i) result += text(i == 0 ? ':' : 'x', sizes[i]);
  return result;
}

Variable random(const Shape& shape, DType dtype, bool trainable) {
  Random source(RandomKey{0, 0}.child(static_cast<uint64_t>(shape.numel())));
  const Tensor t = Tensor::empty(shape, DType::f32);
  for (float& x : t.values<float>()) x = static_cast<float>(source.uniform() - 0.5);
  return Variable(t.to(dtype), trainable);
}

Variable parameter(const Shape& shape, DType activations) {
  return random(shape, wide(activations));
}

Tensor random_ids(const Shape& shape, int64_t end) {
  Random source(RandomKey{0, 1});
  const Tensor t = Tensor::empty(shape, DType::i64);
  for (int64_t& id : t.values<int64_t>()) id = static_cast<int64_t>(source.below(static_cast<uint64_t>(end)));
  return t;
}

}  // namespace duet::bench
