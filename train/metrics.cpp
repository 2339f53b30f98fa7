#include "duet/train/metrics.h"

#include <algorithm>
#include <cmath>

#include "duet/train/report_text.h"

namespace duet::train {
namespace {

void check_measurable(int64_t samples) {
  check(samples > 0, "metrics", "no labelled sample to measure on");
}

}  // namespace

ClassificationMetrics::ClassificationMetrics(std::span<const float> probabilities, std::span<const int64_t> labels,
                                             size_t classes)
    : confusion_(classes, std::vector<int64_t>(classes)) {
  check(classes > 0, "metrics", "at least one class is needed");
  check(probabilities.size() == labels.size() * classes, "metrics", labels.size(), " labels and ", classes,
        " classes need ", labels.size() * classes, " probabilities, got ", probabilities.size());
  for (size_t row = 0; row < labels.size(); ++row) {
    const auto scores = probabilities.subspan(row * classes, classes);
    const int64_t label = labels[row];
    check(label >= -1 && label < static_cast<int64_t>(classes), "metrics", "row ", row, " has label ", label,
          ", not in [0, ", classes, ") and not -1 (unlabelled)");
    check(std::none_of(scores.begin(), scores.end(), [](float p) { return std::isnan(p); }), "metrics", "row ", row,
          " holds a NaN probability; did the training diverge?");
    if (label < 0) continue;
    const auto truth = static_cast<size_t>(label);
    const auto prediction = static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
    ++confusion_[truth][prediction];
    ++samples_;
    size_t ahead = 0;
    for (size_t c = 0; c < classes; ++c)
      ahead += scores[c] > scores[truth] || (scores[c] == scores[truth] && c < truth);
    in_top5_ += ahead < 5;
  }
}

int64_t ClassificationMetrics::right() const {
  int64_t sum = 0;
  for (size_t c = 0; c < confusion_.size(); ++c) sum += confusion_[c][c];
  return sum;
}

double ClassificationMetrics::accuracy() const {
  check_measurable(samples_);
  return static_cast<double>(right()) / static_cast<double>(samples_);
}

double ClassificationMetrics::top5() const {
  check_measurable(samples_);
  return static_cast<double>(in_top5_) / static_cast<double>(samples_);
}

ClassScores ClassificationMetrics::scores(size_t label) const {
  check(label < confusion_.size(), "metrics", "class ", label, " is not one of ", confusion_.size());
  ClassScores s;
  for (size_t c = 0; c < confusion_.size(); ++c) {
    s.support += confusion_[label][c];
    s.predicted += confusion_[c][label];
  }
  const auto hits = static_cast<double>(confusion_[label][label]);
  if (s.predicted > 0) s.precision = hits / static_cast<double>(s.predicted);
  if (s.support > 0) s.recall = hits / static_cast<double>(s.support);
  if (s.support + s.predicted > 0) s.f1 = 2 * hits / static_cast<double>(s.support + s.predicted);
  return s;
}

double ClassificationMetrics::macro_f1() const {
  check_measurable(samples_);
  double sum = 0, occurring = 0;
  for (size_t c = 0; c < confusion_.size(); ++c) {
    const ClassScores s = scores(c);
    if (s.support + s.predicted == 0) continue;
    sum += s.f1;
    ++occurring;
  }
  return sum / occurring;
}

Json ClassificationMetrics::to_json(const std::vector<std::string>& labels, double loss) const {
  check(labels.size() == confusion_.size(), "metrics", labels.size(), " label names for ", confusion_.size(),
        " classes");
  Json per_class = Json::array();
  for (size_t c = 0; c < labels.size(); ++c) {
    const ClassScores s = scores(c);
    per_class.push_back(
        {{"label", labels[c]}, {"precision", s.precision}, {"recall", s.recall}, {"f1", s.f1}, {"support", s.support}});
  }
  return {{"accuracy", accuracy()}, {"top5", top5()},   {"macro_f1", macro_f1()}, {"loss", loss},
          {"samples", samples_},    {"labels", labels}, {"per_class", per_class}, {"confusion", confusion_}};
}

std::string ClassificationMetrics::table(const std::vector<std::string>& labels) const {
  check(labels.size() == confusion_.size(), "metrics", labels.size(), " label names for ", confusion_.size(),
        " classes");
  constexpr size_t widest_label = 28;
  std::vector<std::string> names;
  size_t width = 5;  // "class"
  for (const std::string& label : labels) {
    names.push_back(shorten(label, widest_label));
    width = std::max(width, display_width(names.back()));
  }
  std::string out =
      text("accuracy  ", percent(accuracy()), " %  (", thousands(right()), " of ", thousands(samples_), ")\n");
  if (confusion_.size() > 5) out += text("top-5     ", percent(top5()), " %\n");
  out += text("macro F1  ", percent(macro_f1()), " %\n\n");

  const auto row = [&](const std::string& name, const std::string& precision, const std::string& recall,
                       const std::string& f1, const std::string& support, const std::string& mistaken) {
    out += pad_right(name, width) + pad_left(precision, 11) + pad_left(recall, 8) + pad_left(f1, 8) +
           pad_left(support, 9) + (mistaken.empty() ? "" : "   " + mistaken) + "\n";
  };
  row("class", "precision", "recall", "F1", "samples", "most often taken for");
  for (size_t c = 0; c < labels.size(); ++c) {
    const ClassScores s = scores(c);
    std::vector<int64_t> mistakes = confusion_[c];
    mistakes[c] = 0;
    const auto worst = std::max_element(mistakes.begin(), mistakes.end());
    // A dash where there is nothing to divide by.
    row(names[c], s.predicted > 0 ? percent(s.precision) + " %" : "-", s.support > 0 ? percent(s.recall) + " %" : "-",
        s.support + s.predicted > 0 ? percent(s.f1) + " %" : "-", thousands(s.support),
        *worst > 0 ? text(names[static_cast<size_t>(worst - mistakes.begin())], " (", thousands(*worst), ")") : "");
  }
  return out;
}

}  // namespace duet::train
