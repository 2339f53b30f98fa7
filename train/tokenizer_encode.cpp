#include <algorithm>

#include "duet/train/tokenizer.h"

// From the tokens of texts to what a model takes: cutting, special tokens and padding.
namespace duet::train {
namespace {

using Kind = TemplatePiece::Kind;

constexpr int64_t longest_padding = 1 << 20;

template <class T>
void keep(std::vector<T>& values, int64_t count, Side lost) {
  const auto size = static_cast<int64_t>(values.size());
  if (count >= size) return;
  if (lost == Side::left) values.erase(values.begin(), values.end() - count);
  values.resize(static_cast<size_t>(count));
}

template <class T>
void lengthen(std::vector<T>& values, size_t length, Side side, const T& with) {
  values.insert(side == Side::left ? values.begin() : values.end(), length - values.size(), with);
}

}  // namespace

std::array<int64_t, 2> truncated_lengths(int64_t a, int64_t b, int64_t budget, Truncation truncation,
                                         Semantics semantics) {
  const int64_t excess = a + b - budget;
  if (excess <= 0) return {a, b};
  if (budget == 0) return {0, 0};
  if (truncation == Truncation::longest_first) {
    const int64_t shorter = std::min(a, b);
    std::array<int64_t, 2> kept{shorter, std::max(shorter, budget - shorter)};
    const bool both = kept[0] + kept[1] > budget;
    if (both) kept = {budget / 2, budget / 2 + budget % 2};
    if (a > b || (both && semantics == Semantics::slow)) std::swap(kept[0], kept[1]);
    return kept;
  }
  const bool first = truncation == Truncation::only_first;
  check((first ? a : b) > excess, "tokenizer", "cannot cut ", excess, " tokens from the ", first ? "first" : "second",
        " text of a pair with ", a, " and ", b, " tokens; raise max_length or let both be cut");
  return first ? std::array{a - excess, b} : std::array{a, b - excess};
}

Tokenizer::Template Tokenizer::resolve(const std::vector<TemplatePiece>& given, bool pair,
                                       const std::string& source) const {
  std::vector<TemplatePiece> pieces = given;
  if (pieces.empty()) {
    pieces = {{Kind::special, 0, {options_.cls_token}}, {Kind::a, 0, {}}, {Kind::special, 0, {options_.sep_token}}};
    if (pair) {
      pieces.push_back({Kind::b, 1, {}});
      pieces.push_back({Kind::special, 1, {options_.sep_token}});
    }
  }
  const auto count = [&](Kind kind) {
    return std::count_if(pieces.begin(), pieces.end(), [&](const TemplatePiece& p) { return p.kind == kind; });
  };
  check(count(Kind::a) == 1 && count(Kind::b) == (pair ? 1 : 0), "tokenizer", source, ": the template for ",
        pair ? "a pair must hold each text" : "a single text must hold it", " exactly once",
        pair ? "" : ", and no second one");
  Template result;
  for (const TemplatePiece& piece : pieces) {
    Template::Piece resolved{piece.kind, piece.type_id, {}};
    for (const std::string& token : piece.tokens) {
      check(find(token) >= 0, "tokenizer", source, ": the template's special token \"", token,
            "\" is not in the vocabulary");
      resolved.ids.push_back(find(token));
    }
    result.special_count += static_cast<int64_t>(resolved.ids.size());
    result.pieces.push_back(std::move(resolved));
  }
  return result;
}

Encoding Tokenizer::encode_with(const EncodeOptions& options, std::string_view a,
                                std::optional<std::string_view> b) const {
  const Template& form = b ? pair_ : single_;
  const int64_t specials = options.special_tokens ? form.special_count : 0, limit = options.truncation.max_length;
  check(limit == 0 || limit >= std::max<int64_t>(specials, 1), "tokenizer", "max_length ", limit,
        " has no room for the special tokens (", options_.cls_token,
        " and so on); it must be 0 (unlimited) or at least ", std::max<int64_t>(specials, 1));
  check(b || options.truncation.strategy != Truncation::only_second, "tokenizer",
        "only_second cuts the second text of a pair, but there is only one text");
  std::array<std::vector<int32_t>, 2> ids;
  std::array<Offsets, 2> offsets;
  const auto read = [&](std::string_view text, size_t which) {
    ids[which].reserve(text.size() / 4 + 4);
    if (options.offsets)
      append_with_offsets(text, ids[which], offsets[which]);
    else
      append_ids(text, ids[which]);
  };
  check(!options.offsets || options_.semantics == Semantics::fast, "tokenizer",
        "offsets are known only with the fast semantics; the slow tokenizer has none");
  read(a, 0);
  if (b) read(*b, 1);
  if (limit > 0) {
    const auto kept = truncated_lengths(static_cast<int64_t>(ids[0].size()), static_cast<int64_t>(ids[1].size()),
                                        limit - specials, options.truncation.strategy, options_.semantics);
    for (size_t i = 0; i < 2; ++i) {
      keep(ids[i], kept[i], options.truncation.side);
      keep(offsets[i], kept[i], options.truncation.side);
    }
  }
  Encoding e;
  const size_t total = ids[0].size() + ids[1].size() + static_cast<size_t>(specials);
  e.ids.reserve(total);
  e.type_ids.reserve(total);
  e.special_tokens_mask.reserve(total);
  for (const Template::Piece& piece : form.pieces) {
    const bool special = piece.kind == Kind::special;
    if (special && !options.special_tokens) continue;
    const size_t which = piece.kind == Kind::b;
    const std::vector<int32_t>& part = special ? piece.ids : ids[which];
    e.ids.insert(e.ids.end(), part.begin(), part.end());
    e.type_ids.resize(e.ids.size(), piece.type_id);
    e.special_tokens_mask.resize(e.ids.size(), special);
    if (!options.offsets) continue;
    if (special)
      e.offsets.resize(e.ids.size());
    else
      e.offsets.insert(e.offsets.end(), offsets[which].begin(), offsets[which].end());
  }
  e.attention_mask.assign(e.ids.size(), 1);
  return e;
}

Encoding Tokenizer::encode(std::string_view text, int64_t max_length) const {
  return encode_with({.truncation = {.max_length = max_length, .side = options_.truncation_side}}, text);
}

Encoding Tokenizer::encode_pair(std::string_view a, std::string_view b, int64_t max_length,
                                Truncation truncation) const {
  return encode_with(
      {.truncation = {.max_length = max_length, .strategy = truncation, .side = options_.truncation_side}}, a, b);
}

Encoding Tokenizer::encode_as_configured(std::string_view a, std::optional<std::string_view> b, bool offsets) const {
  Encoding e = encode_with({.truncation = options_.truncation.value_or(TruncationOptions{}), .offsets = offsets}, a, b);
  if (options_.padding) pad({&e, 1}, *options_.padding);
  return e;
}

void Tokenizer::pad(std::span<Encoding> encodings, const PaddingOptions& options) const {
  check(options.length >= 0 && options.length <= longest_padding, "tokenizer", "padding to ", options.length,
        " tokens is not possible; the length must be 0 (the longest text) to ", longest_padding);
  check(options.multiple_of >= 0 && options.multiple_of <= longest_padding, "tokenizer", "padding to a multiple of ",
        options.multiple_of, " is not possible; it must be 0 (any) to ", longest_padding);
  check(options.id >= -1 && options.id < size(), "tokenizer", "the padding id ", options.id, " is no token");
  auto length = static_cast<size_t>(options.length);
  if (length == 0)
    for (const Encoding& e : encodings) length = std::max(length, e.ids.size());
  if (const auto m = static_cast<size_t>(options.multiple_of); m > 0) length = (length + m - 1) / m * m;
  for (Encoding& e : encodings) {
    if (e.ids.size() >= length) continue;
    if (!e.offsets.empty()) lengthen(e.offsets, length, options.side, {});
    lengthen<int32_t>(e.ids, length, options.side, options.id < 0 ? pad_id() : options.id);
    lengthen<int32_t>(e.type_ids, length, options.side, options.type_id);
    lengthen<uint8_t>(e.attention_mask, length, options.side, 0);
    lengthen<uint8_t>(e.special_tokens_mask, length, options.side, 1);
  }
}

}  // namespace duet::train
