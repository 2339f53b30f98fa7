#include <gtest/gtest.h>
#include <unistd.h>

#include <cctype>
#include <cmath>
#include <filesystem>
#include <set>

#include "duet/core/file.h"
#include "duet/tests/train/report_fixture.h"
#include "duet/train/report.h"
#include "duet/train/report_charts.h"
#include "duet/train/svg.h"

namespace duet::train {
namespace {

// Strict enough for pages we write ourselves: every element is closed in order, every attribute quoted and given once,
// no bare ampersand, and nothing that would load or run. Returns the visible text.
class PageCheck {
 public:
  explicit PageCheck(const std::string& page) : rest_(page) {
    EXPECT_TRUE(take("<!DOCTYPE html>\n"));
    while (!rest_.empty() && !::testing::Test::HasFailure()) {
      if (rest_.starts_with("</"))
        close();
      else if (rest_.starts_with("<"))
        open();
      else
        characters();
    }
    EXPECT_TRUE(open_.empty()) << "unclosed <" << (open_.empty() ? "" : open_.back()) << ">";
  }
  std::string text;
  std::multiset<std::string> elements;

 private:
  bool take(std::string_view expected) {
    if (!rest_.starts_with(expected)) return false;
    rest_.remove_prefix(expected.size());
    return true;
  }
  std::string name() {
    size_t n = 0;
    while (n < rest_.size() && (std::isalnum(static_cast<unsigned char>(rest_[n])) || rest_[n] == '-')) ++n;
    const std::string name(rest_.substr(0, n));
    rest_.remove_prefix(n);
    EXPECT_FALSE(name.empty()) << "no name at: " << rest_.substr(0, 60);
    return name;
  }
  static void check_references(const std::string& s) {
    for (size_t i = s.find('&'); i != s.npos; i = s.find('&', i + 1)) {
      bool known = false;
      for (const char* r : {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"})
        known |= s.compare(i, std::string(r).size(), r) == 0;
      EXPECT_TRUE(known) << s.substr(i, 20);
    }
  }
  void close() {
    take("</");
    const std::string element = name();
    EXPECT_TRUE(take(">"));
    ASSERT_FALSE(open_.empty()) << "</" << element << "> closes nothing";
    EXPECT_EQ(element, open_.back());
    open_.pop_back();
  }
  void open() {
    static const std::set<std::string> empty_elements{"meta", "img", "br"};
    static const std::set<std::string> forbidden{"script", "link", "iframe", "object", "embed", "base", "form", "a"};
    take("<");
    const std::string element = name();
    elements.insert(element);
    EXPECT_FALSE(forbidden.contains(element)) << element;
    std::set<std::string> seen;
    while (take(" ")) {
      const std::string attribute = name();
      EXPECT_TRUE(seen.insert(attribute).second) << attribute << " twice in " << element;
      if (!take("=\"")) {
        EXPECT_EQ(element + attribute, "detailsopen");
        continue;
      }
      const std::string value(rest_.substr(0, rest_.find('"')));
      rest_.remove_prefix(std::min(value.size() + 1, rest_.size()));
      check_attribute(element, attribute, value);
    }
    const bool closed = take("/");
    ASSERT_TRUE(take(">")) << element << " at: " << rest_.substr(0, 60);
    if (element == "style") {
      const std::string style(rest_.substr(0, rest_.find("</style>")));
      for (const char* load : {"url(", "@import", "@font-face", "<"}) EXPECT_EQ(style.find(load), style.npos) << load;
      rest_.remove_prefix(style.size());
    }
    if (!closed && !empty_elements.contains(element)) open_.push_back(element);
  }
  void check_attribute(const std::string& element, const std::string& attribute, const std::string& value) {
    static const std::set<std::string> numbers{"x",  "y",  "x1", "y1",     "x2",    "y2",
                                               "cx", "cy", "r",  "points", "width", "height"};
    check_references(value);
    EXPECT_EQ(value.find('<'), value.npos);
    EXPECT_FALSE(attribute.starts_with("on")) << attribute;
    EXPECT_NE(attribute, "href");
    if (attribute == "src") {
      EXPECT_TRUE(element == "img" && value.starts_with("data:image/png;base64,")) << value.substr(0, 60);
    }
    if (numbers.contains(attribute)) {
      EXPECT_EQ(value.find_first_not_of("-0123456789., "), value.npos) << element << " " << attribute << "=" << value;
    }
  }
  void characters() {
    const std::string run(rest_.substr(0, rest_.find('<')));
    rest_.remove_prefix(run.size());
    check_references(run);
    text += run;
  }

  std::string_view rest_;
  std::vector<std::string> open_;
};

PageCheck check_page(const Json& report) {
  const std::string page = report_html(report);
  EXPECT_EQ(page.find("http://"), page.npos);
  EXPECT_EQ(page.find("https://"), page.npos);
  return PageCheck(page);
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

TEST(ReportHtml, ShowsTheWholeComparison) {
  const SyntheticComparison synthetic;
  const Json report = summarise(synthetic.cells(), synthetic.head());
  const PageCheck page = check_page(report);
  // The decision comes first.
  const size_t decision = page.text.find("Use component");
  ASSERT_NE(decision, std::string::npos);
  EXPECT_LT(decision, page.text.find("Results"));
  for (const char* part : {"points above whole (95 % interval +",
                           "+3.8 points",
                           "3 seeds",
                           "733 samples",
                           "61.8",
                           "concat from scratch",
                           "majority class",
                           "Accuracy against the amount of labels",
                           "How the fine-tuning went",
                           "signs_and_symbols",
                           "What it cost",
                           "joint pretraining",
                           "48.5",
                           "A few test samples",
                           "roadsign_&lt;stop&gt;&amp;&quot;go&quot;",
                           "no text",
                           "no image",
                           "Settings",
                           "text_objective",
                           "--seeds 3",
                           "AMD EPYC",
                           "2025-05-04"})
    EXPECT_TRUE(has(page.text, part)) << part;
  EXPECT_EQ(page.elements.count("img"), 7u);  // eight samples, one without an image
  // Interval, two fraction charts, five loss curves, five matrices, four cost charts, five legend marks.
  EXPECT_EQ(page.elements.count("svg"), 22u);
}

TEST(ReportHtml, NothingFromTheDataBecomesMarkup) {
  const std::string evil = "\"><script>alert('x')</script><img src=x onerror=alert(1)>&amp;";
  SyntheticComparison synthetic;
  synthetic.methods = {"whole", "component", evil};
  for (std::string& label : synthetic.labels) label += evil;
  Json cells = synthetic.cells(), head = synthetic.head();
  for (Json& cell : cells)
    for (const char* list : {"predictions", "stages"})
      if (cell.contains(list))
        for (Json& entry : cell[list])
          for (const char* key : {"text", "id", "label", "predicted", "stage", "image_png_base64"}) entry[key] = evil;
  for (const char* key : {"command", "machine", "created", "size", "duet_version"}) head[key] = evil;
  head["dataset"]["name"] = evil;
  head["config"][evil] = {{evil, {evil}}};
  head["config"]["finetune"][evil] = evil;
  const PageCheck page = check_page(summarise(cells, head));
  EXPECT_EQ(page.elements.count("script"), 0u);
  EXPECT_EQ(page.elements.count("img"), 0u) << "an image that is no base64 was let through";
  EXPECT_TRUE(has(page.text, "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));

  Json report = summarise(cells, head);
  report["comparison"]["recommendation"] = report["comparison"]["headline"] = evil;
  report["comparison"]["cautions"] = {evil};
  check_page(report);
}

TEST(ReportHtml, CopesWithWhatIsMissing) {
  EXPECT_TRUE(has(check_page(Json::object()).text, "No comparison"));
  EXPECT_TRUE(has(check_page(summarise(Json::array(), Json::object())).text, "neither has any"));
  // Any key of the report may be absent or null.
  const SyntheticComparison synthetic;
  const Json whole = summarise(synthetic.cells(), synthetic.head());
  for (const auto& [key, unused] : whole.items()) {
    SCOPED_TRACE(key);
    Json report = whole;
    report.erase(key);
    check_page(report);
    report[key] = nullptr;
    check_page(report);
  }
  // The same for the keys of a cell, except that its place in the comparison has to be known.
  const Json first = synthetic.cells()[0];
  for (const auto& [key, unused] : first.items()) {
    SCOPED_TRACE(key);
    Json cells = synthetic.cells();
    for (Json& cell : cells) cell.erase(key);
    check_page(summarise(cells, synthetic.head()));
  }
}

TEST(ReportHtml, OneSeed) {
  SyntheticComparison synthetic;
  synthetic.seeds = 1;
  synthetic.fractions = {1};
  const PageCheck page = check_page(summarise(synthetic.cells(), synthetic.head()));
  EXPECT_TRUE(has(page.text, "One seed shows nothing"));
  EXPECT_TRUE(has(page.text, "Undecided"));
  EXPECT_TRUE(has(page.text, "Accuracy, seed by seed"));
  EXPECT_FALSE(has(page.text, "\u00B1 0.0"));
}

TEST(ReportHtml, OneMethod) {
  SyntheticComparison synthetic;
  synthetic.methods = {"text-only"};
  const PageCheck page = check_page(summarise(synthetic.cells(), synthetic.head()));
  EXPECT_TRUE(has(page.text, "No comparison"));
  EXPECT_TRUE(has(page.text, "text only"));
}

TEST(ReportHtml, SaysWhenPretrainingIsShared) {
  const SyntheticComparison synthetic;
  Json head = synthetic.head();
  EXPECT_FALSE(has(check_page(summarise(synthetic.cells(), head)).text, "hared pretraining"));
  head["share_pretraining"] = true;
  EXPECT_TRUE(has(check_page(summarise(synthetic.cells(), head)).text, "shared pretraining"));
}

TEST(ReportHtml, DivergedRunsAndOddNumbers) {
  SyntheticComparison synthetic;
  Json cells = synthetic.cells();
  cells[0]["accuracy"] = NAN;
  cells[1]["loss_per_epoch"][3] = INFINITY;
  cells[2]["validation_loss_per_epoch"] = {nullptr, 1.0, NAN};
  cells[3]["loss_per_epoch"] = {2.0};
  cells[4]["flops"] = nullptr;
  cells[5]["confusion"] = Json::array();
  Json head = synthetic.head();
  head["dataset"]["majority_accuracy"] = NAN;
  const PageCheck page = check_page(summarise(cells, head));
  for (const char* word : {"nan", "NaN", "inf "}) EXPECT_FALSE(has(page.text, word)) << word;
}

TEST(ReportHtml, AnyNumberOfClassesAndLongNames) {
  for (const size_t classes : {2, 30, 100}) {
    SyntheticComparison synthetic;
    synthetic.labels.clear();
    for (size_t i = 0; i < classes; ++i)
      synthetic.labels.push_back("\u05D0\u05D1 a very long class name, number " + std::to_string(i) +
                                 std::string(60, 'x'));
    const Json report = summarise(synthetic.cells(), synthetic.head());
    const PageCheck page = check_page(report);
    EXPECT_TRUE(has(page.text, std::to_string(classes) + " classes"));
    EXPECT_LT(report_html(report).size(), 2'000'000u);
  }
}

TEST(ReportHtml, KeepsTheColourOfAMethod) {
  EXPECT_EQ(method_class("whole"), "c0");
  EXPECT_EQ(method_class("concat-scratch"), "c4");
  EXPECT_EQ(method_class("something"), "c5");
}

TEST(ReportHtml, IsWrittenWholeOrNotAtAll) {
  const std::string directory =
      (std::filesystem::temp_directory_path() / ("duet_report_" + std::to_string(::getpid()))).string();
  make_directories(directory);
  const Json report = summarise(Json::array(), Json::object());
  write_report_html(report, directory + "/report.html");
  EXPECT_EQ(read_file(directory + "/report.html"), report_html(report));
  try {
    write_report_html(report, directory + "/missing/report.html");
    ADD_FAILURE() << "wrote into a directory that does not exist";
  } catch (const Error& e) {
    EXPECT_TRUE(has(e.what(), "missing/report.html")) << e.what();
  }
  std::filesystem::remove_all(directory);
}

TEST(Charts, TicksAreRoundAndCoverTheData) {
  EXPECT_EQ(axis_ticks(0, 100, 5), (std::vector<double>{0, 20, 40, 60, 80, 100}));
  EXPECT_EQ(axis_ticks(-3.2, 6.1, 5), (std::vector<double>{-4, -2, 0, 2, 4, 6, 8}));
  EXPECT_EQ(axis_ticks(5, 5, 4).front(), 5);
  for (const auto& [low, high] : {std::pair(0.61, 0.65), {1e-7, 3e-7}, {0.0, 12345.0}}) {
    const std::vector<double> ticks = axis_ticks(low, high, 5);
    EXPECT_LE(ticks.front(), low + 1e-12);
    EXPECT_GE(ticks.back(), high - 1e-12);
    EXPECT_LE(ticks.size(), 8u);
  }
  EXPECT_EQ(tick_label(0.5, {0, 0.5, 1}), "0.5");
  EXPECT_EQ(tick_label(-1e-17, {-1, 0, 1}), "0");
  EXPECT_EQ(tick_label(20, {0, 20, 40}), "20");
}

TEST(Charts, ConfusionIsSummedOverSeeds) {
  const Json a{{"confusion", {{3, 1}, {0, 2}}}}, b{{"confusion", {{1, 0}, {4, 0}}}}, none = Json::object();
  EXPECT_EQ(summed_confusion({&a, &b, &none}), (Counts{{4, 1}, {4, 2}}));
  EXPECT_TRUE(summed_confusion({}).empty());
  EXPECT_TRUE(has(heat_map({{4, 1}, {4, 2}}, {"cat", "dog"}), "dog taken for cat: 4 (66.7 %)"));
}

TEST(Charts, CoordinatesAreNumbers) {
  Svg svg(10, 10, "a \"title\"");
  EXPECT_THROW(svg.line(0, 0, NAN, 1, "tick"), Error);
  svg.circle(1.239, -0.001, 3, "dot", "<tip>");
  EXPECT_TRUE(has(svg.str(), "aria-label=\"a &quot;title&quot;\""));
  EXPECT_TRUE(has(svg.str(), "cx=\"1.24\" cy=\"0\" r=\"3\"><title>&lt;tip&gt;</title></circle>")) << svg.str();
}

}  // namespace
}  // namespace duet::train
