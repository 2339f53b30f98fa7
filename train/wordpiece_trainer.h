#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "duet/train/basic_tokenizer.h"

namespace duet::train {

struct WordPieceTrainerOptions {
  BasicTokenizerOptions basic;
  int64_t vocab_size = 8192;              // special tokens included; fewer result when nothing is left to merge
  int64_t min_frequency = 2;              // a merge needs this many occurrences, a character too
  int64_t alphabet_limit = 1000;          // at most so many characters, the most frequent ones
  int64_t max_characters_per_word = 100;  // code points; longer words teach nothing, the tokenizer makes them [UNK]
};

// Learns a WordPiece vocabulary: byte-pair merges over the characters of words, most frequent pair first, where a
// character that does not begin its word carries "##" (as Hugging Face's WordPieceTrainer; the original scoring, count
// over the product of the parts' counts, was never published as code). Among equally frequent pairs the one whose parts
// came into the vocabulary first is merged first, so the result depends on the texts alone, not on their order.
//
//   WordPieceTrainer trainer({.vocab_size = 8192});
//   for (const std::string& line : lines) trainer.add(line);
//   std::vector<std::string> tokens = trainer.train();
class WordPieceTrainer {
 public:
  explicit WordPieceTrainer(const WordPieceTrainerOptions& options = {});

  void add(std::string_view text);

  // [PAD] [UNK] [CLS] [SEP] [MASK], the characters, then the merges in order. Throws Error when no text has words, or
  // when vocab_size cannot hold the special tokens and the characters.
  std::vector<std::string> train() const;

  // Basic tokens and how often each occurred.
  const std::unordered_map<std::string, int64_t>& word_counts() const { return words_; }

 private:
  WordPieceTrainerOptions options_;
  std::unordered_map<std::string, int64_t> words_;
  std::string scratch_;
};

}  // namespace duet::train
