#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>

#include "duet/core/cpu.h"
#include "duet/core/error.h"
#include "duet/core/json.h"
#include "duet/tests/tools/run_duet.h"
#include "duet/tools/machine.h"

namespace duet::tools {
namespace {

TEST(Info, JsonNamesDeviceLibrariesAndBuild) {
  const auto run = run_duet("info --json");
  ASSERT_EQ(run.status, 0) << run.err;
  const Json info = parse_json(run.out, "standard output");
  const Json& cpu = info["devices"][0];
  EXPECT_EQ(cpu["name"], "cpu");
  EXPECT_EQ(cpu["model"], cpu_name());
  EXPECT_GE(cpu["threads"].get<int>(), 1);
  EXPECT_EQ(cpu["instruction_sets"].get<std::vector<std::string>>(), instruction_sets());
  EXPECT_EQ(cpu["kernels"], name_of(cpu_instructions()));
  EXPECT_EQ(cpu["dtypes"].size(), cpu_has_bfloat16() ? 2u : 1u);
  EXPECT_GT(cpu["memory_bytes"].get<int64_t>(), int64_t{1} << 28);
  EXPECT_LE(cpu["available_memory_bytes"].get<int64_t>(), cpu["memory_bytes"].get<int64_t>());
  EXPECT_EQ(info["libraries"]["onednn"], onednn_version());
  for (const char* library : {"onednn", "eigen", "libpng", "libjpeg", "zlib", "libdeflate", "nlohmann_json"})
    EXPECT_NE(info["libraries"][library].get<std::string>().find('.'), std::string::npos) << library;
  EXPECT_EQ(info["build"]["cuda"].get<bool>(), cuda_built);
  EXPECT_EQ(info["cuda"].is_null(), info["devices"].size() > 1);  // else it says why there is no GPU
  EXPECT_FALSE(info["build"]["mpi"].get<bool>());
  EXPECT_NE(info["build"]["type"], "");
}

TEST(Info, LinesCarryTheSameValues) {
  const auto run = run_duet("info");
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out.find("bfloat16        yes\n") != run.out.npos, cpu_has_bfloat16()) << run.out;
  for (const std::string& line : {"device          cpu: " + cpu_name() + "\n",
                                  "kernels         " + std::string(name_of(cpu_instructions())) + "\n",
                                  "onednn          " + onednn_version() + "\n",
                                  std::string(cuda_built ? "cuda" : "cuda            not in this build\n")})
    EXPECT_NE(run.out.find(line), std::string::npos) << run.out;
  EXPECT_EQ(run_duet("--version").out, run.out.substr(0, 4) + " " + run.out.substr(16, run.out.find('\n') - 15));
}

TEST(Machine, DescriptionNamesProcessorThreadsAndOneDnn) {
  const std::string description = machine_description();
  EXPECT_EQ(description.find("cpu: " + cpu_name() + ", "), 0u) << description;
  EXPECT_NE(description.find(" threads, "), std::string::npos) << description;
  EXPECT_NE(description.find(text("kernels for ", name_of(cpu_instructions()))), std::string::npos) << description;
  EXPECT_EQ(description.find(" + bf16, ") != description.npos, cpu_has_bfloat16()) << description;
  EXPECT_NE(description.find("oneDNN " + onednn_version()), std::string::npos) << description;
}

// Output that cannot be written is a failure, also of --help.
TEST(Output, AFullDiskBehindStandardOutputIsAnError) {
  for (const char* arguments : {"info", "--help", "embed --help"}) {
    const std::string command = std::string(DUET_BINARY) + " " + arguments + " > /dev/full 2> /dev/null";
    const int status = std::system(command.c_str());
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << command;
  }
}

}  // namespace
}  // namespace duet::tools
