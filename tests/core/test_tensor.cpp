#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "duet/core/allocator.h"
#include "duet/core/parallel.h"
#include "duet/core/philox.h"
#include "duet/core/tensor.h"

namespace duet {
namespace {

TEST(Tensor, ViewsShareMemoryAndClonesDoNot) {
  const Tensor a = Tensor::from<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(a.rows_view(1, 2).at(0), 4);
  a.reshape({6}).fill(9);
  EXPECT_EQ(a.at(5), 9);
  const Tensor b = a.clone();
  a.fill(1);
  EXPECT_EQ(b.at(0), 9);
  EXPECT_FALSE(a.reshape({3, 2}).unique());
  EXPECT_TRUE(b.unique());
}

TEST(Tensor, ErrorsNameShapesAndDtypes) {
  const Tensor a = Tensor::zeros({2, 3}, DType::f32);
  const auto message = [](auto&& f) {
    try {
      f();
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(message([&] { a.reshape({4}); }), "[reshape] (2, 3) float32 does not fit (4)");
  EXPECT_EQ(message([&] { a.data<double>(); }), "[tensor] read as float64 but holds float32");
  EXPECT_NE(message([&] { a.dim(2); }).find("axis 2 out of range for (2, 3)"), std::string::npos);
  EXPECT_NE(message([&] { a.item(); }).find("one element"), std::string::npos);
}

TEST(Tensor, EmptyDimensionsAndScalars) {
  EXPECT_EQ(Tensor::zeros({0, 4}, DType::f64).numel(), 0);
  EXPECT_EQ(Tensor::full({}, DType::f64, 2.5).item(), 2.5);
}

TEST(Bf16, RoundsToNearestEvenAndKeepsNan) {
  EXPECT_EQ(static_cast<float>(bf16(1.00390625f)), 1.0f);       // halfway, even below
  EXPECT_EQ(static_cast<float>(bf16(1.01171875f)), 1.015625f);  // halfway, even above
  EXPECT_TRUE(std::isnan(static_cast<float>(bf16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_EQ(static_cast<float>(bf16(3.4e38f)), std::numeric_limits<float>::infinity());
}

#if !defined(__SANITIZE_ADDRESS__)
TEST(Allocator, LargeBlocksShareMemoryWhateverTheirSizes) {
  CachingAllocator allocator(cpu_memory());
  constexpr size_t mebibyte = size_t{1} << 20;
  void* const first = allocator.allocate(8 * mebibyte);
  void* const second = allocator.allocate(8 * mebibyte);
  void* const third = allocator.allocate(3 * mebibyte);
  EXPECT_EQ(allocator.stats().system_allocations, 1);
  const int64_t in_use = allocator.stats().in_use_bytes;
  // Freed in either order, neighbours become one block again, and what is between others is found.
  allocator.release(second, 8 * mebibyte);
  allocator.release(first, 8 * mebibyte);
  void* const both = allocator.allocate(16 * mebibyte);
  EXPECT_EQ(both, first);
  allocator.release(both, 16 * mebibyte);
  void* const part = allocator.allocate(5 * mebibyte);
  void* const rest = allocator.allocate(11 * mebibyte);
  EXPECT_EQ(part, first);
  EXPECT_EQ(static_cast<char*>(rest), static_cast<char*>(part) + 5 * mebibyte);
  EXPECT_EQ(allocator.stats().system_allocations, 1);
  EXPECT_EQ(allocator.stats().in_use_bytes, in_use);
  // A segment goes back when nothing in it is used.
  allocator.release(rest, 11 * mebibyte);
  allocator.release(part, 5 * mebibyte);
  allocator.trim();
  EXPECT_GT(allocator.stats().reserved_bytes, 0);
  allocator.release(third, 3 * mebibyte);
  allocator.trim();
  EXPECT_EQ(allocator.stats().reserved_bytes, 0);
  EXPECT_EQ(allocator.stats().in_use_bytes, 0);
}

// What stays and what is given back soon take from opposite ends.
TEST(Allocator, LastingBlocksAreCutFromTheEnd) {
  CachingAllocator allocator(cpu_memory());
  constexpr size_t mebibyte = size_t{1} << 20;
  auto* const first = static_cast<char*>(allocator.allocate(mebibyte));
  char *last = nullptr, *before_last = nullptr;
  {
    const LastingBlocks lasting(true);
    last = static_cast<char*>(allocator.allocate(3 * mebibyte));
    const LastingBlocks not_now(false);
    EXPECT_EQ(static_cast<char*>(allocator.allocate(mebibyte)), first + mebibyte);
  }
  EXPECT_FALSE(LastingBlocks::active());
  EXPECT_EQ(last, first + 61 * mebibyte);
  EXPECT_EQ(allocator.stats().in_use_bytes, int64_t{5 * mebibyte});
  {
    const LastingBlocks lasting(true);
    before_last = static_cast<char*>(allocator.allocate(59 * mebibyte));  // all that is free
  }
  EXPECT_EQ(before_last, first + 2 * mebibyte);
  EXPECT_EQ(allocator.stats().system_allocations, 1);
  allocator.release(before_last, 59 * mebibyte);
  allocator.release(first, mebibyte);
  allocator.release(first + mebibyte, mebibyte);
  allocator.release(last, 3 * mebibyte);
  EXPECT_EQ(static_cast<char*>(allocator.allocate(64 * mebibyte)), first);
}

TEST(Allocator, SmallBlocksShareSlabs) {
  CachingAllocator allocator(cpu_memory());
  std::vector<std::pair<char*, size_t>> blocks;
  for (size_t i = 0; i < 1000; ++i) {
    const size_t bytes = 1 + i * 7 % 3000;
    auto* const block = static_cast<char*>(allocator.allocate(bytes));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % 64, 0u);
    std::fill_n(block, bytes, static_cast<char>(i));
    blocks.emplace_back(block, bytes);
  }
  EXPECT_EQ(allocator.stats().system_allocations, 1);
  for (size_t i = 0; i < blocks.size(); ++i) {
    const auto& [block, bytes] = blocks[i];
    ASSERT_EQ(std::count(block, block + bytes, static_cast<char>(i)), static_cast<std::ptrdiff_t>(bytes));
  }
  // They stay while one of them is used, and go with the last.
  for (size_t i = 1; i < blocks.size(); ++i) allocator.release(blocks[i].first, blocks[i].second);
  allocator.trim();
  EXPECT_EQ(blocks[0].first[0], 0);
  EXPECT_GT(allocator.stats().reserved_bytes, 0);
  allocator.release(blocks[0].first, blocks[0].second);
  allocator.trim();
  EXPECT_EQ(allocator.stats().reserved_bytes, 0);
  // A slab that is full is followed by another, and closing gives back what is released later, too.
  void* const one = allocator.allocate(100 << 10);
  for (int i = 0; i < 30; ++i) allocator.release(allocator.allocate(size_t(90 + i) << 10), size_t(90 + i) << 10);
  allocator.close();
  EXPECT_GT(allocator.stats().reserved_bytes, 0);
  allocator.release(one, 100 << 10);
  EXPECT_EQ(allocator.stats().reserved_bytes, 0);
}

// Where there is no room for a slab, small blocks are taken alone; messages say what was wanted.
TEST(Allocator, SmallBlocksWithoutRoomForASlab) {
  static size_t room = 0;
  CachingAllocator allocator({"test",
                              [](size_t bytes, int) -> void* {
                                if (bytes > room) return nullptr;
                                room -= bytes;
                                return std::aligned_alloc(64, (bytes + 63) / 64 * 64);
                              },
                              [](void* block, int) { std::free(block); }, size_t{64} << 20});
  room = 2000;
  void* const first = allocator.allocate(1000);
  EXPECT_EQ(allocator.stats().reserved_bytes, 1024);
  EXPECT_EQ(room, 2000u - 1024u);
  allocator.release(first, 1000);
  EXPECT_EQ(allocator.allocate(1000), first);
  std::string message;
  try {
    allocator.allocate(1000);
  } catch (const Error& error) {
    message = error.what();
  }
  EXPECT_NE(message.find("out of test memory: 1000 bytes wanted"), std::string::npos) << message;
  allocator.release(first, 1000);
}

// Blocks never overlap, and nothing is lost, whatever the order of requests.
TEST(Allocator, RandomLargeBlocksKeepTheirContents) {
  CachingAllocator allocator(cpu_memory());
  struct Block {
    char* data;
    size_t bytes;
    char mark;
  };
  std::vector<Block> blocks;
  Random random(RandomKey{3, 4});
  for (int i = 0; i < 3000; ++i) {
    if (blocks.size() < 12 && random.uniform() < 0.55) {
      const size_t bytes = (size_t{1} << 20) + random.below(6 << 20);
      Block block{static_cast<char*>(allocator.allocate(bytes)), bytes, static_cast<char>(i)};
      block.data[0] = block.data[bytes - 1] = block.data[bytes / 2] = block.mark;
      blocks.push_back(block);
    } else if (!blocks.empty()) {
      const size_t index = random.below(blocks.size());
      const Block block = blocks[index];
      ASSERT_EQ(block.data[0], block.mark);
      ASSERT_EQ(block.data[block.bytes / 2], block.mark);
      ASSERT_EQ(block.data[block.bytes - 1], block.mark);
      allocator.release(block.data, block.bytes);
      blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(index));
    }
  }
  EXPECT_LE(allocator.stats().system_allocations, 3);
  for (const Block& block : blocks) allocator.release(block.data, block.bytes);
  EXPECT_EQ(allocator.stats().in_use_bytes, 0);
  allocator.trim();
  EXPECT_EQ(allocator.stats().reserved_bytes, 0);
}
#endif

// In loops over tensors, which are vectorised, as for single values: every bf16 number, the float halfway to the next
// and its neighbours.
TEST(Bf16, LoopsConvertAsSingleValuesDo) {
  std::vector<bf16> all(1 << 16);
  for (size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<uint16_t>(i);
  const Tensor narrow = Tensor::from({1 << 16}, all), wide = narrow.to(DType::f32), back = wide.to(DType::bf16);
  std::vector<float> between;
  for (size_t i = 0; i < all.size(); ++i) {
    const float value = wide.values<float>()[i];
    ASSERT_EQ(std::bit_cast<uint32_t>(value), uint32_t{all[i].bits} << 16);
    const bool nan = std::isnan(value);
    ASSERT_EQ(back.values<bf16>()[i].bits, nan ? all[i].bits | 0x40 : all[i].bits);
    for (const uint32_t low : {0x0001u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu})
      between.push_back(std::bit_cast<float>(uint32_t{all[i].bits} << 16 | low));
  }
  const Tensor rounded = Tensor::from({static_cast<int64_t>(between.size())}, between).to(DType::bf16);
  for (size_t i = 0; i < between.size(); ++i)
    ASSERT_EQ(rounded.values<bf16>()[i].bits, bf16(between[i]).bits) << std::bit_cast<uint32_t>(between[i]);
}

TEST(Allocator, CountsAndReusesBlocks) {
  CachingAllocator allocator(cpu_memory());
  void* first = allocator.allocate(100000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 64, 0u);
  allocator.release(first, 100000);
  void* second = allocator.allocate(99000);
  allocator.release(second, 99000);
  const AllocatorStats stats = allocator.stats();
  EXPECT_EQ(stats.requests, 2);
  EXPECT_EQ(stats.in_use_bytes, 0);
  EXPECT_GE(stats.peak_in_use_bytes, 100000);
#if !defined(__SANITIZE_ADDRESS__)
  EXPECT_EQ(first, second);
  EXPECT_EQ(stats.system_allocations, 1);
#endif
  allocator.trim();
  EXPECT_EQ(allocator.stats().reserved_bytes, 0);
}

TEST(Parallel, CoversEveryItemOnce) {
  for (const int64_t n : {0, 1, 7, 1000}) {
    std::vector<int> hits(static_cast<size_t>(n));
    parallel_for(n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
    });
    EXPECT_EQ(std::count(hits.begin(), hits.end(), 1), n);
  }
}

}  // namespace
}  // namespace duet
