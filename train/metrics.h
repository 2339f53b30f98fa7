#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "duet/core/json.h"

namespace duet::train {

struct ClassScores {
  double precision = 0;  // 0 when the class was never predicted
  double recall = 0;     // 0 when the class has no sample
  double f1 = 0;         // 2 TP / (2 TP + FP + FN); 0 when the class occurs neither as label nor as prediction
  int64_t support = 0;   // labelled samples of the class
  int64_t predicted = 0;
};

// How well class probabilities (or any scores) agree with the labels. Throws Error for sizes that do not match, labels
// outside [-1, classes) and NaN. Rows with label -1 are unlabelled and do not count; with no labelled row at all, the
// measures throw, because every number would be made up.
//
// The prediction is the class with the largest score; among equal scores the one with the smaller index ranks first, in
// top-5 too, so that a model that says the same everywhere gets no credit for it.
class ClassificationMetrics {
 public:
  // probabilities: (N, classes) row by row; labels: (N).
  ClassificationMetrics(std::span<const float> probabilities, std::span<const int64_t> labels, size_t classes);

  int64_t samples() const { return samples_; }  // labelled ones
  double accuracy() const;
  double top5() const;  // share of rows whose label ranks among the first five
  // Mean F1 over the classes that occur as a label or as a prediction. A class that occurs in neither has no F1:
  // counting it as 0 or as 1 would make the value depend on how many labels the task lists, not on the predictions. One
  // that is only predicted counts as 0, a mistake like any other. scikit-learn's f1_score(average="macro") defines the
  // same.
  double macro_f1() const;
  ClassScores scores(size_t label) const;
  // Rows are the truth, columns the prediction.
  const std::vector<std::vector<int64_t>>& confusion() const { return confusion_; }

  // {accuracy, top5, macro_f1, loss, samples, confusion, labels, per_class: [{label, precision, recall, f1, support}]}.
  // One label per class.
  Json to_json(const std::vector<std::string>& labels, double loss) const;
  // The same as aligned text for a terminal, ending in a line break.
  std::string table(const std::vector<std::string>& labels) const;

 private:
  int64_t right() const;

  std::vector<std::vector<int64_t>> confusion_;
  int64_t samples_ = 0, in_top5_ = 0;
};

}  // namespace duet::train
