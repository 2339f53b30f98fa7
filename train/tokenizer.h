#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "duet/core/error.h"
#include "duet/train/basic_tokenizer.h"

namespace duet::train {

struct TokenizerOptions : BasicTokenizerOptions {
  int max_input_chars_per_word = 100;  // code points; a longer word is [UNK]
  std::string pad_token = "[PAD]", unk_token = "[UNK]", cls_token = "[CLS]", sep_token = "[SEP]", mask_token = "[MASK]";
  // Further tokens that are matched in the raw text before anything else happens to it; each must be in the vocabulary.
  std::vector<std::string> additional_special_tokens;
};

// A text, or a pair of texts, ready for BERT: [CLS] a [SEP], or [CLS] a [SEP] b [SEP] where type_ids are 0 up to the
// first [SEP] and 1 after it. Both vectors have the same length.
struct Encoding {
  std::vector<int32_t> ids, type_ids;
};

// Which text of a pair gives way when both do not fit. The first cuts the longer one until both are equally long, then
// both; when the last place is left over, the longer keeps it, and b when they are equally long.
enum class Truncation { longest_first, only_first, only_second };

// Numbers of tokens of a and b kept out of `a` and `b` so that at most `budget` remain. Throws Error when the text to
// cut would have nothing left (only_first, only_second). This is the closed form of Hugging Face tokenizers 0.23.
std::array<int64_t, 2> truncated_lengths(int64_t a, int64_t b, int64_t budget, Truncation truncation);

// BERT's WordPiece tokenizer with the results of Hugging Face's fast (Rust) BertTokenizer. Immutable once made, so any
// number of threads may share one. Text in invalid UTF-8 is accepted: each bad byte counts as U+FFFD and is dropped.
class Tokenizer {
 public:
  // One token a line, id = line number from 0; a line may end in \n or \r\n. Of a repeated token the last id counts.
  // Throws Error when the file is unreadable, empty or not UTF-8, or lacks one of the special tokens.
  static Tokenizer from_vocab_file(const std::string& path, const TokenizerOptions& options = {});
  static Tokenizer from_vocab(std::vector<std::string> tokens, const TokenizerOptions& options = {},
                              const std::string& source = "vocabulary");
  // A model directory: tokenizer.json or else vocab.txt, with the settings of tokenizer_config.json where it has them.
  static Tokenizer from_directory(const std::string& directory);

  // With max_length > 0 the result, special tokens included, has at most that many ids; the texts' beginnings are kept.
  // Throws Error when max_length has no room for the special tokens (2, or 3 for a pair).
  Encoding encode(std::string_view text, int64_t max_length = 0) const;
  Encoding encode_pair(std::string_view a, std::string_view b, int64_t max_length = 0,
                       Truncation truncation = Truncation::longest_first) const;

  std::vector<int32_t> ids(std::string_view text) const;         // without special tokens
  std::vector<std::string> tokens(std::string_view text) const;  // the same as strings

  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  const std::string& token(int64_t id) const;  // throws Error unless 0 <= id < size()
  int32_t id(std::string_view token) const;    // unk_id() when absent
  bool contains(std::string_view token) const { return find(token) >= 0; }
  // Joins tokens with spaces and continuations ("##") without; special tokens are left out unless asked for.
  std::string decode(std::span<const int32_t> ids, bool keep_special = false) const;

  int32_t pad_id() const { return special_ids_[0]; }
  int32_t unk_id() const { return special_ids_[1]; }
  int32_t cls_id() const { return special_ids_[2]; }
  int32_t sep_id() const { return special_ids_[3]; }
  int32_t mask_id() const { return special_ids_[4]; }
  bool is_special(int64_t id) const;  // one of the five or an additional one

  const TokenizerOptions& options() const { return options_; }

  // vocab.txt in id order, each line ended by \n.
  void save_vocab(const std::string& path) const;
  // DIR/vocab.txt and DIR/tokenizer_config.json, which from_directory and Hugging Face read back. `max_length`, when
  // positive, becomes model_max_length, the length that users of the model should cut to.
  void save(const std::string& directory, int64_t max_length = 0) const;

 private:
  Tokenizer() = default;

  // Open addressing over FNV-1a: extending a hash by a byte is one step, so all prefixes of a word cost one pass.
  struct Slot {
    uint64_t hash = 0;
    int32_t id = -1;  // -1: free
  };

  int32_t find(std::string_view token) const;  // -1 when absent
  int32_t find(uint64_t hash, std::string_view prefix, std::string_view rest) const;
  void append_word(std::string_view word, std::vector<int32_t>& out) const;
  void append_ids(std::string_view text, std::vector<int32_t>& out) const;

  TokenizerOptions options_;
  std::vector<std::string> tokens_;
  std::vector<Slot> slots_;
  size_t longest_token_ = 0;          // bytes
  std::vector<int32_t> special_ids_;  // pad, unk, cls, sep, mask, then the additional ones
  std::array<bool, 256> starts_special_{};
};

}  // namespace duet::train
