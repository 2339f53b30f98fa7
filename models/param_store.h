#pragma once

#include <deque>
#include <string>
#include <unordered_map>

#include "duet/autograd/variable.h"
#include "duet/core/philox.h"

namespace duet::models {

// How a new parameter starts.
struct Init {
  enum class Kind { constant, normal, uniform } kind = Kind::constant;
  double value = 0;       // the constant, the standard deviation, or the bound of U(-value, value)
  int64_t zero_row = -1;  // a row that starts at zero all the same, such as the padding token's

  static Init constant(double value) { return {Kind::constant, value}; }
  static Init normal(double deviation) { return {Kind::normal, deviation}; }
  static Init uniform(double bound) { return {Kind::uniform, bound}; }
};

struct Parameter {
  std::string name;
  Variable value;
  Init init;
  bool ready = false;  // has its initial or loaded values
};

// All parameters of a model, in creation order, reached by path. A parameter's initial values depend on the seed and
// its name only, so adding another parameter does not change them.
class ParamStore {
 public:
  // With `initialise` false new parameters hold arbitrary values until they are loaded or initialise_rest is called:
  // drawing 200 million numbers that a checkpoint then replaces takes longer than reading it.
  explicit ParamStore(uint64_t seed, DType dtype = DType::f32, bool initialise = true)
      : seed_(seed), dtype_(dtype), initialise_(initialise) {}

  // Throws Error when the name is taken.
  Variable create(const std::string& name, const Shape& shape, Init init);
  // Gives every parameter that is not ready its initial values.
  void initialise_rest();
  // Throws Error naming the path when there is none.
  Variable& at(const std::string& name);
  bool contains(const std::string& name) const { return index_.contains(name); }
  bool has_part(const std::string& prefix) const;  // whether a name begins with it

  std::deque<Parameter>& parameters() { return parameters_; }
  const std::deque<Parameter>& parameters() const { return parameters_; }
  DType dtype() const { return dtype_; }
  int64_t count() const;  // elements of all parameters
  // Moves every parameter; before an optimizer is made, which keeps its state where the parameters are.
  void to(Device device);
  Device device() const { return parameters_.empty() ? Device{} : parameters_.front().value.data().device(); }
  void clear_gradients();
  // Stops training of every parameter whose name matches a shell pattern (* and ?). Throws Error when none matches.
  void freeze(const std::string& pattern);

 private:
  void initialise(Parameter& parameter);

  uint64_t seed_;
  DType dtype_;
  bool initialise_;
  std::deque<Parameter> parameters_;
  std::unordered_map<std::string, size_t> index_;
};

// A path prefix inside a store; modules take one and create their parameters under it.
class ParamScope {
 public:
  ParamScope(ParamStore& store, std::string prefix) : store_(&store), prefix_(std::move(prefix)) {}
  ParamScope operator/(const std::string& name) const {
    return {*store_, prefix_.empty() ? name : prefix_ + "." + name};
  }
  Variable create(const std::string& name, const Shape& shape, Init init) const {
    return store_->create((*this / name).prefix_, shape, init);
  }
  const std::string& prefix() const { return prefix_; }

 private:
  ParamStore* store_;
  std::string prefix_;
};

// Shell-style match with * and ?.
bool matches_pattern(std::string_view name, std::string_view pattern);

}  // namespace duet::models
