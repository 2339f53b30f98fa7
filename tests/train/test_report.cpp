#include "duet/train/report.h"

#include <gtest/gtest.h>

#include <cmath>

#include "duet/tests/train/report_fixture.h"
#include "duet/train/report_text.h"
#include "duet/train/statistics.h"

namespace duet::train {
namespace {

Json cell(const std::string& method, int seed, double accuracy, double fraction = 1) {
  return {
      {"method", method}, {"seed", seed}, {"fraction", fraction}, {"accuracy", accuracy}, {"macro_f1", accuracy / 2}};
}

TEST(Statistics, StudentQuantilesMatchPublishedTables) {
  const struct {
    double probability, degrees, t;
  } rows[] = {{0.975, 1, 12.7062047364},  {0.975, 2, 4.30265272991}, {0.975, 3, 3.18244630528},
              {0.975, 4, 2.77644510520},  {0.975, 9, 2.26215716280}, {0.975, 30, 2.04227245630},
              {0.995, 2, 9.92484320092},  {0.95, 5, 2.01504837333},  {0.9, 10, 1.37218364111},
              {0.975, 1e6, 1.95996635682}};
  for (const auto& r : rows) {
    EXPECT_NEAR(student_t_quantile(r.probability, r.degrees), r.t, 1e-9 * r.t) << r.probability << ", " << r.degrees;
    EXPECT_NEAR(student_t_quantile(1 - r.probability, r.degrees), -r.t, 1e-9 * r.t);
  }
  EXPECT_NEAR(student_t_quantile(0.5, 7), 0, 1e-12);
  EXPECT_THROW(student_t_quantile(1, 3), Error);
}

TEST(Statistics, SpreadAndIntervalByHand) {
  const std::vector<double> values{1, 2, 4, 5};
  const Spread s = spread(values);
  EXPECT_DOUBLE_EQ(s.mean, 3);
  EXPECT_DOUBLE_EQ(*s.sd, std::sqrt(10.0 / 3));
  const Interval i = *confidence_interval(s);
  EXPECT_NEAR(i.high - 3, 3.18244630528 * std::sqrt(10.0 / 3) / 2, 1e-9);
  EXPECT_NEAR(i.low + i.high, 6, 1e-12);
  EXPECT_FALSE(spread(std::vector<double>{7}).sd.has_value());
  EXPECT_FALSE(confidence_interval(spread(std::vector<double>{7})).has_value());
  EXPECT_THROW(spread({}), Error);
}

TEST(Summarise, ComparesTheStrategiesSeedBySeed) {
  // Differences 0.10, 0.12, 0.14: mean 0.12, sd 0.02, half width 4.30265 * 0.02 / sqrt(3) = 0.0496828.
  const Json cells{cell("whole", 0, 0.60),     cell("component", 0, 0.50), cell("whole", 1, 0.70),
                   cell("component", 2, 0.66), cell("component", 1, 0.58), cell("whole", 2, 0.80)};
  const Json report = summarise(cells, {{"command", "duet compare"}});
  EXPECT_EQ(report["command"], "duet compare");
  EXPECT_EQ(report["cells"], cells);
  EXPECT_EQ(report["summary_fraction"], 1.0);
  EXPECT_NEAR(report["summary"]["whole"]["mean"], 0.7, 1e-12);
  EXPECT_NEAR(report["summary"]["whole"]["sd"], 0.1, 1e-12);
  EXPECT_EQ(report["summary"]["whole"]["n"], 3);
  const Json& c = report["comparison"];
  EXPECT_NEAR(c["difference"], 0.12, 1e-12);
  EXPECT_NEAR(c["low"], 0.12 - 0.0496828, 1e-6);
  EXPECT_NEAR(c["high"], 0.12 + 0.0496828, 1e-6);
  EXPECT_EQ(c["winner"], "whole");
  const std::string words = c["recommendation"];
  EXPECT_EQ(words,
            "Use whole: pretrain the encoders together on pairs and fine-tune the model as a whole. Over 3 seeds whole "
            "scores 12.0 points above component (95 % interval +7.0 to +17.0 points).");
}

TEST(Summarise, RecommendsComponentWhenItIsAhead) {
  const Json cells{cell("whole", 0, 0.50),     cell("component", 0, 0.60), cell("whole", 1, 0.51),
                   cell("component", 1, 0.61), cell("whole", 2, 0.50),     cell("component", 2, 0.601)};
  const Json c = summarise(cells, {})["comparison"];
  EXPECT_LT(c["difference"], 0);
  EXPECT_EQ(c["winner"], "component");
  // Differences -0.1, -0.1, -0.101.
  EXPECT_EQ(c["recommendation"],
            "Use component: pretrain the encoders separately, then combine and fine-tune them. Over 3 seeds component "
            "scores 10.0 points above whole (95 % interval +9.9 to +10.2 points).");
}

TEST(Summarise, ShowsNoDifferenceWhenTheIntervalContainsZero) {
  const Json cells{cell("whole", 0, 0.60), cell("component", 0, 0.50), cell("whole", 1, 0.50),
                   cell("component", 1, 0.55)};
  const Json c = summarise(cells, {})["comparison"];
  EXPECT_LT(c["low"], 0);
  EXPECT_GT(c["high"], 0);
  EXPECT_TRUE(c["winner"].is_null());
  EXPECT_NE(c["recommendation"].get<std::string>().find("no difference shown"), std::string::npos) << c;
  EXPECT_NE(c["cautions"].dump().find("With 2 seeds"), std::string::npos) << c;

  const Json same{cell("whole", 0, 1), cell("component", 0, 1), cell("whole", 1, 1), cell("component", 1, 1)};
  const Json equal = summarise(same, {})["comparison"];
  EXPECT_EQ(equal["low"], 0.0);
  EXPECT_NE(equal["recommendation"].get<std::string>().find("no difference shown"), std::string::npos) << equal;
}

TEST(Summarise, NamesTheCheaperStrategyWhenNeitherWins) {
  Json cells{cell("whole", 0, 0.60), cell("component", 0, 0.50), cell("whole", 1, 0.50), cell("component", 1, 0.55)};
  for (Json& c : cells) c["flops"] = c["method"] == "whole" ? 2e15 : 1.5e15;
  const std::string words = summarise(cells, {})["comparison"]["recommendation"];
  EXPECT_NE(words.find("The cheaper one here is component: 1.50 PFLOP against 2.00."), std::string::npos) << words;
}

TEST(Summarise, OneSeedShowsNothing) {
  const Json c = summarise({cell("whole", 0, 0.9), cell("component", 0, 0.5)}, {})["comparison"];
  EXPECT_NEAR(c["difference"], 0.4, 1e-12);
  EXPECT_TRUE(c["low"].is_null());
  EXPECT_TRUE(c["high"].is_null());
  EXPECT_TRUE(c["winner"].is_null());
  EXPECT_NE(c["recommendation"].get<std::string>().find("One seed shows nothing"), std::string::npos) << c;
}

TEST(Summarise, SaysWhatIsMissing) {
  const auto words = [](const Json& cells) {
    const Json c = summarise(cells, {})["comparison"];
    EXPECT_TRUE(c["difference"].is_null() && c["low"].is_null() && c["high"].is_null()) << c;
    return c["recommendation"].get<std::string>();
  };
  EXPECT_NE(words({cell("whole", 0, 0.9), cell("text-only", 0, 0.5)}).find("component has none"), std::string::npos);
  EXPECT_NE(words(Json::array({cell("component", 0, 0.9)})).find("whole has none"), std::string::npos);
  EXPECT_NE(words(Json::array()).find("neither has any"), std::string::npos);
  EXPECT_NE(words({cell("whole", 0, 0.9), cell("component", 1, 0.5)}).find("share none"), std::string::npos);
}

TEST(Summarise, LeavesDivergedRunsOut) {
  Json cells{cell("whole", 0, 0.6),     cell("whole", 1, 0.8),     cell("whole", 2, NAN),
             cell("component", 0, 0.5), cell("component", 1, 0.6), cell("component", 2, 0.7)};
  cells[5]["accuracy"] = nullptr;
  const Json report = summarise(cells, {});
  EXPECT_EQ(report["summary"]["whole"]["n"], 2);
  EXPECT_EQ(report["comparison"]["n"], 2);
  EXPECT_NEAR(report["comparison"]["difference"], 0.15, 1e-12);
}

TEST(Summarise, SpeaksOfTheLargestFraction) {
  const Json cells{cell("whole", 0, 0.3, 0.1), cell("component", 0, 0.4, 0.1), cell("whole", 0, 0.5, 0.5),
                   cell("component", 0, 0.45, 0.5)};
  const Json report = summarise(cells, {});
  EXPECT_EQ(report["summary_fraction"], 0.5);
  EXPECT_EQ(report["summary"]["whole"]["mean"], 0.5);
  EXPECT_NEAR(report["comparison"]["difference"], 0.05, 1e-12);
  ASSERT_EQ(report["fractions"].size(), 2u);
  EXPECT_EQ(report["fractions"][0]["fraction"], 0.1);
  EXPECT_EQ(report["fractions"][0]["methods"]["component"]["mean"], 0.4);
  EXPECT_EQ(report["fractions"][0]["methods"]["component"]["macro_f1"], 0.2);
  EXPECT_NEAR(report["fractions"][0]["comparison"]["difference"], -0.1, 1e-12);
  EXPECT_NE(comparison_table(report).find("With 50.0 % of the training labels"), std::string::npos);
}

TEST(Summarise, GainsAreAgainstEachBaseline) {
  const Json cells{cell("whole", 0, 0.6), cell("whole", 1, 0.8), cell("text-only", 0, 0.5), cell("text-only", 1, 0.6),
                   cell("image-only", 0, 0.9)};
  const Json gains = summarise(cells, {})["gains"];
  ASSERT_EQ(gains.size(), 2u);
  EXPECT_EQ(gains[0]["method"], "whole");
  EXPECT_EQ(gains[0]["baseline"], "image-only");
  EXPECT_NEAR(gains[0]["difference"], -0.3, 1e-12);
  EXPECT_EQ(gains[0]["n"], 1);
  EXPECT_EQ(gains[1]["baseline"], "text-only");
  EXPECT_NEAR(gains[1]["difference"], 0.15, 1e-12);
}

TEST(Summarise, CostsAreMeansOverSeedsStageByStage) {
  Json cells{cell("component", 0, 0.5), cell("component", 1, 0.6)};
  for (int i = 0; i < 2; ++i) {
    cells[i]["seconds"] = 10 + 2 * i;
    cells[i]["stages"] = {{{"stage", "pretrain-text"}, {"seconds", 4 + 2 * i}, {"flops", 8.0}, {"shared", true}},
                          {{"stage", "finetune"}, {"seconds", 6}, {"flops", 2.0}, {"shared", false}}};
  }
  const Json cost = summarise(cells, {})["costs"]["component"];
  EXPECT_EQ(cost["seconds"], 11);
  EXPECT_TRUE(cost["flops"].is_null());
  ASSERT_EQ(cost["stages"].size(), 2u);
  EXPECT_EQ(cost["stages"][0]["stage"], "pretrain-text");
  EXPECT_EQ(cost["stages"][0]["seconds"], 5);
  EXPECT_EQ(cost["stages"][0]["shared"], true);
  EXPECT_EQ(cost["stages"][1]["flops"], 2);
}

TEST(Summarise, WarnsOfWhatTheIntervalDoesNotSay) {
  const Json cells{cell("whole", 0, 0.2), cell("component", 0, 0.1), cell("whole", 1, 0.2), cell("component", 1, 0.1),
                   cell("text-only", 0, 0.25)};
  const Json head{{"share_pretraining", true},
                  {"given_models", {{"joint", "models/pairs"}}},
                  {"dataset", {{"majority_accuracy", 0.3}, {"test", 40}}}};
  const Json c = summarise(cells, head)["comparison"];
  const std::string all = c["cautions"].dump();
  for (const char* words :
       {"the same difference", "Pretraining ran once", "most frequent class (30.0 %)",
        "The baseline text only scores higher", "The pretrained model models/pairs took the place of joint pretraining",
        "only 40 samples: one sample is worth 2.5 points"})
    EXPECT_NE(all.find(words), std::string::npos) << words << " in " << all;
}

TEST(ComparisonTable, ReadsWellInATerminal) {
  const SyntheticComparison synthetic;
  const std::string table = comparison_table(summarise(synthetic.cells(), synthetic.head()));
  for (size_t start = 0; start < table.size();) {
    const size_t end = table.find('\n', start);
    ASSERT_NE(end, std::string::npos) << "the last line is not ended";
    EXPECT_LE(display_width(table.substr(start, end - start)), 100u) << table.substr(start, end - start);
    start = end + 1;
  }
  for (const char* words : {"openclipart: 16 classes, 2,540 training", "concat from scratch", "majority class", "25.0",
                            "TFLOP", "accuracy % with labels", "30.0 %", "component"})
    EXPECT_NE(table.find(words), std::string::npos) << words << " in\n" << table;
}

TEST(ComparisonTable, ShowsEveryNumberInItsColumn) {
  Json cells{cell("whole", 0, 0.5), cell("whole", 1, 0.7), cell("text-only", 0, 0.4)};
  for (Json& c : cells) {
    c["samples_seen"] = 12345;
    c["flops"] = 1.5e12;
    c["seconds"] = 754;
    c["peak_rss_bytes"] = 830e6;
  }
  const std::string table =
      comparison_table(summarise(cells, {{"dataset", {{"name", "pets"}, {"majority_accuracy", 0.25}}}}));
  EXPECT_EQ(table,
            "pets: 0 classes, 0 training, 0 validation and 0 test samples\n"
            "\n"
            "method             accuracy %   macro F1 %   seeds   samples seen   TFLOP          time   memory\n"
            "whole            60.0 +- 14.1         30.0       2         12,345    1.50   12 min 34 s   830 MB\n"
            "text only        40.0                 20.0       1         12,345    1.50   12 min 34 s   830 MB\n"
            "majority class   25.0\n"
            "\n"
            "No comparison: it needs results of both whole and component for the same seed, and component has\n"
            "none.\n");
}

TEST(ComparisonTable, NeedsNoMoreThanTheCells) {
  EXPECT_NE(comparison_table(summarise(Json::array(), {})).find("no method has a result"), std::string::npos);
  const std::string table = comparison_table(summarise(Json::array({cell("mine", 3, 0.5)}), {}));
  EXPECT_NE(table.find("mine "), std::string::npos) << table;
}

TEST(ReportText, WritesNumbersForReaders) {
  EXPECT_EQ(percent(0.61234), "61.2");
  EXPECT_EQ(percent(-0.0001), "0.0");
  EXPECT_EQ(points(0.0234), "+2.3");
  EXPECT_EQ(points(-0.0234), "-2.3");
  EXPECT_EQ(points(-0.0001), "0.0");
  EXPECT_EQ(thousands(0), "0");
  EXPECT_EQ(thousands(999), "999");
  EXPECT_EQ(thousands(-1234567), "-1,234,567");
  EXPECT_EQ(significant(0.012345), "0.0123");
  EXPECT_EQ(significant(1), "1.00");
  EXPECT_EQ(significant(9.996), "10.0");
  EXPECT_EQ(significant(12.345), "12.3");
  EXPECT_EQ(significant(1234.5), "1,234");
  EXPECT_EQ(significant(0), "0");
  EXPECT_EQ(duration(0.04), "0.0 s");
  EXPECT_EQ(duration(59.4), "59 s");
  EXPECT_EQ(duration(59.6), "1 min 00 s");
  EXPECT_EQ(duration(3599.7), "1 h 00 min");
  EXPECT_EQ(duration(100000), "27 h 47 min");
  EXPECT_EQ(byte_size(830e6), "830 MB");
  EXPECT_EQ(byte_size(1.237e9), "1.24 GB");
}

TEST(ReportText, MeasuresAndCutsByColumns) {
  EXPECT_EQ(display_width("\u5730\u56F3"), 4u);
  EXPECT_EQ(display_width("e\u0301"), 1u);
  EXPECT_EQ(shorten("\u5730\u56F3\u5730\u56F3", 5), "\u5730\u56F3\u2026");
  EXPECT_EQ(shorten("exactly", 7), "exactly");
  EXPECT_EQ(shorten("a\x1B[31mb", 20), "a [31mb");
  EXPECT_EQ(wrap("one two three", 7), "one two\nthree");
  EXPECT_EQ(wrap("unbreakable a", 5), "unbreakable\na");
}

TEST(ReportText, EscapesForElementsAndAttributes) {
  EXPECT_EQ(escape_html("<a href=\"x\">'&'</a>"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
  EXPECT_EQ(escape_html("caf\u00E9\n\x01\xFF"), "caf\u00E9\n\uFFFD\uFFFD");
}

}  // namespace
}  // namespace duet::train
