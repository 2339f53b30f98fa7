#include "duet/train/tokenizer.h"

#include <algorithm>
#include <bit>

#include "duet/core/file.h"
#include "duet/core/hash.h"
#include "duet/train/unicode.h"

namespace duet::train {
namespace {

constexpr std::string_view continuation = "##";

int64_t count_code_points(std::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

}  // namespace

std::array<int64_t, 2> truncated_lengths(int64_t a, int64_t b, int64_t budget, Truncation truncation) {
  const int64_t excess = a + b - budget;
  if (excess <= 0) return {a, b};
  if (truncation == Truncation::longest_first) {
    const int64_t shorter = std::min(a, b);
    std::array<int64_t, 2> kept{shorter, std::max(shorter, budget - shorter)};
    if (kept[0] + kept[1] > budget) kept = {budget / 2, budget / 2 + budget % 2};
    if (a > b) std::swap(kept[0], kept[1]);
    return kept;
  }
  const bool first = truncation == Truncation::only_first;
  check((first ? a : b) > excess, "tokenizer", "cannot cut ", excess, " tokens from the ", first ? "first" : "second",
        " text of a pair with ", a, " and ", b, " tokens; raise max_length or let both be cut");
  return first ? std::array{a - excess, b} : std::array{a, b - excess};
}

Tokenizer Tokenizer::from_vocab_file(const std::string& path, const TokenizerOptions& options) {
  const std::string bytes = read_file(path);
  std::vector<std::string> tokens;
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t end = std::min(bytes.find('\n', begin), bytes.size());
    std::string_view line(bytes.data() + begin, end - begin);
    while (line.ends_with('\r')) line.remove_suffix(1);
    tokens.emplace_back(line);
    begin = end + 1;
  }
  return from_vocab(std::move(tokens), options, path);
}

Tokenizer Tokenizer::from_vocab(std::vector<std::string> tokens, const TokenizerOptions& options,
                                const std::string& source) {
  check(!tokens.empty(), "tokenizer", source, " is empty; it needs one token a line");
  check(tokens.size() < (1u << 30), "tokenizer", source, " has ", tokens.size(), " tokens; at most 2^30 are possible");
  check(options.max_input_chars_per_word > 0, "tokenizer", "max_input_chars_per_word must be positive, not ",
        options.max_input_chars_per_word);
  Tokenizer t;
  t.options_ = options;
  t.tokens_ = std::move(tokens);
  t.slots_.resize(std::bit_ceil(2 * t.tokens_.size()));
  const size_t mask = t.slots_.size() - 1;
  for (size_t i = 0; i < t.tokens_.size(); ++i) {
    const std::string& token = t.tokens_[i];
    check(unicode::is_valid_utf8(token), "tokenizer", source, ":", i + 1, ": token ", i, " is not valid UTF-8");
    const uint64_t hash = fnv1a64(token);
    size_t at = hash & mask;
    while (t.slots_[at].id >= 0 && t.tokens_[static_cast<size_t>(t.slots_[at].id)] != token) at = (at + 1) & mask;
    t.slots_[at] = {hash, static_cast<int32_t>(i)};
    t.longest_token_ = std::max(t.longest_token_, token.size());
  }
  const auto add_special = [&](const std::string& token) {
    check(!token.empty() && t.find(token) >= 0, "tokenizer", source, " lacks the special token \"", token, "\"",
          source == "vocabulary" ? "" : "; is it a WordPiece vocabulary (vocab.txt)?");
    t.special_ids_.push_back(t.find(token));
    t.starts_special_[static_cast<unsigned char>(token[0])] = true;
  };
  for (const auto* token :
       {&options.pad_token, &options.unk_token, &options.cls_token, &options.sep_token, &options.mask_token})
    add_special(*token);
  for (const std::string& token : options.additional_special_tokens) add_special(token);
  return t;
}

int32_t Tokenizer::find(uint64_t hash, std::string_view prefix, std::string_view rest) const {
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask; slots_[at].id >= 0; at = (at + 1) & mask) {
    if (slots_[at].hash != hash) continue;
    const std::string_view token = tokens_[static_cast<size_t>(slots_[at].id)];
    if (token.size() == prefix.size() + rest.size() && token.starts_with(prefix) && token.ends_with(rest))
      return slots_[at].id;
  }
  return -1;
}

int32_t Tokenizer::find(std::string_view token) const {
  return find(fnv1a64(token), "", token);
}

int32_t Tokenizer::id(std::string_view token) const {
  const int32_t found = find(token);
  return found >= 0 ? found : unk_id();
}

const std::string& Tokenizer::token(int64_t id) const {
  check(id >= 0 && id < size(), "tokenizer", "id ", id, " is outside the vocabulary of ", size(), " tokens");
  return tokens_[static_cast<size_t>(id)];
}

bool Tokenizer::is_special(int64_t id) const {
  return std::find(special_ids_.begin(), special_ids_.end(), id) != special_ids_.end();
}

// Greedy longest match from the left; a word that cannot be covered is one unknown token.
void Tokenizer::append_word(std::string_view word, std::vector<int32_t>& out) const {
  static const uint64_t start_hash = fnv1a64(""), continuation_hash = fnv1a64(continuation);
  if (static_cast<int64_t>(word.size()) > options_.max_input_chars_per_word &&
      count_code_points(word) > options_.max_input_chars_per_word) {
    out.push_back(unk_id());
    return;
  }
  const size_t first_piece = out.size();
  std::array<uint64_t, 64> stack_hashes;
  std::vector<uint64_t> heap_hashes;
  uint64_t* hashes = stack_hashes.data();  // hashes[n]: of the first n + 1 bytes of the rest
  if (word.size() > stack_hashes.size()) {
    heap_hashes.resize(word.size());
    hashes = heap_hashes.data();
  }
  for (std::string_view rest = word; !rest.empty();) {
    const std::string_view prefix = out.size() == first_piece ? std::string_view() : continuation;
    const size_t longest = std::min(rest.size(), longest_token_);
    uint64_t hash = prefix.empty() ? start_hash : continuation_hash;
    for (size_t i = 0; i < longest; ++i) hashes[i] = hash = fnv1a64(rest.substr(i, 1), hash);
    int32_t piece = -1;
    size_t length = longest;
    // Tokens are valid UTF-8, so one that equals a prefix in bytes ends between code points.
    for (; length > 0; --length)
      if ((piece = find(hashes[length - 1], prefix, rest.substr(0, length))) >= 0) break;
    if (piece < 0) {
      out.resize(first_piece);
      out.push_back(unk_id());
      return;
    }
    out.push_back(piece);
    rest.remove_prefix(length);
  }
}

void Tokenizer::append_ids(std::string_view text, std::vector<int32_t>& out) const {
  std::string words;
  const auto append_plain = [&](std::string_view part) {
    basic_tokenize(part, options_, words);
    for_each_word(words, [&](std::string_view word) { append_word(word, out); });
  };
  size_t done = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!starts_special_[static_cast<unsigned char>(text[i])]) continue;
    int32_t special = -1;  // of several that match here, the longest
    for (const int32_t candidate : special_ids_)
      if (text.substr(i).starts_with(token(candidate)) &&
          (special < 0 || token(candidate).size() > token(special).size()))
        special = candidate;
    if (special < 0) continue;
    append_plain(text.substr(done, i - done));
    out.push_back(special);
    done = i + token(special).size();
    i = done - 1;
  }
  append_plain(text.substr(done));
}

std::vector<int32_t> Tokenizer::ids(std::string_view text) const {
  std::vector<int32_t> out;
  append_ids(text, out);
  return out;
}

std::vector<std::string> Tokenizer::tokens(std::string_view text) const {
  std::vector<std::string> out;
  for (const int32_t i : ids(text)) out.push_back(token(i));
  return out;
}

Encoding Tokenizer::encode(std::string_view text, int64_t max_length) const {
  check(max_length == 0 || max_length >= 2, "tokenizer", "max_length ", max_length, " has no room for ",
        options_.cls_token, " and ", options_.sep_token, "; it must be 0 (unlimited) or at least 2");
  Encoding e;
  e.ids.reserve(text.size() / 4 + 4);
  e.ids.push_back(cls_id());
  append_ids(text, e.ids);
  if (max_length > 0 && static_cast<int64_t>(e.ids.size()) > max_length - 1)
    e.ids.resize(static_cast<size_t>(max_length - 1));
  e.ids.push_back(sep_id());
  e.type_ids.assign(e.ids.size(), 0);
  return e;
}

Encoding Tokenizer::encode_pair(std::string_view a, std::string_view b, int64_t max_length,
                                Truncation truncation) const {
  check(max_length == 0 || max_length >= 3, "tokenizer", "max_length ", max_length, " has no room for ",
        options_.cls_token, " and two ", options_.sep_token, "; it must be 0 (unlimited) or at least 3");
  std::vector<int32_t> first = ids(a), second = ids(b);
  if (max_length > 0) {
    const auto kept = truncated_lengths(static_cast<int64_t>(first.size()), static_cast<int64_t>(second.size()),
                                        max_length - 3, truncation);
    first.resize(static_cast<size_t>(kept[0]));
    second.resize(static_cast<size_t>(kept[1]));
  }
  Encoding e;
  e.ids.reserve(first.size() + second.size() + 3);
  e.ids.push_back(cls_id());
  e.ids.insert(e.ids.end(), first.begin(), first.end());
  e.ids.push_back(sep_id());
  e.type_ids.assign(e.ids.size(), 0);
  e.ids.insert(e.ids.end(), second.begin(), second.end());
  e.ids.push_back(sep_id());
  e.type_ids.resize(e.ids.size(), 1);
  return e;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool keep_special) const {
  std::string out;
  for (const int32_t i : ids) {
    if (!keep_special && is_special(i)) continue;
    std::string_view piece = token(i);
    if (piece.starts_with(continuation) && !out.empty())
      piece.remove_prefix(continuation.size());
    else if (!out.empty())
      out += ' ';
    out += piece;
  }
  return out;
}

void Tokenizer::save_vocab(const std::string& path) const {
  std::string bytes;
  for (const std::string& token : tokens_) bytes += token + '\n';
  write_file_atomically(path, bytes);
}

}  // namespace duet::train
