#include "duet/core/parallel.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

namespace duet {
namespace {

// Restores the number of threads.
struct Threads {
  int before = threads();
  explicit Threads(int count) { set_threads(count); }
  ~Threads() { set_threads(before); }
};

int64_t sum_to(int64_t n) {
  std::atomic<int64_t> total = 0;
  parallel_for(n, 1, [&](int64_t begin, int64_t end) {
    int64_t part = 0;
    for (int64_t i = begin; i < end; ++i) part += i;
    total += part;
  });
  return total;
}

TEST(Parallel, EveryItemOnceForAnyNumberOfThreads) {
  for (const int count : {1, 2, 3, 8, 2}) {
    const Threads scope(count);
    for (const int64_t n : {0, 1, 2, 7, 8, 9, 1000}) EXPECT_EQ(sum_to(n), n * (n - 1) / 2) << count << ' ' << n;
  }
}

TEST(Parallel, ThePartitionDependsOnSizesAndThreadsOnly) {
  const Threads scope(3);
  const auto partition = [](int64_t n, int64_t grain, int64_t per_thread) {
    std::mutex mutex;
    std::set<std::pair<int64_t, int64_t>> parts;
    parallel_for(
        n, grain,
        [&](int64_t begin, int64_t end) {
          const std::scoped_lock lock(mutex);
          parts.emplace(begin, end);
        },
        per_thread);
    return parts;
  };
  using Parts = std::set<std::pair<int64_t, int64_t>>;
  EXPECT_EQ(partition(7, 1, 1), (Parts{{0, 2}, {2, 4}, {4, 7}}));
  EXPECT_EQ(partition(7, 1, 2), (Parts{{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 7}}));
  EXPECT_EQ(partition(7, 3, 4), (Parts{{0, 3}, {3, 7}}));
  EXPECT_EQ(partition(1200, 100, 4).size(), 12u);
}

// A thread that is held up keeps no chunk from the others but the one it has begun.
TEST(Parallel, OthersTakeTheChunksOfASlowThread) {
  const Threads scope(2);
  std::atomic<int> done = 0;
  bool alone = false;
  parallel_for(
      8, 1,
      [&](int64_t begin, int64_t) {
        if (begin == 0) {
          const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
          while (done < 7 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
          alone = done == 7;
        }
        ++done;
      },
      4);
  EXPECT_TRUE(alone);
}

TEST(WorkShares, OwnOnesFromTheFrontOthersFromTheBack) {
  WorkShares shares(2);
  EXPECT_EQ(shares.take(0), -1);
  shares.deal(5);  // 0 and 1; 2, 3 and 4
  for (const int64_t want : {0, 1, 4, 3}) EXPECT_EQ(shares.take(0), want);
  EXPECT_EQ(shares.take(1), 2);
  for (const int thread : {0, 1, 2}) EXPECT_EQ(shares.take(thread), -1);
  shares.deal(3);  // 0; 1 and 2
  for (const int64_t want : {0, 2, 1, -1}) EXPECT_EQ(shares.take(2), want) << "a thread without a share";
}

TEST(WorkShares, EachNumberOnceHoweverManyTake) {
  constexpr int takers = 4;
  constexpr int64_t n = 100'000;
  WorkShares shares(3);
  shares.deal(n);
  std::vector<std::atomic<int>> taken(n);
  std::vector<std::thread> crew;
  for (int t = 0; t < takers; ++t)
    crew.emplace_back([&, t] {
      for (int64_t i; (i = shares.take(t)) >= 0;) ++taken[static_cast<size_t>(i)];
    });
  for (std::thread& thread : crew) thread.join();
  for (const auto& count : taken) ASSERT_EQ(count, 1);
}

TEST(Parallel, ThreadsSleepAndWakeUp) {
  const Threads scope(3);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(sum_to(100), 4950);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // longer than they look for work
  }
  for (int i = 0; i < 2000; ++i) ASSERT_EQ(sum_to(3), 3);
}

TEST(Parallel, InnerLoopsRunOnTheirThread) {
  const Threads scope(4);
  std::atomic<int> inner = 0;
  parallel_for(4, 1, [&](int64_t, int64_t) {
    EXPECT_EQ(threads(), 1);
    const auto here = std::this_thread::get_id();
    parallel_for(10, 1, [&](int64_t begin, int64_t end) {
      EXPECT_EQ(std::this_thread::get_id(), here);
      inner += static_cast<int>(end - begin);
    });
  });
  EXPECT_EQ(inner, 40);
  EXPECT_EQ(threads(), 4);
}

TEST(Parallel, TheFirstExceptionComesOutAndTheRestRuns) {
  const Threads scope(4);
  for (int i = 0; i < 100; ++i) {
    std::atomic<int> ran = 0;
    try {
      parallel_for(4, 1, [&](int64_t begin, int64_t) {
        ++ran;
        if (begin >= 1) throw std::runtime_error(std::to_string(begin));
      });
      FAIL();
    } catch (const std::runtime_error& e) {
      EXPECT_STREQ(e.what(), "1");
    }
    EXPECT_EQ(ran, 4);
    EXPECT_EQ(threads(), 4);
  }
}

// Loader threads compute too: loops from several threads at once neither mix nor wait for each other forever.
TEST(Parallel, LoopsOfSeveralThreadsAtOnce) {
  const Threads scope(2);
  std::vector<std::thread> callers;
  std::atomic<int> right = 0;
  for (int t = 0; t < 4; ++t)
    callers.emplace_back([&] {
      for (int i = 0; i < 500; ++i) right += sum_to(50) == 1225;
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(right, 2000);
}

#if !defined(__SANITIZE_THREAD__)
TEST(Parallel, AChildProcessHasThreadsOfItsOwn) {
  const Threads scope(2);
  EXPECT_EQ(sum_to(10), 45);
  const pid_t child = fork();
  if (child == 0) _exit(sum_to(10) == 45 ? 0 : 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(sum_to(10), 45);
}
#endif

}  // namespace
}  // namespace duet
