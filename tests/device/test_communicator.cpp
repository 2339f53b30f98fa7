#include "duet/train/communicator.h"

#include <atomic>
#include <cmath>

#include "duet/core/dispatch.h"
#include "duet/tests/device.h"
#include "duet/tests/device/ranks.h"
#include "duet/tests/train/expect.h"

namespace duet::train {
namespace {

using testing::device;
using testing::expect_good;
using testing::most_ranks;
using testing::on_ranks;

const std::vector<DType> every_dtype = {DType::f64, DType::f32, DType::bf16, DType::i64, DType::i32, DType::u8};

// Element i of rank `rank`; small whole numbers, which every dtype holds, and of which sums are exact in any order.
double value(int rank, int64_t i) {
  return static_cast<double>((i * 7 + rank * 5) % 13);
}
Tensor values(int rank, const Shape& shape, DType dtype) {
  std::vector<double> result(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < result.size(); ++i) result[i] = value(rank, static_cast<int64_t>(i));
  return Tensor::from(shape, result).to(dtype);
}
double sum(int ranks, int64_t i) {
  double total = 0;
  for (int rank = 0; rank < ranks; ++rank) total += value(rank, i);
  return total;
}
template <class Want>
void expect_elements(const Tensor& got, const Want& want) {
  const Tensor host = got.to(Device{}).to(DType::f64);
  for (int64_t i = 0; i < host.numel(); ++i) ASSERT_EQ(host.data<double>()[i], want(i)) << got << ", element " << i;
}
void expect_same_bytes(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(Device{}), y = b.to(Device{});
  ASSERT_EQ(x.bytes(), y.bytes());
  EXPECT_TRUE(std::equal(x.raw(), x.raw() + x.bytes(), y.raw())) << a;
}

TEST(DeviceCommunicator, SumsOverRanks) {
  NEEDS_DEVICES(2);
  const int ranks = most_ranks();
  expect_good(on_ranks(ranks, [&](Communicator& all) {
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
      for (const int64_t count : {0, 1, 3, 1021, 100003}) {
        const Tensor x = values(all.rank(), {count}, dtype).to(all.device());
        all.all_reduce(x);
        expect_elements(x, [&](int64_t i) { return sum(ranks, i); });
      }
  }));
}

// Numbers whose sums are rounded: the same bits everywhere, and close to a loop in double.
TEST(DeviceCommunicator, EveryRankHasTheSameBits) {
  NEEDS_DEVICES(2);
  const int ranks = most_ranks();
  constexpr int64_t count = 10007;
  const auto element = [](int rank, int64_t i) { return std::sin(static_cast<double>(i * 31 + rank * 17)); };
  std::vector<Tensor> results(static_cast<size_t>(ranks));
  expect_good(on_ranks(ranks, [&](Communicator& all) {
    std::vector<float> mine(count);
    for (int64_t i = 0; i < count; ++i) mine[static_cast<size_t>(i)] = static_cast<float>(element(all.rank(), i));
    const Tensor x = Tensor::from({count}, mine).to(all.device());
    all.all_reduce(x);
    results[static_cast<size_t>(all.rank())] = x.to(Device{});
  }));
  for (const Tensor& result : results) expect_same_bytes(result, results[0]);
  for (int64_t i = 0; i < count; ++i) {
    double want = 0;
    for (int rank = 0; rank < ranks; ++rank) want += element(rank, i);
    ASSERT_NEAR(results[0].at(i), want, 1e-6 * ranks);
  }
}

TEST(DeviceCommunicator, BroadcastsFromEachRoot) {
  NEEDS_DEVICES(2);
  const int ranks = most_ranks();
  expect_good(on_ranks(ranks, [&](Communicator& all) {
    for (int root = 0; root < ranks; ++root)
      for (const DType dtype : every_dtype) {
        const Tensor x = values(all.rank(), {3, 67}, dtype).to(all.device());
        all.broadcast(x, root);
        expect_elements(x, [&](int64_t i) { return value(root, i); });
      }
  }));
}

// What a rank has not written it cannot send, but it can receive into it.
TEST(DeviceCommunicator, BroadcastsIntoNewMemory) {
  NEEDS_DEVICES(2);
  expect_good(on_ranks(2, [&](Communicator& all) {
    const Tensor x =
        all.rank() == 1 ? values(1, {41}, DType::f32).to(all.device()) : Tensor::empty({41}, DType::f32, all.device());
    all.broadcast(x, 1);
    expect_elements(x, [&](int64_t i) { return value(1, i); });
  }));
}

TEST(DeviceCommunicator, GathersByRank) {
  NEEDS_DEVICES(2);
  const int ranks = most_ranks();
  expect_good(on_ranks(ranks, [&](Communicator& all) {
    for (const DType dtype : every_dtype)
      for (const int64_t rows : {0, 1, 5}) {
        const Tensor mine = values(all.rank(), {rows, 7}, dtype).to(all.device());
        const Tensor whole = Tensor::empty({ranks * rows, 7}, dtype, all.device());
        all.all_gather(mine, whole);
        expect_elements(whole, [&](int64_t i) { return value(static_cast<int>(i / (rows * 7)), i % (rows * 7)); });
      }
    const Tensor whole = Tensor::empty({ranks * 2, 3}, DType::f32, all.device());
    const Tensor part = whole.rows_view(all.rank() * 2, all.rank() * 2 + 2);
    part.copy_from(values(all.rank(), {2, 3}, DType::f32).to(all.device()));
    all.all_gather(part, whole);
    expect_elements(whole, [&](int64_t i) { return value(static_cast<int>(i / 6), i % 6); });
  }));
}

TEST(DeviceCommunicator, TakesSeveralTensorsAtOnce) {
  NEEDS_DEVICES(2);
  const int ranks = most_ranks();
  expect_good(on_ranks(ranks, [&](Communicator& all) {
    std::vector<Tensor> tensors;
    for (const int64_t count : {5, 0, 1, 1000})
      for (const DType dtype : {DType::f32, DType::bf16})
        tensors.push_back(values(all.rank(), {count}, dtype).to(all.device()));
    all.all_reduce(tensors);
    for (const Tensor& x : tensors) expect_elements(x, [&](int64_t i) { return sum(ranks, i); });
    for (const Tensor& x : tensors) x.fill(all.rank() + 1);
    all.broadcast(tensors, 1);
    for (const Tensor& x : tensors) expect_elements(x, [](int64_t) { return 2; });
    all.all_reduce(std::span<const Tensor>());
  }));
}

// After the kernels that were asked for before, and before those asked for later, with no wait in between.
TEST(DeviceCommunicator, KeepsItsPlaceAmongKernels) {
  NEEDS_DEVICES(2);
  expect_good(on_ranks(2, [&](Communicator& all) {
    const Tensor x = Tensor::empty({1 << 16}, DType::f32, all.device());
    std::vector<Tensor> seen;
    for (int round = 0; round < 8; ++round) {
      x.fill(round * 10 + all.rank());
      all.all_reduce(x);
      seen.push_back(x.to(DType::bf16));
      x.fill(-1);
    }
    for (int round = 0; round < 8; ++round)
      expect_elements(seen[static_cast<size_t>(round)], [&](int64_t) { return round * 20 + 1; });
  }));
}

// A graph repeats its collectives with what is in the memory by then. Kernels before and after are recorded with them.
void repeat_recorded(Communicator& all) {
  const CudaContext here{all.device().index};
  const Tensor x = Tensor::full({1000}, DType::f32, 1, all.device()), y = zeros_like(x);
  all.all_reduce(x);  // connections are made with the first call
  const auto graph = DeviceGraph::record(here, make_graph_pool(here), [&] {
    const Tensor copy = x.clone();
    all.all_reduce(copy);
    y.copy_from(copy);
  });
  expect_elements(y, [](int64_t) { return 0; });
  for (int round = 1; round < 4; ++round) {
    x.fill(round * (all.rank() + 1));
    graph->launch();
    expect_elements(y, [&](int64_t) { return round * all.size() * (all.size() + 1) / 2; });
    all.broadcast(x, 0);
    expect_elements(x, [&](int64_t) { return round; });
  }
}
TEST(DeviceCommunicator, RunsInARecordedGraph) {
  NEEDS_DEVICES(2);
  expect_good(on_ranks(most_ranks(), repeat_recorded));
}

// One rank needs one device only: all of the library's calls on any machine with a GPU.
TEST(DeviceCommunicator, OneRankKeepsItsNumbers) {
  expect_good(on_ranks(1, [&](Communicator& all) {
    EXPECT_EQ(all.rank(), 0);
    EXPECT_EQ(all.size(), 1);
    for (const DType dtype : every_dtype) {
      const Tensor x = values(0, {2, 501}, dtype).to(all.device()), y = empty_like(x);
      if (dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16) all.all_reduce(x);
      all.broadcast(x, 0);
      all.all_gather(x, y);
      for (const Tensor& z : {x, y}) expect_elements(z, [](int64_t i) { return value(0, i); });
    }
  }));
}
TEST(DeviceCommunicator, OneRankRunsInARecordedGraph) {
  expect_good(on_ranks(1, repeat_recorded));
}

// A graph outlives the communicator whose calls it recorded, whether that ends well or not.
TEST(DeviceCommunicator, GraphsMayGoLast) {
  for (const bool fails : {false, true}) {
    const CudaContext here{0};
    std::unique_ptr<DeviceGraph> graph;
    const auto run = [&] {
      const auto all = join_communicator(here, make_communicator_id(here), 0, 1, 10);
      const Tensor x = Tensor::full({100}, DType::f32, 3, all->device());
      all->all_reduce(x);
      graph = DeviceGraph::record(here, make_graph_pool(here), [&] { all->all_reduce(x); });
      graph->launch();
      expect_elements(x, [](int64_t) { return 3; });
      check(!fails, "test", "something else went wrong");
    };
    if (fails)
      EXPECT_CONTAINS(message_of(run), "something else went wrong");
    else
      run();
    graph.reset();
    synchronize(here);
  }
}

TEST(DeviceCommunicator, ATensorIsGivenOnce) {
  expect_good(on_ranks(1, [](Communicator& all) {
    const Tensor x = Tensor::zeros({4, 3}, DType::f32, all.device()), other = zeros_like(x);
    for (const std::vector<Tensor>& tensors :
         {std::vector{x, other, x}, std::vector{x.rows_view(0, 3), other, x.rows_view(2, 4)}}) {
      EXPECT_CONTAINS(message_of([&] { all.all_reduce(tensors); }), "share memory");
      EXPECT_CONTAINS(message_of([&] { all.broadcast(tensors, 0); }), "share memory");
    }
    all.all_reduce(std::vector{x.rows_view(2, 4), other, x.rows_view(0, 2)});
  }));
}

TEST(DeviceCommunicator, OneRankSeesWhichArgumentsDoNotFit) {
  expect_good(on_ranks(1, [&](Communicator& all) {
    const Tensor host = Tensor::zeros({2, 3}, DType::f32), there = host.to(all.device());
    EXPECT_CONTAINS(message_of([&] { all.all_reduce(host); }),
                    "[all_reduce] (2, 3) float32 is on cpu, but rank 0 of 1 communicates for cuda:0");
    EXPECT_CONTAINS(message_of([&] { all.all_reduce(there.to(DType::i64)); }), "no sums of (2, 3) int64 on cuda:0");
    EXPECT_CONTAINS(message_of([&] { all.all_reduce(Tensor()); }), "was not given a value");
    EXPECT_CONTAINS(message_of([&] { all.broadcast(there, 1); }), "[broadcast] there is no rank 1 of 1");
    EXPECT_CONTAINS(message_of([&] { all.broadcast(there, -1); }), "there is no rank -1 of 1");
    EXPECT_CONTAINS(message_of([&] {
                      all.all_gather(there, Tensor::zeros({3, 3}, DType::f32, all.device()));
                    }),
                    "[all_gather] mine (2, 3) float32 of 1 ranks does not make up all (3, 3) float32");
    EXPECT_CONTAINS(message_of([&] { all.all_gather(there, there.to(DType::bf16)); }), "dtypes differ");
    const Tensor longer = Tensor::zeros({5, 3}, DType::f32, all.device());
    EXPECT_CONTAINS(message_of([&] { all.all_gather(longer.rows_view(0, 3), longer.rows_view(1, 4)); }),
                    "not where rank 0 of 1 belongs");
    all.all_reduce(there);  // and it still works
  }));
}

TEST(DeviceCommunicator, RefusesRanksThatAreNot) {
  const CommunicatorId id = make_communicator_id(CudaContext{0});
  EXPECT_CONTAINS(message_of([&] { join_communicator(CudaContext{0}, id, 2, 2); }), "there is no rank 2 of 2");
  EXPECT_CONTAINS(message_of([&] { join_communicator(CudaContext{63}, id, 0, 2); }), "there is no device cuda:63");
}

TEST(DeviceCommunicator, ARankThatDoesNotComeIsAnError) {
  const CommunicatorId id = make_communicator_id(CudaContext{0});
  EXPECT_CONTAINS(message_of([&] { join_communicator(CudaContext{0}, id, 0, 2, 0.5); }),
                  "after 0.5 s other ranks have not come");
  EXPECT_EQ(Tensor::full({2}, DType::f32, 3, device()).at(1), 3);
}

TEST(DeviceCommunicator, TwoRanksOnOneDeviceAreRefused) {
  const CommunicatorId id = make_communicator_id(CudaContext{0});
  std::vector<std::string> messages(2);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank)
    threads.emplace_back([&, rank] {
      messages[static_cast<size_t>(rank)] = message_of([&] { join_communicator(CudaContext{0}, id, rank, 2, 20); });
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& message : messages) EXPECT_CONTAINS(message, "invalid usage");
}

// The ways to wait for the device. None of them may last for ever when another rank has failed.
void read_number(const Tensor& x) {
  x.at(0);
}
void wait_for_all(const Tensor& x) {
  synchronize(x.device());
}
void upload_twice(const Tensor& x) {
  const CudaContext here{x.device().index};
  const std::vector<float> values(static_cast<size_t>(x.numel()));
  upload_used(here, 0);
  try {
    for (int i = 0; i < 2; ++i) upload_begin(here, 0, x.raw(), values.data(), x.bytes());
  } catch (const Error&) {
    upload_await(here, 0);  // the first copy may still write to x, whose memory others get afterwards
    throw;
  }
}

void expect_error_where_another_fails(void (*wait)(const Tensor&)) {
  const auto messages = on_ranks(
      2,
      [&](Communicator& all) {
        const Tensor x = Tensor::full({100}, DType::f32, 1, all.device());
        all.all_reduce(x);
        if (all.rank() == 1) {
          synchronize(x.device());  // what both have asked for succeeds
          fail("test", "out of luck");
        }
        std::string message = "nothing was thrown";
        try {
          all.all_reduce(x);
          wait(x);
        } catch (const Error& e) {
          message = e.what();
        }
        EXPECT_CONTAINS(message, "[nccl] rank 0 of 2 on cuda:0");
        // Of a rank on the same machine NCCL tells nothing; what it does tell is not to be waited for.
        if (describe(CudaContext{0}).name == "emulated device") EXPECT_CONTAINS(message, "rank 1 aborted");
        EXPECT_CONTAINS(message_of([&] { all.all_reduce(x); }), "cannot be used any more");
      },
      3);
  EXPECT_EQ(messages[0], "");
  EXPECT_EQ(messages[1], "[test] out of luck");
  EXPECT_EQ(Tensor::full({2}, DType::f32, 3, device()).at(1), 3);  // the device still works
}
TEST(DeviceCommunicator, ARankThatFailsEndsAReadElsewhere) {
  NEEDS_DEVICES(2);
  expect_error_where_another_fails(read_number);
}
TEST(DeviceCommunicator, ARankThatFailsEndsAWaitElsewhere) {
  NEEDS_DEVICES(2);
  expect_error_where_another_fails(wait_for_all);
}
TEST(DeviceCommunicator, ARankThatFailsEndsAnUploadElsewhere) {
  NEEDS_DEVICES(2);
  expect_error_where_another_fails(upload_twice);
}

// It is alive, so that only the time tells.
TEST(DeviceCommunicator, ARankThatMakesOtherCallsIsAnError) {
  NEEDS_DEVICES(2);
  std::atomic<bool> over = false;
  const auto messages = on_ranks(
      2,
      [&](Communicator& all) {
        const Tensor x = Tensor::full({100}, DType::f32, 1, all.device());
        if (all.rank() == 1) {
          while (!over) std::this_thread::sleep_for(std::chrono::milliseconds(1));
          return;
        }
        all.all_reduce(x);
        EXPECT_CONTAINS(message_of([&] { x.at(0); }), "after 1 s the device is still not done");
        over = true;
      },
      1);
  EXPECT_EQ(messages[0], "");
}

TEST(DeviceCommunicator, AloneNeedsNoLibrary) {
  for (const Device where : {Device{}, device()}) {
    const auto one = alone(where);
    EXPECT_EQ(one->size(), 1);
    const Tensor x = values(0, {4, 3}, DType::f32).to(where), y = zeros_like(x);
    one->all_reduce(x);
    one->broadcast(x, 0);
    one->all_gather(x, y);
    one->all_gather(x, x);
    for (const Tensor& z : {x, y}) expect_elements(z, [](int64_t i) { return value(0, i); });
    EXPECT_CONTAINS(message_of([&] { one->broadcast(x, 1); }), "there is no rank 1 of 1");
  }
}

}  // namespace
}  // namespace duet::train
