#include "duet/train/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace duet::train {
namespace {

// One row of scores with its largest at `prediction`.
void add(std::vector<float>& scores, std::vector<int64_t>& labels, int64_t label, size_t prediction, size_t classes) {
  for (size_t c = 0; c < classes; ++c) scores.push_back(c == prediction ? 0.7f : 0.1f);
  labels.push_back(label);
}

void expect_error(const std::vector<float>& scores, const std::vector<int64_t>& labels, size_t classes,
                  const std::string& reason) {
  try {
    ClassificationMetrics(scores, labels, classes);
    ADD_FAILURE() << "accepted; expected: " << reason;
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(reason), std::string::npos) << e.what();
  }
}

// Truth (rows) against prediction, worked out by hand:
//           a  b  c  d
//       a   2  1  0  0     precision 2/2  recall 2/3  F1 4/5
//       b   0  1  1  0     precision 1/2  recall 1/2  F1 1/2
//       c   0  0  0  0     predicted once and never right: F1 0
//       d   0  0  0  0     occurs nowhere
struct ByHand {
  ByHand() {
    for (const auto& [label, prediction] :
         std::vector<std::pair<int64_t, size_t>>{{0, 0}, {0, 0}, {0, 1}, {1, 1}, {1, 2}})
      add(scores, labels, label, prediction, 4);
  }
  std::vector<float> scores;
  std::vector<int64_t> labels;
};

TEST(ClassificationMetrics, AgreesWithValuesWorkedOutByHand) {
  const ByHand data;
  const ClassificationMetrics m(data.scores, data.labels, 4);
  EXPECT_EQ(m.samples(), 5);
  EXPECT_DOUBLE_EQ(m.accuracy(), 3.0 / 5);
  EXPECT_DOUBLE_EQ(m.top5(), 1);
  // d counts nowhere, c counts as 0.
  EXPECT_DOUBLE_EQ(m.macro_f1(), (0.8 + 0.5 + 0) / 3);
  EXPECT_EQ(m.confusion(), (std::vector<std::vector<int64_t>>{{2, 1, 0, 0}, {0, 1, 1, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}}));
  EXPECT_DOUBLE_EQ(m.scores(0).precision, 1);
  EXPECT_DOUBLE_EQ(m.scores(0).recall, 2.0 / 3);
  EXPECT_DOUBLE_EQ(m.scores(0).f1, 0.8);
  EXPECT_DOUBLE_EQ(m.scores(1).precision, 0.5);
  EXPECT_EQ(m.scores(1).support, 2);
  EXPECT_EQ(m.scores(2).support, 0);
  EXPECT_EQ(m.scores(2).predicted, 1);
  EXPECT_DOUBLE_EQ(m.scores(2).recall, 0);
  EXPECT_DOUBLE_EQ(m.scores(3).f1, 0);
}

TEST(ClassificationMetrics, LeavesOutUnlabelledRows) {
  ByHand data;
  add(data.scores, data.labels, -1, 3, 4);
  const ClassificationMetrics m(data.scores, data.labels, 4);
  EXPECT_EQ(m.samples(), 5);
  EXPECT_DOUBLE_EQ(m.accuracy(), 3.0 / 5);
  EXPECT_EQ(m.scores(3).predicted, 0);
}

TEST(ClassificationMetrics, HasNothingToSayWithoutLabels) {
  std::vector<float> scores;
  std::vector<int64_t> labels;
  add(scores, labels, -1, 0, 3);
  for (const ClassificationMetrics& m : {ClassificationMetrics(scores, labels, 3),
                                         ClassificationMetrics(std::vector<float>{}, std::vector<int64_t>{}, 3)}) {
    EXPECT_EQ(m.samples(), 0);
    EXPECT_THROW(m.accuracy(), Error);
    EXPECT_THROW(m.top5(), Error);
    EXPECT_THROW(m.macro_f1(), Error);
  }
}

TEST(ClassificationMetrics, CountsTheFirstFiveByScore) {
  // Scores fall with the class: the label's rank is its index.
  const std::vector<float> row{0.3f, 0.2f, 0.15f, 0.14f, 0.1f, 0.06f, 0.05f};
  std::vector<float> scores;
  for (int i = 0; i < 7; ++i) scores.insert(scores.end(), row.begin(), row.end());
  const ClassificationMetrics m(scores, std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6}, 7);
  EXPECT_DOUBLE_EQ(m.top5(), 5.0 / 7);
  EXPECT_DOUBLE_EQ(m.accuracy(), 1.0 / 7);
}

TEST(ClassificationMetrics, BreaksTiesTowardsTheSmallerIndex) {
  // A model that says the same everywhere: right for class 0, in the top five for classes 0 to 4 only.
  const std::vector<float> scores(8 * 8, 0.125f);
  const ClassificationMetrics m(scores, std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7}, 8);
  EXPECT_DOUBLE_EQ(m.accuracy(), 1.0 / 8);
  EXPECT_DOUBLE_EQ(m.top5(), 5.0 / 8);
}

TEST(ClassificationMetrics, RefusesWhatItCannotCount) {
  expect_error({0.1f, 0.9f}, {2}, 2, "row 0 has label 2");
  expect_error({0.1f, 0.9f, 0.5f, 0.5f}, {1, -2}, 2, "row 1 has label -2");
  expect_error({0.1f, 0.9f, 0.5f}, {1, 0}, 2, "need 4 probabilities, got 3");
  expect_error({0.1f, std::numeric_limits<float>::quiet_NaN()}, {0}, 2, "row 0 holds a NaN");
  expect_error({}, {}, 0, "at least one class");
}

TEST(ClassificationMetrics, WritesTheJsonThatOthersRead) {
  const ByHand data;
  const ClassificationMetrics m(data.scores, data.labels, 4);
  const Json json = m.to_json({"a", "b", "c", "d"}, 1.25);
  EXPECT_DOUBLE_EQ(json["accuracy"], 0.6);
  EXPECT_DOUBLE_EQ(json["macro_f1"], m.macro_f1());
  EXPECT_DOUBLE_EQ(json["top5"], 1);
  EXPECT_DOUBLE_EQ(json["loss"], 1.25);
  EXPECT_EQ(json["confusion"][0], (Json{2, 1, 0, 0}));
  EXPECT_EQ(json["labels"], (Json{"a", "b", "c", "d"}));
  EXPECT_EQ(json["per_class"].size(), 4u);
  EXPECT_EQ(json["per_class"][1]["label"], "b");
  EXPECT_DOUBLE_EQ(json["per_class"][1]["recall"], 0.5);
  EXPECT_EQ(json["per_class"][1]["support"], 2);
  EXPECT_THROW(m.to_json({"a"}, 0), Error);
}

TEST(ClassificationMetrics, PrintsAnAlignedTable) {
  const ByHand data;
  const ClassificationMetrics m(data.scores, data.labels, 4);
  EXPECT_EQ(m.table({"animals", "\u5730\u56F3", "ch\u00E2teau", "none"}),
            "accuracy  60.0 %  (3 of 5)\n"
            "macro F1  43.3 %\n"
            "\n"
            "class    precision  recall      F1  samples   most often taken for\n"
            "animals    100.0 %  66.7 %  80.0 %        3   \u5730\u56F3 (1)\n"
            "\u5730\u56F3        50.0 %  50.0 %  50.0 %        2   ch\u00E2teau (1)\n"
            "ch\u00E2teau      0.0 %       -   0.0 %        0\n"
            "none             -       -       -        0\n");
}

}  // namespace
}  // namespace duet::train
