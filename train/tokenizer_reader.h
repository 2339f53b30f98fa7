#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <unordered_map>
#include <vector>

#include "duet/core/json.h"
#include "duet/train/tokenizer.h"

// What reading tokenizer files takes: typed access to JSON with errors that name the file, and the vocabulary gathered
// from several places. Only for tokenizer_files.cpp.
namespace duet::train::tokenizer_files {

using Object = nlohmann::json;

inline constexpr int64_t most_ids = 1 << 30;

// Typed access to a file's members; null and absence give the fallback.
struct Reader {
  const std::string& source;

  const Object& member(const Object& object, const std::string& key) const {
    static const Object absent;
    const auto at = object.find(key);
    return at == object.end() ? absent : *at;
  }
  bool boolean(const Object& object, const std::string& key, bool fallback) const {
    const Object& value = member(object, key);
    if (value.is_null()) return fallback;
    check(value.is_boolean(), "tokenizer", source, ": ", key, " must be true or false, not ", shown(value));
    return value.get<bool>();
  }
  std::string string(const Object& object, const std::string& key, const std::string& fallback) const {
    const Object& value = member(object, key);
    if (value.is_null()) return fallback;
    check(value.is_string(), "tokenizer", source, ": ", key, " must be a string, not ", shown(value));
    return value.get<std::string>();
  }
  int64_t integer(const Object& value, const std::string& what, int64_t low, int64_t high) const {
    const bool fits = value.is_number_integer() &&
                      !(value.is_number_unsigned() && value.get<uint64_t>() > std::numeric_limits<int64_t>::max()) &&
                      value.get<int64_t>() >= low && value.get<int64_t>() <= high;
    check(fits, "tokenizer", source, ": ", what, " must be an integer from ", low, " to ", high, ", not ",
          shown(value));
    return value.get<int64_t>();
  }
  int64_t integer(const Object& object, const std::string& key, int64_t fallback, int64_t low, int64_t high) const {
    const Object& value = member(object, key);
    return value.is_null() ? fallback : integer(value, key, low, high);
  }
  static std::string shown(const Object& value) {
    const std::string text = value.dump();
    return text.size() <= 60 ? text : text.substr(0, 60) + "...";
  }
  // Refuses a part of the pipeline unless its type is one of these.
  std::string type(const Object& part, const std::string& name, const std::vector<std::string>& known) const {
    const std::string given = part.is_object() ? string(part, "type", "none") : "none";
    std::string all;
    for (const std::string& k : known) all += (all.empty() ? "" : " or ") + k;
    check(std::find(known.begin(), known.end(), given) != known.end(), "tokenizer", source, ": ", name, " \"", given,
          "\" is not supported, ", all, " is; only BERT WordPiece tokenizers are");
    return given;
  }
  Side side(const Object& object, const std::string& key, Side fallback) const {
    const std::string given = string(object, key, fallback == Side::left ? "left" : "right");
    const bool left = given == "left" || given == "Left";
    check(left || given == "right" || given == "Right", "tokenizer", source, ": ", key,
          " must be left or right, not \"", given, "\"");
    return left ? Side::left : Side::right;
  }
  AddedToken added(const Object& entry) const {
    check(entry.is_object(), "tokenizer", source, ": an added token must be an object, not ", shown(entry));
    AddedToken token{.content = string(entry, "content", ""), .special = boolean(entry, "special", false)};
    token.single_word = boolean(entry, "single_word", false);
    token.lstrip = boolean(entry, "lstrip", false);
    token.rstrip = boolean(entry, "rstrip", false);
    token.normalized = boolean(entry, "normalized", !token.special);
    check(!token.content.empty(), "tokenizer", source, ": an added token has no content");
    return token;
  }
};

// Tokens by id, from several places that must agree.
class Vocabulary {
 public:
  explicit Vocabulary(const std::string& source) : source_(source) {}

  void add(const std::string& token, int64_t id, bool outside) {
    const auto [known, is_new] = ids_.emplace(token, id);
    if (is_new) {
      entries_.push_back({token, id, outside});
      return;
    }
    check(known->second == id, "tokenizer", source_, ": token \"", token, "\" has id ", known->second,
          " and, as an added token, ", id);
  }
  void add_lines(std::vector<std::string> lines) {
    // Unlike elsewhere, a token may occur twice.
    for (size_t i = 0; i < lines.size(); ++i) {
      ids_[lines[i]] = static_cast<int64_t>(i);
      entries_.push_back({std::move(lines[i]), static_cast<int64_t>(i), false});
    }
  }
  // Gaps become empty tokens.
  std::vector<std::string> finish(std::vector<bool>& outside) const {
    const auto limit = static_cast<int64_t>(2 * entries_.size() + 1024);
    std::vector<std::string> tokens;
    std::vector<bool> taken;
    bool any_outside = false;
    for (const Entry& e : entries_) {
      check(e.id >= 0 && e.id < most_ids, "tokenizer", source_, ": id ", e.id, " of token \"", e.token,
            "\" is out of range");
      check(e.id < limit, "tokenizer", source_, ": token \"", e.token, "\" has id ", e.id, ", but there are only ",
            entries_.size(), " tokens; ids with larger gaps are not supported");
      const auto at = static_cast<size_t>(e.id);
      if (at >= tokens.size()) {
        tokens.resize(at + 1);
        taken.resize(at + 1);
        outside.resize(at + 1);
      }
      check(!taken[at], "tokenizer", source_, ": tokens \"", tokens[at], "\" and \"", e.token, "\" share id ", e.id);
      tokens[at] = e.token;
      taken[at] = true;
      outside[at] = e.outside;
      any_outside = any_outside || e.outside;
    }
    if (!any_outside) outside.clear();
    return tokens;
  }

 private:
  struct Entry {
    std::string token;
    int64_t id;
    bool outside;  // not one that words are made of
  };
  std::string source_;
  std::vector<Entry> entries_;
  std::unordered_map<std::string, int64_t> ids_;
};

}  // namespace duet::train::tokenizer_files
