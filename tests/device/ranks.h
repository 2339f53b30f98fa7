#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "duet/core/backend.h"
#include "duet/train/communicator.h"

// Ranks of one job as threads of the test, each with a device of its own.
namespace duet::testing {

inline int devices() {
  std::string why;
  return device_count(CudaContext{}, why);
}
// As many as there are devices, at most four.
inline int most_ranks() {
  return std::min(devices(), 4);
}

#define NEEDS_DEVICES(count)            \
  if (duet::testing::devices() < count) \
  GTEST_SKIP() << "skipped: needs " << count << " CUDA devices, and there is " << duet::testing::devices()

// Calls f(communicator) on `size` ranks. Returns what each threw, "" for nothing.
inline std::vector<std::string> on_ranks(int size, const std::function<void(train::Communicator&)>& f,
                                         double patience = 60) {
  const train::CommunicatorId id = train::make_communicator_id(CudaContext{0});
  std::vector<std::string> messages(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      try {
        const auto communicator = train::join_communicator(CudaContext{rank}, id, rank, size, patience);
        f(*communicator);
        synchronize(CudaContext{rank});
      } catch (const std::exception& e) {
        messages[static_cast<size_t>(rank)] = e.what();
      }
    });
  for (std::thread& thread : threads) thread.join();
  return messages;
}

inline void expect_good(const std::vector<std::string>& messages) {
  for (size_t rank = 0; rank < messages.size(); ++rank) EXPECT_EQ(messages[rank], "") << "rank " << rank;
}

}  // namespace duet::testing
