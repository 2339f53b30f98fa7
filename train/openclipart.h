#pragma once

#include "duet/train/dataset_writer.h"

namespace duet::train {

// Open Clip Art Library 0.18 as Debian packages it: drawings as SVG and, under the same path, PNG. A drawing's category
// is its first folder; its text is the title and description in the SVG's metadata.
struct Openclipart {
  // Rows of the classification task, in byte order of their path: the sixteen categories, at most five drawings of one
  // series, split by series so that variants of a drawing never straddle training and test.
  std::vector<SourceRow> labelled;
  // Pairs for pretraining without labels: the labelled rows of train and val, and to train are added the drawings that
  // the categories and the five-a-series rule left out, unless their series belongs to val or test. Every row has text.
  std::vector<SourceRow> unlabelled;
};

// `root` holds svg/ and png/. Images are named images/<path>.png. Throws Error naming the packages when it is missing.
Openclipart read_openclipart(const std::string& root = "/usr/share/openclipart");

// The categories that are labels, in byte order.
const std::vector<std::string>& openclipart_labels();

}  // namespace duet::train
