#include "duet/train/tokenizer.h"

#include <algorithm>
#include <bit>

#include "duet/core/hash.h"
#include "duet/train/unicode.h"

namespace duet::train {
namespace {

int64_t count_code_points(std::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

}  // namespace

Tokenizer Tokenizer::from_vocab(std::vector<std::string> tokens, const TokenizerOptions& options,
                                const std::string& source) {
  return make(std::move(tokens), {}, options, source);
}

Tokenizer Tokenizer::make(std::vector<std::string> tokens, std::vector<bool> outside, const TokenizerOptions& options,
                          const std::string& source) {
  check(!tokens.empty(), "tokenizer", source, " is empty; it needs one token a line");
  check(tokens.size() < (1u << 30), "tokenizer", source, " has ", tokens.size(), " tokens; at most 2^30 are possible");
  check(options.max_input_chars_per_word > 0, "tokenizer", "max_input_chars_per_word must be positive, not ",
        options.max_input_chars_per_word);
  check(unicode::is_valid_utf8(options.continuation), "tokenizer", source,
        ": the prefix of continuations is not UTF-8");
  Tokenizer t;
  t.options_ = options;
  t.tokens_ = std::move(tokens);
  t.outside_ = std::move(outside);
  t.start_hash_ = fnv1a64("");
  t.continuation_hash_ = fnv1a64(options.continuation);
  t.slots_.resize(std::bit_ceil(2 * t.tokens_.size()));
  const size_t mask = t.slots_.size() - 1;
  for (size_t i = 0; i < t.tokens_.size(); ++i) {
    const std::string& token = t.tokens_[i];
    check(unicode::is_valid_utf8(token), "tokenizer", source, ":", i + 1, ": token ", i, " is not valid UTF-8");
    if (token.empty()) continue;
    if (!t.outside_.empty() && t.outside_[i]) {
      t.outside_ids_[token] = static_cast<int32_t>(i);
      continue;
    }
    const uint64_t hash = fnv1a64(token);
    size_t at = hash & mask;
    while (t.slots_[at].id >= 0 && t.tokens_[static_cast<size_t>(t.slots_[at].id)] != token) at = (at + 1) & mask;
    t.slots_[at] = {hash, static_cast<int32_t>(i)};
    t.longest_token_ = std::max(t.longest_token_, token.size());
  }
  t.add_tokens(source);
  t.single_ = t.resolve(options.single_template, false, source);
  t.pair_ = t.resolve(options.pair_template, true, source);
  if (options.padding) {
    const int64_t pad = options.padding->id;
    check(pad >= -1 && pad < t.size(), "tokenizer", source, ": padding has pad_id ", pad, ", which is no token");
  }
  return t;
}

void Tokenizer::add_tokens(const std::string& source) {
  special_.resize(tokens_.size());
  std::unordered_map<std::string, bool> known;
  const auto add = [&](const AddedToken& token) {
    check(!token.content.empty() && find(token.content) >= 0, "tokenizer", source, " lacks the special token \"",
          token.content, "\"", source == "vocabulary" ? "" : "; is it a WordPiece vocabulary (vocab.txt)?");
    if (!known.emplace(token.content, true).second) return;
    added_.push_back(token);
    if (token.special) special_[static_cast<size_t>(find(token.content))] = true;
  };
  const std::array<const std::string*, 5> named{&options_.pad_token, &options_.unk_token, &options_.cls_token,
                                                &options_.sep_token, &options_.mask_token};
  for (AddedToken token : options_.added_tokens) {
    for (const std::string* name : named) token.special = token.special || *name == token.content;
    add(token);
  }
  for (size_t i = 0; i < named.size(); ++i) {
    add({.content = *named[i]});
    special_ids_[i] = find(*named[i]);
  }
  for (const std::string& token : options_.additional_special_tokens) add({.content = token});
  check(outside_.empty() || !outside_[static_cast<size_t>(unk_id())], "tokenizer", source, ": the unknown token \"",
        options_.unk_token, "\" must be in the vocabulary of the model, not only an added token");
  // Of tokens that are equal once normalised, a special one comes first, as in the reference.
  for (const bool special : {true, false})
    for (const AddedToken& token : added_) {
      if (token.special != special) continue;
      if (!token.normalized) {
        raw_.add(token.content, token, find(token.content));
        continue;
      }
      std::string pattern;
      for (const char32_t c : normalize(token.content, options_)) unicode::append_utf8(pattern, c);
      normalized_.add(pattern, token, find(token.content));
      if (pattern != token.content) shown_[find(token.content)] = pattern;
    }
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
  const int32_t found = find(fnv1a64(token), "", token);
  if (found >= 0 || outside_ids_.empty()) return found;
  const auto at = outside_ids_.find(std::string(token));
  return at == outside_ids_.end() ? -1 : at->second;
}

int32_t Tokenizer::id(std::string_view token) const {
  const int32_t found = find(token);
  return found >= 0 ? found : unk_id();
}

const std::string& Tokenizer::token(int64_t id) const {
  check(id >= 0 && id < size(), "tokenizer", "id ", id, " is outside the vocabulary of ", size(), " tokens");
  if (const auto at = shown_.find(id); at != shown_.end()) return at->second;
  return tokens_[static_cast<size_t>(id)];
}

bool Tokenizer::is_special(int64_t id) const {
  return id >= 0 && id < size() && special_[static_cast<size_t>(id)];
}

// Greedy longest match from the left; a word that cannot be covered is one unknown token.
void Tokenizer::append_word(std::string_view word, std::vector<int32_t>& out) const {
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
    const std::string_view prefix = out.size() == first_piece ? std::string_view() : options_.continuation;
    const size_t longest = std::min(rest.size(), longest_token_);
    uint64_t hash = out.size() == first_piece ? start_hash_ : continuation_hash_;
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
  for (const auto& part : raw_.split(text)) {
    if (part.id >= 0)
      out.push_back(part.id);
    else
      append_plain(text.substr(part.begin, part.end - part.begin), out);
  }
}

void Tokenizer::append_plain(std::string_view text, std::vector<int32_t>& out) const {
  if (normalized_.empty()) {
    std::string words;
    basic_tokenize(text, options_, words);
    for_each_word(words, [&](std::string_view word) { append_word(word, out); });
    return;
  }
  std::string normal;
  for (const char32_t c : normalize(text, options_)) unicode::append_utf8(normal, c);
  for (const auto& part : normalized_.split(normal)) {
    if (part.id >= 0)
      out.push_back(part.id);
    else
      append_words(unicode::decode_utf8(std::string_view(normal).substr(part.begin, part.end - part.begin)), {}, 0, out,
                   nullptr);
  }
}

// Words of a normalised text. With offsets, source[i] + base is the original code point of its character i.
void Tokenizer::append_words(std::u32string_view text, std::span<const uint32_t> source, uint32_t base,
                             std::vector<int32_t>& out, Offsets* offsets) const {
  split_words(text, options_.semantics, [&](size_t begin, size_t end) {
    std::string word;
    for (const char32_t c : text.substr(begin, end - begin)) unicode::append_utf8(word, c);
    const size_t first = out.size();
    append_word(word, out);
    if (!offsets) return;
    const auto span = [&](size_t from, size_t to) {
      offsets->push_back({base + source[from], base + source[to - 1] + 1});
    };
    // An unknown word is one token, and only then do the lengths not add up.
    if (out.size() == first + 1) return span(begin, end);
    for (size_t i = first, at = begin; i < out.size(); ++i) {
      std::string_view piece = tokens_[static_cast<size_t>(out[i])];
      if (i > first) piece.remove_prefix(options_.continuation.size());
      const size_t next = at + static_cast<size_t>(count_code_points(piece));
      span(at, next);
      at = next;
    }
  });
}

void Tokenizer::append_with_offsets(std::string_view text, std::vector<int32_t>& out, Offsets& offsets) const {
  check(text.size() < (1u << 31), "tokenizer", "offsets are 32 bit numbers; a text of ", text.size(),
        " bytes is too long");
  std::vector<uint32_t> index(text.size() + 1);  // of the code point that begins at a byte
  for (std::string_view rest = text; !rest.empty();) {
    const size_t at = text.size() - rest.size();
    unicode::take_code_point(rest);
    for (size_t next = text.size() - rest.size(), i = at + 1; i <= next; ++i) index[i] = index[at] + 1;
  }
  for (const auto& part : raw_.split(text)) {
    const uint32_t base = index[part.begin];
    if (part.id >= 0) {
      out.push_back(part.id);
      offsets.push_back({base, index[part.end]});
      continue;
    }
    std::vector<uint32_t> source;
    const std::u32string normal = normalize(text.substr(part.begin, part.end - part.begin), options_, &source);
    if (normalized_.empty()) {
      append_words(normal, source, base, out, &offsets);
      continue;
    }
    std::string bytes;
    std::vector<uint32_t> character;  // of a byte; one more for the end
    for (const char32_t c : normal) {
      unicode::append_utf8(bytes, c);
      character.resize(bytes.size(), character.empty() ? 0 : character.back() + 1);
    }
    character.push_back(static_cast<uint32_t>(normal.size()));
    for (const auto& inner : normalized_.split(bytes)) {
      const size_t begin = character[inner.begin], end = character[inner.end];
      if (inner.id < 0) {
        append_words(std::u32string_view(normal).substr(begin, end - begin),
                     std::span(source).subspan(begin, end - begin), base, out, &offsets);
        continue;
      }
      out.push_back(inner.id);
      offsets.push_back({base + source[begin], base + source[end - 1] + 1});
    }
  }
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

}  // namespace duet::train
