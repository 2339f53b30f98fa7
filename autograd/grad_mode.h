#pragma once

namespace duet {

// Whether ops on this thread record the graph.
bool grad_enabled();

// Ops inside the scope record nothing: evaluation and optimizer arithmetic.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool previous_;
};

// Records again inside a NoGrad scope; recomputation uses it.
class EnableGrad {
 public:
  EnableGrad();
  ~EnableGrad();
  EnableGrad(const EnableGrad&) = delete;
  EnableGrad& operator=(const EnableGrad&) = delete;

 private:
  bool previous_;
};

}  // namespace duet
