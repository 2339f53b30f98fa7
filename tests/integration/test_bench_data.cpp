#include <gtest/gtest.h>

#include "duet/tests/integration/tiny_data.h"

namespace duet::testing {
namespace {

TEST(BenchData, TellsWhatMakingBatchesCosts) {
  const TinyData data;
  for (const std::vector<std::string>& more :
       std::vector<std::vector<std::string>>{{}, {"--cached"}, {"--workers", "2"}}) {
    std::vector<std::string> command{"bench",     "step",    "--size",     "mini",      "--batch", "4",
                                     "--seq",     "8",       "--steps",    "9",         "--json",  "--data",
                                     data.path(), "--vocab", data.vocab(), "--threads", "2"};
    command.insert(command.end(), more.begin(), more.end());
    const Finished f = run(command);
    ASSERT_EQ(f.status, 0) << f.err;
    const Json result = parse_json(f.out, "bench");
    EXPECT_TRUE(result["data_cost"].is_number());
    EXPECT_GT(result["data_seconds"].get<double>(), 0);
    // Parts and whole are medians of their own, of nine steps that other processes disturb.
    double parts = 0;
    for (const char* part : {"data", "forward", "backward", "clip", "optimizer"})
      parts += result[std::string(part) + "_seconds"].get<double>();
    EXPECT_GT(parts, 0.3 * result["step_seconds"].get<double>());
    EXPECT_LT(parts, 1.5 * result["step_seconds"].get<double>());
    EXPECT_LE(result["allocations_per_step"].get<double>(), 1);
  }
}

}  // namespace
}  // namespace duet::testing
