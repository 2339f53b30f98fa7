#include "duet/train/wordpiece_trainer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "duet/core/error.h"
#include "duet/train/tokenizer.h"

namespace duet::train {
namespace {

using Tokens = std::vector<std::string>;

Tokens train(const std::vector<std::string>& texts, const WordPieceTrainerOptions& options = {}) {
  WordPieceTrainer trainer(options);
  for (const std::string& text : texts) trainer.add(text);
  return trainer.train();
}

bool has(const Tokens& vocab, const std::string& token) {
  return std::find(vocab.begin(), vocab.end(), token) != vocab.end();
}

const std::vector<std::string> texts{"the cat sat on the mat", "the cats and the dogs", "a dog, the dog, THE DOG!",
                                     "caf\u00E9 cafe catalog", "sat mat hat that cat"};

TEST(WordPieceTrainer, SpecialTokensThenCharactersThenMerges) {
  // 5 x "ab", 3 x "abc": pairs a+##b 8 times and, after that merge, ab+##c 3 times.
  const Tokens vocab = train({"ab ab ab ab ab", "abc abc abc"});
  EXPECT_EQ(vocab,
            (Tokens{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "##a", "##b", "##c", "ab", "abc"}));
}

TEST(WordPieceTrainer, EqualCountsMergeTheEarlierPairFirst) {
  // All pairs occur twice; a comes before c in the alphabet.
  const Tokens vocab = train({"cd cd ab ab"}, {.vocab_size = 14});
  EXPECT_EQ(vocab.size(), 14u);
  EXPECT_EQ(vocab.back(), "ab");
}

TEST(WordPieceTrainer, OverlappingPairsAreCountedAndMergedLeftToRight) {
  const Tokens vocab = train({"aaaa aaaa"}, {.min_frequency = 1});
  // a ##a ##a ##a: ##a+##a four times, then a + ##aa, then aaa + ##a.
  EXPECT_EQ(Tokens(vocab.begin() + 7, vocab.end()), (Tokens{"##aa", "aaa", "aaaa"}));
}

TEST(WordPieceTrainer, OrderOfTextsDoesNotMatter) {
  const Tokens expected = train(texts);
  std::vector<std::string> shuffled = texts;
  std::sort(shuffled.begin(), shuffled.end());
  do {
    ASSERT_EQ(train(shuffled), expected);
  } while (std::next_permutation(shuffled.begin(), shuffled.end()));
  std::string joined;
  for (const std::string& text : texts) joined += text + "\n";
  EXPECT_EQ(train({joined}), expected);
  EXPECT_TRUE(has(expected, "the"));
  EXPECT_TRUE(has(expected, "dog"));
  EXPECT_TRUE(has(expected, "cat"));
  EXPECT_TRUE(has(expected, "cafe"));  // twice, once with an accent
}

TEST(WordPieceTrainer, NothingRarerThanMinFrequencyIsLearned) {
  for (const int64_t frequency : {1, 2, 3, 5}) {
    const Tokens vocab = train(texts, {.min_frequency = frequency});
    std::string all;
    for (const std::string& text : texts) all += " " + text;
    const std::vector<std::string> words = basic_tokenize(all);
    for (size_t i = 5; i < vocab.size(); ++i) {
      const bool inside = vocab[i].starts_with("##");
      const std::string piece = inside ? vocab[i].substr(2) : vocab[i];
      int64_t count = 0;
      for (const std::string& word : words)
        for (size_t at = word.find(piece); at != word.npos; at = word.find(piece, at + 1)) ++count;
      EXPECT_GE(count, frequency) << vocab[i];
    }
  }
  EXPECT_TRUE(has(train(texts, {.min_frequency = 1}), "catalog"));
  EXPECT_FALSE(has(train(texts, {.min_frequency = 2}), "catalog"));
  EXPECT_FALSE(has(train(texts, {.min_frequency = 2}), "!"));  // a single one
}

TEST(WordPieceTrainer, VocabSizeIsRespected) {
  const Tokens all = train(texts, {.min_frequency = 1});
  const Tokens some = train(texts, {.vocab_size = 50, .min_frequency = 1});
  ASSERT_EQ(some.size(), 50u);
  EXPECT_EQ(some, Tokens(all.begin(), all.begin() + 50));  // a smaller vocabulary is the beginning of a larger one
  try {
    train(texts, {.vocab_size = 20});
    ADD_FAILURE() << "a vocabulary too small for the characters was made";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("vocab_size 20 cannot hold"), std::string::npos) << e.what();
  }
}

TEST(WordPieceTrainer, AlphabetLimitKeepsTheMostFrequentCharacters) {
  const Tokens vocab = train({"aaa aaa bb bb c c c"}, {.alphabet_limit = 2});
  EXPECT_TRUE(has(vocab, "a"));
  EXPECT_TRUE(has(vocab, "b"));
  EXPECT_FALSE(has(vocab, "c"));
  EXPECT_FALSE(has(vocab, "##c"));
}

TEST(WordPieceTrainer, CasedVocabulariesKeepCase) {
  WordPieceTrainerOptions options;
  options.basic.lowercase = false;
  const Tokens vocab = train({"Cat cat Cat cat \u00C9t\u00E9 \u00C9t\u00E9"}, options);
  EXPECT_TRUE(has(vocab, "Cat"));
  EXPECT_TRUE(has(vocab, "cat"));
  EXPECT_TRUE(has(vocab, "\u00C9t\u00E9"));
}

TEST(WordPieceTrainer, PunctuationAndIdeographsHaveNoContinuation) {
  const Tokens vocab = train({"a, a, \u4E00\u4E00 [MASK] [MASK]"});
  EXPECT_TRUE(has(vocab, ","));
  EXPECT_FALSE(has(vocab, "##,"));
  EXPECT_TRUE(has(vocab, "\u4E00"));
  EXPECT_FALSE(has(vocab, "##\u4E00"));
  EXPECT_EQ(std::count(vocab.begin(), vocab.end(), "[MASK]"), 1);
}

TEST(WordPieceTrainer, TheTokenizerReadsWhatWasLearned) {
  const Tokenizer t = Tokenizer::from_vocab(train(texts, {.min_frequency = 1}));
  EXPECT_EQ(t.tokens("The cat"), (Tokens{"the", "cat"}));
  // A new word of known characters is never unknown.
  EXPECT_EQ(t.decode(t.ids("scheod")), "scheod");
  for (const std::string& text : texts)
    for (const int32_t id : t.ids(text)) EXPECT_NE(id, t.unk_id()) << text;
  EXPECT_EQ(t.pad_id(), 0);
  EXPECT_EQ(t.mask_id(), 4);
}

TEST(WordPieceTrainer, LongWordsTeachNothing) {
  const std::string word(200, 'x');
  const Tokens vocab = train({"ab ab", word, word});
  EXPECT_FALSE(has(vocab, "x"));
  EXPECT_TRUE(has(vocab, "ab"));
}

TEST(WordPieceTrainer, NothingToLearnFromIsAnError) {
  EXPECT_THROW(train({}), Error);
  EXPECT_THROW(train({"", " \n"}), Error);
  EXPECT_THROW(train({"a"}, {.vocab_size = 0}), Error);
  EXPECT_THROW(train({"a"}, {.min_frequency = 0}), Error);
  EXPECT_THROW(train({"a"}, {.alphabet_limit = -1}), Error);
}

}  // namespace
}  // namespace duet::train
