#include "duet/train/communicator.h"

#include <algorithm>
#include <functional>
#include <vector>

namespace duet::train {
namespace {

bool overlap(const Tensor& a, const Tensor& b) {
  const std::less<const std::byte*> before;
  return before(a.raw(), b.raw() + b.bytes()) && before(b.raw(), a.raw() + a.bytes());
}

// Those that are not empty: these have nothing to send, and are empty on every rank alike by the caller's promise. None
// may share memory with another, since the library works on all of a call at once.
std::vector<Tensor> apart(const char* op, std::span<const Tensor> tensors) {
  std::vector<Tensor> result, sorted;
  for (const Tensor& tensor : tensors)
    if (tensor.numel() > 0) result.push_back(tensor);
  sorted = result;
  std::sort(sorted.begin(), sorted.end(),
            [](const Tensor& a, const Tensor& b) { return std::less<const std::byte*>()(a.raw(), b.raw()); });
  for (size_t i = 1; i < sorted.size(); ++i)
    check(!overlap(sorted[i - 1], sorted[i]), op, "two of the ", tensors.size(),
          " tensors of a call share memory: ", sorted[i - 1], " and ", sorted[i], "; give each once");
  return result;
}

class Alone : public Communicator {
 public:
  explicit Alone(Device device) : Communicator(device, 0, 1) {}

 private:
  void reduce(std::span<const Tensor>) override {}
  void send_from(std::span<const Tensor>, int) override {}
  void gather(const Tensor& mine, const Tensor& all) override {
    if (mine.raw() != all.raw()) all.copy_from(mine);
  }
};

}  // namespace

Communicator::Communicator(Device device, int rank, int size) : device_(device), rank_(rank), size_(size) {
  check(size >= 1 && rank >= 0 && rank < size, "communicator", "there is no rank ", rank, " of ", size,
        "; ranks count from 0");
}

void Communicator::check_tensor(const char* op, const Tensor& tensor) const {
  check(tensor.defined(), op, "a tensor was not given a value");
  check(tensor.device() == device_, op, tensor, " is on ", tensor.device(), ", but rank ", rank_, " of ", size_,
        " communicates for ", device_, "; move it there with to()");
}

void Communicator::all_reduce(std::span<const Tensor> tensors) {
  for (const Tensor& tensor : tensors) {
    check_tensor("all_reduce", tensor);
    const DType dtype = tensor.dtype();
    check(dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f64, "all_reduce", "no sums of ", tensor,
          " on ", tensor.device(), "; use float32, bfloat16 or float64");
  }
  if (const auto full = apart("all_reduce", tensors); !full.empty()) reduce(full);
}

void Communicator::broadcast(std::span<const Tensor> tensors, int root) {
  check(root >= 0 && root < size_, "broadcast", "there is no rank ", root, " of ", size_, " to take ", tensors.size(),
        " tensors from");
  for (const Tensor& tensor : tensors) check_tensor("broadcast", tensor);
  if (const auto full = apart("broadcast", tensors); !full.empty()) send_from(full, root);
}

void Communicator::all_gather(const Tensor& mine, const Tensor& all) {
  check_tensor("all_gather", mine);
  check_tensor("all_gather", all);
  check(mine.dtype() == all.dtype(), "all_gather", "dtypes differ: mine ", mine, ", all ", all);
  bool fits = mine.rank() >= 1 && all.rank() == mine.rank() && all.dim(0) == size_ * mine.dim(0);
  for (int axis = 1; fits && axis < mine.rank(); ++axis) fits = all.dim(axis) == mine.dim(axis);
  check(fits, "all_gather", "mine ", mine, " of ", size_, " ranks does not make up all ", all,
        "; its first dimension must be ", size_, " times that of mine, and the others the same");
  if (mine.numel() == 0) return;
  const std::byte* in_place = all.raw() + static_cast<size_t>(rank_) * mine.bytes();
  check(mine.raw() == in_place || !overlap(mine, all), "all_gather", "mine ", mine, " lies in all ", all,
        ", but not where rank ", rank_, " of ", size_, " belongs");
  gather(mine, all);
}

std::unique_ptr<Communicator> alone(Device device) {
  return std::make_unique<Alone>(device);
}

}  // namespace duet::train
