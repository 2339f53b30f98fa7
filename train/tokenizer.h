#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "duet/core/error.h"
#include "duet/train/added_tokens.h"
#include "duet/train/basic_tokenizer.h"

namespace duet::train {

// Which text of a pair gives way when both do not fit. The first cuts the longer one until both are equally long, then
// both; when the last place is left over, the longer keeps it, and b when they are equally long (Semantics::slow: a).
enum class Truncation { longest_first, only_first, only_second };

enum class Side { left, right };

// How to cut. `side` is the one that is lost: right keeps the beginning. only_second needs a pair.
struct TruncationOptions {
  int64_t max_length = 0;  // of the result, special tokens included; 0: never cut
  Truncation strategy = Truncation::longest_first;
  Side side = Side::right;
};

// How to lengthen: to `length`, or with 0 to the longest of those padded together, rounded up to `multiple_of` when
// that is positive. What is longer stays as it is.
struct PaddingOptions {
  int64_t length = 0, multiple_of = 0;  // length: at most 2^20
  Side side = Side::right;              // where the padding goes
  int32_t id = -1, type_id = 0;         // -1: the tokenizer's pad_id()
};

// A part of what a text, or a pair of them, becomes: special tokens, or the first (a) or second (b) text.
struct TemplatePiece {
  enum class Kind { special, a, b } kind = Kind::special;
  int32_t type_id = 0;
  std::vector<std::string> tokens;  // of a special part
};

struct TokenizerOptions : BasicTokenizerOptions {
  int max_input_chars_per_word = 100;  // code points; a longer word is [UNK]
  std::string pad_token = "[PAD]", unk_token = "[UNK]", cls_token = "[CLS]", sep_token = "[SEP]", mask_token = "[MASK]";
  // Further tokens that are matched in the raw text before anything else happens to it; each must be in the vocabulary.
  std::vector<std::string> additional_special_tokens;
  // The same with settings of their own, also for the five above.
  std::vector<AddedToken> added_tokens;
  std::string continuation = "##";  // begins a token that continues a word
  // decode: what marks a continuation there, and whether Cleanup::tokens is this tokenizer's own way.
  std::string decoder_prefix = "##";
  bool decoder_cleanup = true;
  // Empty: [CLS] a [SEP], and [CLS] a [SEP] b [SEP] where the types are 0 up to the first [SEP] and 1 after it.
  std::vector<TemplatePiece> single_template, pair_template;
  // What tokenizer.json asks for. Only encode_as_configured does it; the other functions do what their arguments say.
  Side truncation_side = Side::right;  // of encode and encode_pair; tokenizer_config.json
  std::optional<TruncationOptions> truncation;
  std::optional<PaddingOptions> padding;
};

// A text, or a pair of texts, ready for BERT. All vectors have the same length, except that offsets are empty unless
// asked for: then [begin, end) in code points of the original text (of b's own for b), [0, 0) for special tokens.
struct Encoding {
  std::vector<int32_t> ids, type_ids;
  std::vector<uint8_t> attention_mask, special_tokens_mask;  // 1: a token, not padding; 1: added by template or padding
  std::vector<std::array<uint32_t, 2>> offsets;
};

struct EncodeOptions {
  TruncationOptions truncation;
  bool offsets = false;        // slower; not with Semantics::slow
  bool special_tokens = true;  // whether the template's are added
};

// Hugging Face's two ways to take the spaces out of "do n't ." again: of the fast tokenizer's decoder, which sees one
// token at a time, and of Transformers' clean_up_tokenization_spaces, which sees the whole text.
enum class Cleanup { none, tokens, text };

// Numbers of tokens of a and b kept out of `a` and `b` so that at most `budget` remain. Throws Error when the text to
// cut would have nothing left (only_first, only_second) although the budget is positive. The fast closed form is that
// of Hugging Face tokenizers 0.23; the slow one drops a token of the longer text at a time, of b when they are equal.
std::array<int64_t, 2> truncated_lengths(int64_t a, int64_t b, int64_t budget, Truncation truncation,
                                         Semantics semantics = Semantics::fast);

// BERT's WordPiece tokenizer with the results of Hugging Face's BertTokenizer. Immutable once made, so any number of
// threads may share one. Text in invalid UTF-8 is accepted: each bad byte counts as U+FFFD and is dropped.
class Tokenizer {
 public:
  // One token a line, id = line number from 0; a line may end in \n or \r\n. Of a repeated token the last id counts.
  // Throws Error when the file is unreadable, empty or not UTF-8, or lacks one of the special tokens.
  static Tokenizer from_vocab_file(const std::string& path, const TokenizerOptions& options = {});
  static Tokenizer from_vocab_text(std::string_view vocab, const TokenizerOptions& options = {},
                                   const std::string& source = "vocabulary");
  static Tokenizer from_vocab(std::vector<std::string> tokens, const TokenizerOptions& options = {},
                              const std::string& source = "vocabulary");
  // A model directory: tokenizer.json or else vocab.txt, with the settings of tokenizer_config.json where it has them
  // and the special tokens of special_tokens_map.json where that one has none.
  static Tokenizer from_directory(const std::string& directory, Semantics semantics = Semantics::fast);
  // The content of tokenizer.json and, unless empty, of tokenizer_config.json. Anything malformed, or that is not
  // BERT's, is an Error naming `source`. Ids may leave gaps, but not absurd ones.
  static Tokenizer from_json(std::string_view tokenizer_json, std::string_view tokenizer_config_json = "",
                             const std::string& source = "tokenizer.json", Semantics semantics = Semantics::fast);

  // With max_length > 0 the result, special tokens included, has at most that many ids; the texts' beginnings are kept.
  // Throws Error when max_length has no room for the special tokens (2, or 3 for a pair).
  Encoding encode(std::string_view text, int64_t max_length = 0) const;
  Encoding encode_pair(std::string_view a, std::string_view b, int64_t max_length = 0,
                       Truncation truncation = Truncation::longest_first) const;
  // The general form, for a text (no b) or a pair.
  Encoding encode_with(const EncodeOptions& options, std::string_view a, std::optional<std::string_view> b = {}) const;
  // With the truncation and padding of tokenizer.json, if any; what the Rust package's encode does.
  Encoding encode_as_configured(std::string_view a, std::optional<std::string_view> b = {}, bool offsets = false) const;
  // Lengthens all to one length; see PaddingOptions.
  void pad(std::span<Encoding> encodings, const PaddingOptions& options = {}) const;

  std::vector<int32_t> ids(std::string_view text) const;         // without special tokens
  std::vector<std::string> tokens(std::string_view text) const;  // the same as strings

  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  // "" for an id that is a gap; an added token that is matched after normalisation in its normalised form, as the
  // reference shows it. Throws Error unless 0 <= id < size().
  const std::string& token(int64_t id) const;
  int32_t id(std::string_view token) const;  // unk_id() when absent
  bool contains(std::string_view token) const { return find(token) >= 0; }
  // Joins tokens with spaces and continuations without; special tokens are left out unless asked for.
  std::string decode(std::span<const int32_t> ids, bool keep_special = false, Cleanup cleanup = Cleanup::none) const;

  int32_t pad_id() const { return special_ids_[0]; }
  int32_t unk_id() const { return special_ids_[1]; }
  int32_t cls_id() const { return special_ids_[2]; }
  int32_t sep_id() const { return special_ids_[3]; }
  int32_t mask_id() const { return special_ids_[4]; }
  bool is_special(int64_t id) const;  // one of the five or an added one that is special

  const TokenizerOptions& options() const { return options_; }
  const std::vector<AddedToken>& added_tokens() const { return added_; }  // all of them, the five included

  // vocab.txt in id order, each line ended by \n. Throws Error when a token holds a line break.
  void save_vocab(const std::string& path) const;
  // DIR/vocab.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json, which from_directory and Hugging
  // Face read back. `max_length`, when positive, becomes model_max_length, the length that users of the model should
  // cut to.
  void save(const std::string& directory, int64_t max_length = 0) const;
  std::string to_json() const;  // the content of tokenizer.json

 private:
  Tokenizer() = default;

  // Open addressing over FNV-1a: extending a hash by a byte is one step, so all prefixes of a word cost one pass.
  struct Slot {
    uint64_t hash = 0;
    int32_t id = -1;  // -1: free
  };
  using Offsets = std::vector<std::array<uint32_t, 2>>;
  struct Template {
    struct Piece {
      TemplatePiece::Kind kind;
      int32_t type_id;
      std::vector<int32_t> ids;
    };
    std::vector<Piece> pieces;
    int64_t special_count = 0;
  };

  // `outside[id]`, unless empty: the token is known only as an added one, words are not made of it.
  static Tokenizer make(std::vector<std::string> tokens, std::vector<bool> outside, const TokenizerOptions& options,
                        const std::string& source);
  static Tokenizer from_parts(const std::string_view* pipeline, const std::string_view* vocab, std::string_view config,
                              std::string_view special_tokens, const std::string& source,
                              const std::string& config_source, Semantics semantics);
  void add_tokens(const std::string& source);
  Template resolve(const std::vector<TemplatePiece>& pieces, bool pair, const std::string& source) const;

  int32_t find(std::string_view token) const;  // -1 when absent
  int32_t find(uint64_t hash, std::string_view prefix, std::string_view rest) const;
  void append_word(std::string_view word, std::vector<int32_t>& out) const;
  void append_ids(std::string_view text, std::vector<int32_t>& out) const;
  void append_plain(std::string_view text, std::vector<int32_t>& out) const;
  void append_with_offsets(std::string_view text, std::vector<int32_t>& out, Offsets& offsets) const;
  void append_words(std::u32string_view text, std::span<const uint32_t> source, uint32_t base,
                    std::vector<int32_t>& out, Offsets* offsets) const;

  TokenizerOptions options_;
  std::vector<std::string> tokens_;
  std::vector<bool> outside_;  // by id, empty: none
  std::vector<Slot> slots_;    // the tokens that words are made of
  std::unordered_map<std::string, int32_t> outside_ids_;
  size_t longest_token_ = 0;              // bytes
  std::array<int32_t, 5> special_ids_{};  // pad, unk, cls, sep, mask
  std::vector<AddedToken> added_;
  std::vector<bool> special_;                       // by id
  std::unordered_map<int64_t, std::string> shown_;  // what token() gives instead of tokens_
  AddedTokenMatcher raw_, normalized_;
  uint64_t start_hash_ = 0, continuation_hash_ = 0;
  Template single_, pair_;
};

}  // namespace duet::train
