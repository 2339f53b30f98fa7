#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <regex>
#include <set>
#include <sstream>

#include "duet/autograd/gradcheck.h"
#include "duet/core/file.h"
#include "duet/core/parallel.h"
#include "duet/ops/concat.h"
#include "duet/ops/reshape.h"
#include "duet/tests/ops/op_runner.h"

namespace duet::ops {
namespace {

const std::vector<Setting> settings = {
    {{}, DType::f64, 1e-13, 1e-12}, {{}, DType::f32, 2e-6, 1e-5}, bfloat16_setting({})};

// Restores the thread count.
struct Threads {
  explicit Threads(int count) : before(threads()) { set_threads(count); }
  ~Threads() { set_threads(before); }
  int before;
};

class OpTable : public ::testing::TestWithParam<OpCase> {};

TEST_P(OpTable, ValuesMatchTheNaiveLoop) {
  for (const Setting& setting : settings) check_values(GetParam(), setting);
}

TEST_P(OpTable, GradientsMatchDifferences) {
  const OpCase& row = GetParam();
  if (!row.true_derivative) return;
  const Threads scope(1);  // thousands of tiny calls
  for (const Sizes& sizes : row.sizes) {
    const OpInputs inputs = inputs_for(row, sizes, DType::f64);
    std::vector<Variable> x;
    for (const Tensor& t : inputs.trainable) x.emplace_back(t, true);
    const auto f = [&](const std::vector<Variable>& v) {
      const std::vector<Variable> outputs = row.run(v, inputs);
      if (outputs.size() == 1) return outputs[0];
      std::vector<Variable> flat;
      for (const Variable& y : outputs) flat.push_back(reshape(y, {y.data().numel()}));
      return concat(flat, 0);
    };
    const GradcheckResult result = gradcheck(f, x, 1e-6);
    EXPECT_TRUE(result.ok) << text_of(row, sizes, settings[0]) << ": " << result.worst << ", relative error "
                           << result.worst_error;
  }
}

TEST_P(OpTable, GradientsOfEveryDtypeMatchFloat64) {
  for (const Setting& setting : settings) check_gradients(GetParam(), setting);
}

TEST_P(OpTable, RepeatsBitForBit) {
  const OpCase& row = GetParam();
  for (const Setting& setting : settings) {
    const OpInputs inputs = inputs_for(row, row.large, setting.dtype);
    OpResult one;
    for (const int count : {1, 2, 3}) {
      const Threads scope(count);
      const OpResult first = run(row, inputs), second = run(row, inputs);
      if (count == 1) one = first;
      EXPECT_TRUE(same_bits(first.values, second.values) && same_bits(first.gradients, second.gradients))
          << text_of(row, row.large, setting) << ": two runs with " << count << " threads differ";
      if (row.any_thread_count) {
        EXPECT_TRUE(same_bits(first.values, one.values) && same_bits(first.gradients, one.gradients))
            << text_of(row, row.large, setting) << ": " << count << " threads differ from one";
      }
    }
  }
}

TEST_P(OpTable, RefusesAMistakeNamingIt) {
  const OpCase& row = GetParam();
  try {
    row.mistake();
    FAIL() << row.name() << " accepted the mistake";
  } catch (const Error& e) {
    EXPECT_TRUE(std::string_view(e.what()).starts_with("[" + row.op + "] ")) << e.what();
    for (const std::string& part : row.message)
      EXPECT_NE(std::string_view(e.what()).find(part), std::string_view::npos)
          << part << " is missing in: " << e.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, OpTable, ::testing::ValuesIn(op_cases()),
                         [](const auto& param) { return param.param.name(); });

// Names of the functions in a header that return a Variable or a struct of them. Kernels are templates or return
// vectors.
std::set<std::string> public_ops(const std::string& header) {
  static const std::regex declaration(
      R"(^(?:Variable|std::vector<Variable>|(?!Shape |Floats |Ints |PhiloxBlocks )[A-Z]\w+) (\w+)\(.*)");
  std::set<std::string> result;
  std::istringstream lines(header);
  std::string line, previous;
  for (std::smatch match; std::getline(lines, line); previous = line)
    if (!previous.starts_with("template") && std::regex_match(line, match, declaration)) result.insert(match[1]);
  return result;
}

TEST(OpTableCoverage, FindsOpsInAHeader) {
  const std::string header =
      "namespace x {\n\n// Comment.\nVariable one(const Variable& x);\nVariable two(\n    int y);\n\n"
      "template <class T>\nT kernel(T x);\ntemplate <class T>\nvoid other(CpuContext);\nPair pair(const Variable& x);\n"
      "// After a kernel.\nstd::vector<Variable> several();\nstruct Pair {\n  Variable a;\n};\n";
  EXPECT_EQ(public_ops(header), (std::set<std::string>{"one", "two", "pair", "several"}));
}

TEST(OpTableCoverage, EveryPublicOpHasARow) {
  std::set<std::string> rows, ops, names;
  for (const OpCase& row : op_cases()) {
    rows.insert(row.op);
    EXPECT_TRUE(names.insert(row.name()).second) << row.name() << " occurs twice";
  }
  for (const auto& entry : std::filesystem::directory_iterator(std::string(DUET_SOURCE_DIR) + "/ops"))
    if (entry.path().extension() == ".h" && !entry.path().stem().string().ends_with("_kernels"))
      for (const std::string& op : public_ops(read_file(entry.path().string()))) {
        ops.insert(op);
        EXPECT_TRUE(rows.contains(op)) << entry.path().filename() << ": " << op << " has no row in tests/ops/op_cases";
      }
  for (const std::string& op : rows) EXPECT_TRUE(ops.contains(op)) << op << " is in the table but in no ops/*.h";
  EXPECT_GE(ops.size(), 27u);
}

#ifdef DUET_BENCH_OPS
TEST(OpTableCoverage, EveryOpHasABenchmark) {
  const std::unique_ptr<FILE, int (*)(FILE*)> list(::popen(DUET_BENCH_OPS " --list", "r"), ::pclose);
  ASSERT_NE(list, nullptr);
  std::set<std::string> benchmarks;
  for (char line[100]; std::fgets(line, sizeof line, list.get()) != nullptr;)
    benchmarks.insert(std::string(line, std::string_view(line).find('\n')));
  for (const OpCase& row : op_cases())
    EXPECT_TRUE(benchmarks.contains(row.op)) << row.op << " has no case in bench/ops";
}
#endif

}  // namespace
}  // namespace duet::ops
