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
    EXPECT_GT(result["data_cost"].get<double>(), -1);
    EXPECT_GT(result["data_seconds"].get<double>(), 0);
    EXPECT_LT(result["data_seconds"].get<double>(), result["step_seconds"].get<double>());
  }
}

}  // namespace
}  // namespace duet::testing
