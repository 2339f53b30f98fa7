#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <regex>
#include <set>
#include <sstream>

#include "duet/autograd/engine.h"
#include "duet/autograd/gradcheck.h"
#include "duet/core/file.h"
#include "duet/core/parallel.h"
#include "duet/ops/concat.h"
#include "duet/ops/reshape.h"
#include "duet/tests/ops/op_cases.h"

namespace duet::ops {
namespace {

// A backend and dtype that every row runs on. Tolerances are relative to the largest element of the tensor.
struct Setting {
  Device device;
  DType dtype;
  double value_tolerance, gradient_tolerance;
};
const std::vector<Setting> settings = {{{}, DType::f64, 1e-13, 1e-12}, {{}, DType::f32, 2e-6, 1e-5}};

// Restores the thread count.
struct Threads {
  explicit Threads(int count) : before(threads()) { set_threads(count); }
  ~Threads() { set_threads(before); }
  int before;
};

Random random_for(const OpCase& row, const Sizes& sizes) {
  RandomKey key = RandomKey{42, 0}.child(row.name());
  for (const int64_t size : sizes) key = key.child(static_cast<uint64_t>(size));
  return Random(key);
}

std::string text_of(const OpCase& row, const Sizes& sizes, const Setting& setting) {
  return text(row.name(), ' ', shape_of(sizes).rank() ? text(shape_of(sizes)) : "()", ' ', setting.device, ' ',
              setting.dtype);
}

struct Result {
  std::vector<Tensor> values, gradients;
};

// Forward and backward with fixed random output gradients, the same numbers for every dtype.
Result run(const OpCase& row, const OpInputs& inputs) {
  std::vector<Variable> x;
  for (const Tensor& t : inputs.trainable) x.emplace_back(t, true);
  const std::vector<Variable> outputs = row.run(x, inputs);
  Random random(RandomKey{9, 9});
  Result result;
  std::vector<Tensor> seeds;
  for (const Variable& y : outputs) {
    result.values.push_back(y.data());
    // bf16 numbers are exact in every floating dtype.
    seeds.push_back(random_normal(y.shape(), random).to(DType::bf16).to(y.dtype()));
  }
  result.gradients = gradients(outputs, seeds, x);
  return result;
}

double largest(const Tensor& tensor, double result) {
  for (int64_t i = 0; i < tensor.numel(); ++i) result = std::max(result, std::abs(tensor.at(i)));
  return result;
}

void expect_close(const Tensor& got, const Tensor& want, double tolerance, double magnitude, const std::string& what) {
  ASSERT_EQ(got.shape(), want.shape()) << what;
  const double limit = tolerance * largest(want, magnitude);
  int64_t worst = -1;
  double error = limit;
  for (int64_t i = 0; i < want.numel(); ++i) {
    const double e = std::abs(got.at(i) - want.at(i));
    if (e <= error) continue;  // NaN is not
    worst = i;
    error = e;
  }
  if (worst >= 0)
    ADD_FAILURE() << what << ": element " << worst << " is " << got.at(worst) << ", expected " << want.at(worst)
                  << ", error " << error << " > " << limit;
}

bool same_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  bool same = a.size() == b.size();
  for (size_t i = 0; same && i < a.size(); ++i)
    same = a[i].defined() == b[i].defined() &&
           (!a[i].defined() || (a[i].shape() == b[i].shape() && a[i].dtype() == b[i].dtype() &&
                                std::memcmp(a[i].raw(), b[i].raw(), a[i].bytes()) == 0));
  return same;
}

std::vector<Sizes> all_sizes(const OpCase& row) {
  std::vector<Sizes> result = row.sizes;
  result.push_back(row.large);
  return result;
}

class OpTable : public ::testing::TestWithParam<OpCase> {};

TEST_P(OpTable, ValuesMatchTheNaiveLoop) {
  const OpCase& row = GetParam();
  for (const Setting& setting : settings)
    for (const Sizes& sizes : all_sizes(row)) {
      Random random = random_for(row, sizes);
      const OpInputs inputs = row.make(sizes, random).to(setting.dtype);
      const std::vector<Tensor> want = row.reference(inputs.to(DType::f64));
      const std::vector<Tensor> got = run(row, inputs).values;
      ASSERT_EQ(got.size(), want.size());
      // Long sums round more.
      const double tolerance = setting.value_tolerance * (sizes == row.large ? 10 : 1);
      for (size_t i = 0; i < want.size(); ++i)
        expect_close(got[i], want[i], tolerance, row.magnitude, text(text_of(row, sizes, setting), " output ", i));
    }
}

TEST_P(OpTable, GradientsMatchDifferences) {
  const OpCase& row = GetParam();
  if (!row.true_derivative) return;
  const Threads scope(1);  // thousands of tiny calls
  for (const Sizes& sizes : row.sizes) {
    Random random = random_for(row, sizes);
    const OpInputs inputs = row.make(sizes, random);
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
  const OpCase& row = GetParam();
  for (const Setting& setting : settings)
    for (const Sizes& sizes : all_sizes(row)) {
      Random random = random_for(row, sizes);
      const OpInputs inputs = row.make(sizes, random).to(setting.dtype);
      const Result want = run(row, inputs.to(DType::f64)), got = run(row, inputs);
      ASSERT_EQ(got.gradients.size(), inputs.trainable.size());
      const double tolerance = setting.gradient_tolerance * (sizes == row.large ? 10 : 1);
      for (size_t i = 0; i < inputs.trainable.size(); ++i) {
        ASSERT_EQ(got.gradients[i].defined(), want.gradients[i].defined());
        if (!want.gradients[i].defined()) continue;
        EXPECT_EQ(got.gradients[i].dtype(), setting.dtype);
        expect_close(got.gradients[i], want.gradients[i], tolerance, row.magnitude,
                     text(text_of(row, sizes, setting), " gradient ", i));
      }
    }
}

TEST_P(OpTable, RepeatsBitForBit) {
  const OpCase& row = GetParam();
  for (const Setting& setting : settings) {
    Random random = random_for(row, row.large);
    const OpInputs inputs = row.make(row.large, random).to(setting.dtype);
    Result one;
    for (const int count : {1, 2, 3}) {
      const Threads scope(count);
      const Result first = run(row, inputs), second = run(row, inputs);
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

// Names of the functions in a header that return a Variable or a struct of them. Kernels are templates.
std::set<std::string> public_ops(const std::string& header) {
  static const std::regex declaration(R"(^(?:Variable|std::vector<Variable>|[A-Z]\w+) (\w+)\(.*)");
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
    if (entry.path().extension() == ".h")
      for (const std::string& op : public_ops(read_file(entry.path().string()))) {
        ops.insert(op);
        EXPECT_TRUE(rows.contains(op)) << entry.path().filename() << ": " << op << " has no row in tests/ops/op_cases";
      }
  for (const std::string& op : rows) EXPECT_TRUE(ops.contains(op)) << op << " is in the table but in no ops/*.h";
  EXPECT_GE(ops.size(), 27u);
}

}  // namespace
}  // namespace duet::ops
