#include "duet/train/wordpiece_trainer.h"

#include <algorithm>
#include <map>
#include <queue>
#include <utility>

#include "duet/core/error.h"
#include "duet/train/unicode.h"

namespace duet::train {
namespace {

constexpr std::string_view continuation = "##";

using Symbol = uint32_t;  // index into the vocabulary
using Pair = uint64_t;    // left symbol in the upper half

Pair make_pair_key(Symbol left, Symbol right) {
  return Pair{left} << 32 | right;
}

struct Word {
  std::vector<Symbol> symbols;
  int64_t count;
};

struct PairState {
  int64_t count = 0;
  std::vector<uint32_t> words;  // words that held the pair at some time, perhaps twice
};

struct Candidate {
  int64_t count;
  Pair pair;
  // The top of a priority queue is the greatest: most frequent, then lowest symbols.
  bool operator<(const Candidate& o) const { return count != o.count ? count < o.count : pair > o.pair; }
};

class Pieces {
 public:
  Symbol add(const std::string& token) {
    const auto [at, inserted] = index_.emplace(token, static_cast<Symbol>(tokens_.size()));
    if (inserted) tokens_.push_back(token);
    return at->second;
  }
  const std::string& operator[](Symbol s) const { return tokens_[s]; }
  size_t size() const { return tokens_.size(); }
  std::vector<std::string> take() { return std::move(tokens_); }

 private:
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, Symbol> index_;
};

// Byte-pair merging with counts kept up to date: a merge touches only the words that hold the pair.
class Merger {
 public:
  Merger(std::vector<Word> words, Pieces& vocabulary) : words_(std::move(words)), vocabulary_(vocabulary) {
    for (uint32_t w = 0; w < words_.size(); ++w) count_pairs(w, +1);
    push_changed();
  }

  void run(size_t vocab_size, int64_t min_frequency) {
    while (vocabulary_.size() < vocab_size && !queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      const PairState& state = pairs_[best.pair];
      // A count that changed since was pushed again with its new value, so this entry is out of date.
      if (state.count != best.count) continue;
      if (best.count < min_frequency) break;
      merge(best.pair);
    }
  }

 private:
  void count_pairs(uint32_t w, int sign) {
    const Word& word = words_[w];
    for (size_t i = 0; i + 1 < word.symbols.size(); ++i) {
      const Pair pair = make_pair_key(word.symbols[i], word.symbols[i + 1]);
      PairState& state = pairs_[pair];
      state.count += sign * word.count;
      if (sign > 0 && (state.words.empty() || state.words.back() != w)) state.words.push_back(w);
      changed_.push_back(pair);
    }
  }

  void push_changed() {
    std::sort(changed_.begin(), changed_.end());
    changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
    for (const Pair pair : changed_)
      if (const int64_t count = pairs_[pair].count; count > 0) queue_.push({count, pair});
    changed_.clear();
  }

  void merge(Pair pair) {
    const auto left = static_cast<Symbol>(pair >> 32), right = static_cast<Symbol>(pair);
    const Symbol merged = vocabulary_.add(vocabulary_[left] + vocabulary_[right].substr(continuation.size()));
    for (const uint32_t w : std::exchange(pairs_[pair].words, {})) {
      std::vector<Symbol>& symbols = words_[w].symbols;
      const auto holds = [&](size_t i) {
        return i + 1 < symbols.size() && symbols[i] == left && symbols[i + 1] == right;
      };
      size_t first = 0;
      while (first < symbols.size() && !holds(first)) ++first;
      if (first == symbols.size()) continue;  // merged away by an earlier step
      count_pairs(w, -1);
      size_t kept = first;
      for (size_t i = first; i < symbols.size(); ++i) {
        if (holds(i)) {
          symbols[kept++] = merged;
          ++i;
        } else {
          symbols[kept++] = symbols[i];
        }
      }
      symbols.resize(kept);
      count_pairs(w, +1);
    }
    push_changed();
  }

  std::vector<Word> words_;
  Pieces& vocabulary_;
  std::unordered_map<Pair, PairState> pairs_;
  std::vector<Pair> changed_;
  std::priority_queue<Candidate> queue_;
};

}  // namespace

WordPieceTrainer::WordPieceTrainer(const WordPieceTrainerOptions& options) : options_(options) {
  check(options.vocab_size > 0 && options.min_frequency > 0 && options.alphabet_limit > 0 &&
            options.max_characters_per_word > 0,
        "wordpiece", "vocab_size ", options.vocab_size, ", min_frequency ", options.min_frequency, ", alphabet_limit ",
        options.alphabet_limit, " and max_characters_per_word ", options.max_characters_per_word,
        " must all be positive");
}

void WordPieceTrainer::add(std::string_view text) {
  basic_tokenize(text, options_.basic, scratch_);
  for_each_word(scratch_, [&](std::string_view word) { ++words_[std::string(word)]; });
}

std::vector<std::string> WordPieceTrainer::train() const {
  check(!words_.empty(), "wordpiece", "no text has any words; nothing to learn a vocabulary from");
  // Sorted, so that nothing depends on the order of a hash table.
  std::vector<std::pair<std::u32string, int64_t>> words;
  for (const auto& [word, count] : words_)
    if (std::u32string decoded = unicode::decode_utf8(word);
        static_cast<int64_t>(decoded.size()) <= options_.max_characters_per_word)
      words.emplace_back(std::move(decoded), count);
  std::sort(words.begin(), words.end());

  std::map<char32_t, int64_t> characters;
  for (const auto& [word, count] : words)
    for (const char32_t c : word) characters[c] += count;
  std::vector<std::pair<int64_t, char32_t>> ranked;  // most frequent first, then by code point
  for (const auto& [c, count] : characters)
    if (count >= options_.min_frequency) ranked.emplace_back(-count, c);
  std::sort(ranked.begin(), ranked.end());
  if (static_cast<int64_t>(ranked.size()) > options_.alphabet_limit)
    ranked.resize(static_cast<size_t>(options_.alphabet_limit));
  std::map<char32_t, std::pair<Symbol, Symbol>> alphabet;  // symbols at the beginning of a word and after it
  for (const auto& [count, c] : ranked) alphabet[c] = {};

  Pieces vocabulary;
  for (const char* special : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) vocabulary.add(special);
  const auto add_character = [&](std::string token, char32_t c) {
    unicode::append_utf8(token, c);
    return vocabulary.add(token);
  };
  for (auto& [c, symbols] : alphabet) symbols.first = add_character("", c);
  // Both forms of every character, seen or not: no new word of known characters is then unknown.
  for (auto& [c, symbols] : alphabet)
    symbols.second = is_own_word(c, options_.basic) ? symbols.first : add_character(std::string(continuation), c);
  const auto vocab_size = static_cast<size_t>(options_.vocab_size);
  check(vocabulary.size() <= vocab_size, "wordpiece", "vocab_size ", options_.vocab_size,
        " cannot hold the 5 special tokens and ", alphabet.size(), " characters, ", vocabulary.size(),
        " tokens; raise it, or min_frequency, or lower alphabet_limit");

  std::vector<Word> sequences;
  for (const auto& [word, count] : words) {
    Word sequence{{}, count};
    for (const char32_t c : word) {
      const auto at = alphabet.find(c);
      if (at == alphabet.end()) break;
      sequence.symbols.push_back(sequence.symbols.empty() ? at->second.first : at->second.second);
    }
    // A word with a character outside the alphabet will be [UNK] as a whole, so its pairs are no use.
    if (sequence.symbols.size() == word.size() && word.size() > 1) sequences.push_back(std::move(sequence));
  }
  Merger(std::move(sequences), vocabulary).run(vocab_size, options_.min_frequency);
  return vocabulary.take();
}

}  // namespace duet::train
