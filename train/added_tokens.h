#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace duet::train {

// A token that is matched in the text as it stands, before the text is cut into words; AddedToken of Hugging Face.
struct AddedToken {
  std::string content;
  bool single_word = false;             // matches only where no letter, digit, mark or _ touches it
  bool lstrip = false, rstrip = false;  // takes the white space on that side with it
  bool normalized = false;              // matched, itself normalised, in the normalised text instead of the raw one
  bool special = true;                  // left out of decoded text

  bool operator==(const AddedToken&) const = default;
};

// Finds added tokens in UTF-8: of all matches the leftmost, of those the longest, none overlapping another. Results are
// those of Hugging Face tokenizers 0.23. Takes time linear in the text for a given set of tokens.
class AddedTokenMatcher {
 public:
  // A pattern that was added before wins over an equal one. Patterns must not be empty.
  void add(std::string_view pattern, const AddedToken& token, int32_t id);
  bool empty() const { return tokens_.empty(); }

  // A stretch of the text in bytes: an added token, or with id -1 what stands between them. With lstrip and rstrip the
  // white space belongs to the token; as in the reference, a token may then begin before the last one ended.
  struct Part {
    size_t begin, end;
    int32_t id;
  };
  std::vector<Part> split(std::string_view text) const;

 private:
  // A trie; children are a linked list.
  struct Node {
    int32_t child = -1, next = -1, token = -1;
    char byte = 0;
  };
  struct Entry {
    bool single_word, lstrip, rstrip;
    int32_t id;
  };

  int32_t child_of(int32_t node, char byte) const;  // -1: none

  std::array<int32_t, 256> roots_ = [] {
    std::array<int32_t, 256> none;
    none.fill(-1);
    return none;
  }();
  std::vector<Node> nodes_;
  std::vector<Entry> tokens_;
};

}  // namespace duet::train
