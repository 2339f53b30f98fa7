#pragma once

#include "duet/train/dataset_writer.h"

namespace duet::train {

// WordNet 3.0 as Debian packages it: each dictionary entry is a row of text, "words : definition", labelled with the
// lexicographer's file it comes from. The split is a function of the row's id: 98 % train, 1 % val, 1 % test.
// `root` holds data.noun, data.verb, data.adj and data.adv. Throws Error naming the package when one is missing, or the
// file and line when one cannot be parsed. Format: wndb(5WN).
std::vector<SourceRow> read_wordnet(const std::string& root = "/usr/share/wordnet");

// The 45 lexicographer files by their number.
const std::vector<std::string>& wordnet_labels();

}  // namespace duet::train
