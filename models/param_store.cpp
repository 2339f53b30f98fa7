#include "duet/models/param_store.h"

#include <algorithm>

#include "duet/core/dispatch.h"
#include "duet/core/parallel.h"

namespace duet::models {
namespace {

// Each element draws from its own place in the stream, so that the values do not depend on the thread count.
void fill(const Tensor& data, Init init, RandomKey key) {
  if (init.kind == Init::Kind::constant) return data.fill(init.value);
  dispatch_cpu("parameters", data, [&]<class T>(Type<T>) {
    T* values = data.data<T>();
    parallel_for(data.numel(), 1 << 12, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        Random random(key, static_cast<uint64_t>(i));
        const double unit = init.kind == Init::Kind::normal ? random.normal() : 2 * random.uniform() - 1;
        values[i] = static_cast<T>(init.value * unit);
      }
    });
  });
}

}  // namespace

Variable ParamStore::create(const std::string& name, const Shape& shape, Init init) {
  check(!contains(name), "parameters", name, " is created twice");
  index_[name] = parameters_.size();
  parameters_.push_back({name, Variable(Tensor::empty(shape, dtype_), true), init});
  if (initialise_) initialise(parameters_.back());
  return parameters_.back().value;
}

void ParamStore::initialise(Parameter& p) {
  fill(p.value.data(), p.init, RandomKey{seed_, 0}.child("init").child(p.name));
  if (p.init.zero_row >= 0) p.value.data().rows_view(p.init.zero_row, p.init.zero_row + 1).fill(0);
  p.ready = true;
}

void ParamStore::initialise_rest() {
  for (Parameter& p : parameters_)
    if (!p.ready) initialise(p);
}

Variable& ParamStore::at(const std::string& name) {
  const auto it = index_.find(name);
  check(it != index_.end(), "parameters", "there is no parameter ", name);
  return parameters_[it->second].value;
}

bool ParamStore::has_part(const std::string& prefix) const {
  return std::any_of(parameters_.begin(), parameters_.end(),
                     [&](const Parameter& p) { return p.name.starts_with(prefix); });
}

int64_t ParamStore::count() const {
  int64_t total = 0;
  for (const Parameter& p : parameters_) total += p.value.data().numel();
  return total;
}

void ParamStore::to(Device device) {
  for (Parameter& p : parameters_) {
    p.value.clear_gradient();
    p.value.set_data(p.value.data().to(device));
  }
}

void ParamStore::clear_gradients() {
  for (Parameter& p : parameters_) p.value.clear_gradient();
}

void ParamStore::freeze(const std::string& pattern) {
  size_t found = 0;
  for (Parameter& p : parameters_)
    if (matches_pattern(p.name, pattern)) {
      p.value.set_requires_grad(false);
      ++found;
    }
  check(found > 0, "freeze", "no parameter matches \"", pattern, "\"; names look like ",
        parameters_.empty() ? "" : parameters_.front().name);
}

bool matches_pattern(std::string_view name, std::string_view pattern) {
  if (pattern.empty()) return name.empty();
  if (pattern[0] == '*') {
    for (size_t skip = 0; skip <= name.size(); ++skip)
      if (matches_pattern(name.substr(skip), pattern.substr(1))) return true;
    return false;
  }
  return !name.empty() && (pattern[0] == '?' || pattern[0] == name[0]) &&
         matches_pattern(name.substr(1), pattern.substr(1));
}

}  // namespace duet::models
