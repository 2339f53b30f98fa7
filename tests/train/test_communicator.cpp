#include "duet/train/communicator.h"

#include "duet/tests/train/expect.h"

namespace duet::train {
namespace {

// What several ranks do is tested where there are several: tests/device.
TEST(Communicator, AloneKeepsItsNumbers) {
  const auto one = alone();
  EXPECT_EQ(one->rank(), 0);
  EXPECT_EQ(one->size(), 1);
  EXPECT_EQ(one->device(), Device{});
  const Tensor x = Tensor::from<float>({2, 2}, {1, 2, 3, 4}), y = Tensor::zeros({2, 2}, DType::f32);
  one->all_reduce(x);
  one->broadcast(x, 0);
  one->all_gather(x, y);
  one->all_gather(y, y);
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(x.at(i), static_cast<double>(i + 1));
    EXPECT_EQ(y.at(i), static_cast<double>(i + 1));
  }
}

TEST(Communicator, ArgumentsThatDoNotFitAreRefused) {
  const auto one = alone();
  const Tensor x = Tensor::zeros({2, 3}, DType::f32), ids = Tensor::zeros({2}, DType::i64);
  EXPECT_CONTAINS(message_of([&] { one->all_reduce(ids); }),
                  "[all_reduce] no sums of (2) int64 on cpu; use float32, bfloat16 or float64");
  EXPECT_CONTAINS(message_of([&] { one->all_reduce(std::vector<Tensor>{x, Tensor()}); }), "was not given a value");
  EXPECT_CONTAINS(message_of([&] { one->broadcast(x, 1); }), "[broadcast] there is no rank 1 of 1");
  EXPECT_CONTAINS(message_of([&] {
                    one->all_gather(x, Tensor::zeros({4, 3}, DType::f32));
                  }),
                  "mine (2, 3) float32 of 1 ranks does not make up all (4, 3) float32");
  EXPECT_CONTAINS(message_of([&] { one->all_gather(x, Tensor::zeros({2, 3}, DType::f64)); }), "dtypes differ");
  EXPECT_CONTAINS(message_of([&] { one->all_gather(Tensor::zeros({}, DType::f32), x); }), "does not make up");
}

}  // namespace
}  // namespace duet::train
