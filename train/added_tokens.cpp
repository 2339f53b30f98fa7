#include "duet/train/added_tokens.h"

#include <algorithm>

#include "duet/core/error.h"
#include "duet/train/unicode.h"

namespace duet::train {
namespace {

// Real ones have a few dozen bytes. The limit keeps matching linear in the text.
constexpr size_t longest_pattern = 4096;

bool touches_word(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && unicode::is_word(unicode::code_point_before(text, begin))) return true;
  std::string_view rest = text.substr(end);
  return !rest.empty() && unicode::is_word(unicode::take_code_point(rest));
}

// The beginning of the white space that ends at `end`, but not before `limit`.
size_t space_before(std::string_view text, size_t end, size_t limit) {
  size_t begin = end;
  while (begin > limit) {
    const char32_t c = unicode::code_point_before(text, begin);
    if (!unicode::is_white_space(c)) break;
    std::string bytes;
    unicode::append_utf8(bytes, c);
    begin -= bytes.size();
  }
  return begin;
}

size_t space_after(std::string_view text, size_t begin) {
  std::string_view rest = text.substr(begin);
  while (!rest.empty()) {
    std::string_view next = rest;
    if (!unicode::is_white_space(unicode::take_code_point(next))) break;
    rest = next;
  }
  return text.size() - rest.size();
}

}  // namespace

int32_t AddedTokenMatcher::child_of(int32_t node, char byte) const {
  int32_t child = nodes_[static_cast<size_t>(node)].child;
  while (child >= 0 && nodes_[static_cast<size_t>(child)].byte != byte) child = nodes_[static_cast<size_t>(child)].next;
  return child;
}

void AddedTokenMatcher::add(std::string_view pattern, const AddedToken& token, int32_t id) {
  check(!pattern.empty(), "tokenizer", "added token \"", token.content,
        "\" is empty once it is normalised, so it would ", "match everywhere; give it normalized = false");
  check(pattern.size() <= longest_pattern, "tokenizer", "added token \"", token.content.substr(0, 40), "...\" has ",
        pattern.size(), " bytes; at most ", longest_pattern, " are possible");
  const auto make = [&](char byte, int32_t next) {
    nodes_.push_back({-1, next, -1, byte});
    return static_cast<int32_t>(nodes_.size() - 1);
  };
  int32_t& root = roots_[static_cast<unsigned char>(pattern[0])];
  if (root < 0) root = make(pattern[0], -1);
  int32_t node = root;
  for (const char byte : pattern.substr(1)) {
    int32_t child = child_of(node, byte);
    if (child < 0) {
      child = make(byte, nodes_[static_cast<size_t>(node)].child);
      nodes_[static_cast<size_t>(node)].child = child;
    }
    node = child;
  }
  int32_t& entry = nodes_[static_cast<size_t>(node)].token;
  if (entry >= 0) return;
  entry = static_cast<int32_t>(tokens_.size());
  tokens_.push_back({token.single_word, token.lstrip, token.rstrip, id});
}

std::vector<AddedTokenMatcher::Part> AddedTokenMatcher::split(std::string_view text) const {
  std::vector<Part> parts;
  size_t done = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    int32_t node = roots_[static_cast<unsigned char>(text[i])], longest = -1;
    size_t match_end = i;
    for (size_t at = i; node >= 0;) {
      ++at;
      if (const int32_t token = nodes_[static_cast<size_t>(node)].token; token >= 0) {
        longest = token;
        match_end = at;
      }
      node = at < text.size() ? child_of(node, text[at]) : -1;
    }
    if (longest < 0) continue;
    const Entry& token = tokens_[static_cast<size_t>(longest)];
    size_t begin = i, end = match_end;
    i = match_end - 1;  // a match that is turned down is passed over as well
    if (token.single_word && touches_word(text, begin, end)) continue;
    // White space that the last token took is not taken again, although a token may itself begin with such.
    if (token.lstrip) begin = std::max(space_before(text, begin, std::min(done, begin)), done);
    if (token.rstrip) end = space_after(text, end);
    end = std::max(begin, end);
    if (done < begin) parts.push_back({done, begin, -1});
    parts.push_back({begin, end, token.id});
    done = end;
  }
  if (done != text.size()) parts.push_back({done, text.size(), -1});
  return parts;
}

}  // namespace duet::train
