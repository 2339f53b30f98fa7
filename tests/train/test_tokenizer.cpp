#include "duet/train/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "duet/core/file.h"
#include "duet/tests/integration/process.h"

namespace duet::train {
namespace {

using Ids = std::vector<int32_t>;
using Tokens = std::vector<std::string>;

const Tokens example_vocab{"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "want", "##want", "##ed",
                           "wa",    "un",    "runn",  "##ing", ",",      "low",  "lowest"};

Tokenizer example() {
  return Tokenizer::from_vocab(example_vocab);
}

// The five special tokens, then these.
Tokenizer with(const Tokens& more, TokenizerOptions options = {}) {
  Tokens all{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  all.insert(all.end(), more.begin(), more.end());
  return Tokenizer::from_vocab(all, options);
}

// The message of the Error that `f` throws.
template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

void expect_names(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) EXPECT_NE(message.find(part), message.npos) << message << "\nlacks: " << part;
}

TEST(Tokenizer, WordPieceExamples) {
  const Tokenizer t = example();
  EXPECT_EQ(t.tokens("unwanted running"), (Tokens{"un", "##want", "##ed", "runn", "##ing"}));
  EXPECT_EQ(t.tokens("unwantedX running"), (Tokens{"[UNK]", "runn", "##ing"}));
  EXPECT_EQ(t.tokens(""), Tokens{});
  EXPECT_EQ(t.ids("UNwant\u00E9d,running"), (Ids{9, 6, 7, 12, 10, 11}));
  EXPECT_EQ(t.tokens("lowest low"), (Tokens{"lowest", "low"}));  // the longest match, not the first
  EXPECT_EQ(t.tokens("wan"), Tokens{"[UNK]"});                   // "wa" matched, but nothing goes on with "n"
  EXPECT_EQ(t.encode("unwanted").ids, (Ids{1, 9, 6, 7, 2}));
  EXPECT_EQ(t.encode("").ids, (Ids{1, 2}));
}

TEST(Tokenizer, IdeographsStandAloneUnlessTurnedOff) {
  const Tokens vocab{"\u7684", "\u4EBA", "\u6709", "##\u7684", "##\u4EBA", "##\u6709"};
  EXPECT_EQ(with(vocab).tokens("\u7684\u4EBA\u6709"), (Tokens{"\u7684", "\u4EBA", "\u6709"}));
  TokenizerOptions options;
  options.tokenize_chinese_chars = false;
  EXPECT_EQ(with(vocab, options).tokens("\u7684\u4EBA\u6709"), (Tokens{"\u7684", "##\u4EBA", "##\u6709"}));
}

TEST(Tokenizer, PiecesMayShareBytesButNotHalfACharacter) {
  // U+00DF and U+00DE differ in their second byte only.
  const Tokenizer t = with({"\u00DF", "##\u00DE", "##\u00DF"}, {{.lowercase = false}});
  EXPECT_EQ(t.tokens("\u00DF\u00DE\u00DF"), (Tokens{"\u00DF", "##\u00DE", "##\u00DF"}));
}

TEST(Tokenizer, SpecialTokensMatchInTheRawText) {
  const Tokenizer t = with({"a", "b", "[", "]", "mask", "sep", "##[", "[MASK]x"});
  EXPECT_EQ(t.tokens("a[MASK]b"), (Tokens{"a", "[MASK]", "b"}));
  EXPECT_EQ(t.tokens("a [SEP][CLS] b"), (Tokens{"a", "[SEP]", "[CLS]", "b"}));
  EXPECT_EQ(t.tokens("[mask]"), (Tokens{"[", "mask", "]"}));  // the case matters
  EXPECT_EQ(t.tokens("[[SEP]]"), (Tokens{"[", "[SEP]", "]"}));
  EXPECT_EQ(t.tokens("[SEP"), (Tokens{"[", "sep"}));
  EXPECT_EQ(t.tokens("[PAD]"), Tokens{"[PAD]"});
  EXPECT_EQ(t.tokens("[MASK]x"), (Tokens{"[MASK]", "[UNK]"}));  // an ordinary token is no special one

  TokenizerOptions options;
  options.additional_special_tokens = {"<e>", "<e>1"};
  const Tokenizer more = with({"<e>", "<e>1", "a"}, options);
  EXPECT_EQ(more.tokens("a<e>1<e>A"), (Tokens{"a", "<e>1", "<e>", "a"}));  // the longest that matches
  EXPECT_TRUE(more.is_special(more.id("<e>1")));
  EXPECT_FALSE(more.is_special(more.id("a")));
}

TEST(Tokenizer, PairsCarryTypeIds) {
  const Tokenizer t = example();
  const Encoding e = t.encode_pair("unwanted", "low low");
  EXPECT_EQ(e.ids, (Ids{1, 9, 6, 7, 2, 13, 13, 2}));
  EXPECT_EQ(e.type_ids, (Ids{0, 0, 0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(t.encode("low").type_ids, (Ids{0, 0, 0}));
  const Encoding empty = t.encode_pair("", "");
  EXPECT_EQ(empty.ids, (Ids{1, 2, 2}));
  EXPECT_EQ(empty.type_ids, (Ids{0, 0, 1}));
}

TEST(Tokenizer, TruncationKeepsTheBeginning) {
  const Tokenizer t = example();
  EXPECT_EQ(t.encode("unwanted low", 6).ids, (Ids{1, 9, 6, 7, 13, 2}));
  EXPECT_EQ(t.encode("unwanted low", 5).ids, (Ids{1, 9, 6, 7, 2}));
  EXPECT_EQ(t.encode("unwanted low", 2).ids, (Ids{1, 2}));
  EXPECT_EQ(t.encode("unwanted low", 100).ids.size(), 6u);
  const Encoding e = t.encode_pair("unwanted low", "low low low low low", 7);
  EXPECT_EQ(e.ids, (Ids{1, 9, 6, 2, 13, 13, 2}));
  EXPECT_EQ(e.type_ids, (Ids{0, 0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(t.encode_pair("unwanted", "low", 6, Truncation::only_first).ids, (Ids{1, 9, 6, 2, 13, 2}));
  EXPECT_EQ(t.encode_pair("low", "unwanted", 6, Truncation::only_second).ids, (Ids{1, 13, 2, 9, 6, 2}));
}

TEST(Tokenizer, TruncatedLengths) {
  using Pair = std::array<int64_t, 2>;
  const auto both = [](int64_t a, int64_t b, int64_t m) {
    return truncated_lengths(a, b, m, Truncation::longest_first);
  };
  EXPECT_EQ(both(5, 5, 7), (Pair{3, 4}));  // the slow tokenizer would keep 4 and 3
  EXPECT_EQ(both(5, 5, 10), (Pair{5, 5}));
  EXPECT_EQ(both(2, 9, 7), (Pair{2, 5}));  // only the longer is cut
  EXPECT_EQ(both(9, 2, 7), (Pair{5, 2}));
  EXPECT_EQ(both(9, 8, 7), (Pair{4, 3}));  // both are cut, the longer keeps the odd place
  EXPECT_EQ(both(8, 9, 7), (Pair{3, 4}));
  EXPECT_EQ(both(20, 30, 6), (Pair{3, 3}));
  EXPECT_EQ(both(4, 0, 3), (Pair{3, 0}));
  EXPECT_EQ(both(1, 1, 0), (Pair{0, 0}));
  EXPECT_EQ(both(1, 1, 1), (Pair{0, 1}));
  // Away from the one deviation, dropping a token of the longer text at a time (a tie: of b) gives the same.
  for (int64_t a = 0; a < 12; ++a)
    for (int64_t b = 0; b < 12; ++b)
      for (int64_t m = 0; m < 24; ++m) {
        int64_t x = a, y = b;
        while (x + y > m) --(x > y ? x : y);
        const Pair kept = both(a, b, m);
        const bool deviates = a + b > m && m % 2 == 1 && a <= b && a > m / 2;
        EXPECT_EQ(kept, (deviates ? Pair{m / 2, m / 2 + 1} : Pair{x, y})) << a << ' ' << b << ' ' << m;
      }

  EXPECT_EQ(truncated_lengths(5, 4, 6, Truncation::only_first), (Pair{2, 4}));
  EXPECT_EQ(truncated_lengths(5, 4, 6, Truncation::only_second), (Pair{5, 1}));
  EXPECT_EQ(truncated_lengths(5, 4, 9, Truncation::only_second), (Pair{5, 4}));
  expect_names(error_of([] { truncated_lengths(5, 4, 4, Truncation::only_first); }), {"cut 5 tokens", "first"});
  expect_names(error_of([] { truncated_lengths(5, 4, 5, Truncation::only_second); }), {"cut 4 tokens", "second"});
}

TEST(Tokenizer, MaxLengthMustHoldTheSpecialTokens) {
  const Tokenizer t = example();
  for (const int64_t bad : {int64_t{1}, int64_t{-1}})
    expect_names(error_of([&] { t.encode("low", bad); }), {"max_length " + std::to_string(bad), "[CLS]", "at least 2"});
  for (const int64_t bad : {int64_t{1}, int64_t{2}, int64_t{-5}})
    expect_names(error_of([&] { t.encode_pair("low", "low", bad); }), {"max_length", "at least 3"});
}

TEST(Tokenizer, LongWordsAreUnknown) {
  const Tokenizer t = with({"a", "##a", "\u00E9", "##\u00E9"}, {{.lowercase = false}});
  EXPECT_EQ(t.ids(std::string(100, 'a')).size(), 100u);
  EXPECT_EQ(t.tokens(std::string(101, 'a')), Tokens{"[UNK]"});
  std::string accents;
  for (int i = 0; i < 100; ++i) accents += "\u00E9";
  EXPECT_EQ(t.ids(accents).size(), 100u);  // 200 bytes, but 100 characters
  EXPECT_EQ(t.tokens(accents + "\u00E9"), Tokens{"[UNK]"});
  TokenizerOptions options;
  options.max_input_chars_per_word = 3;
  EXPECT_EQ(with({"a", "##a"}, options).tokens("aaa aaaa"), (Tokens{"a", "##a", "##a", "[UNK]"}));
}

TEST(Tokenizer, LookUpByIdAndToken) {
  const Tokenizer t = example();
  EXPECT_EQ(t.size(), 15);
  EXPECT_EQ(t.pad_id(), 3);
  EXPECT_EQ(t.unk_id(), 0);
  EXPECT_EQ(t.cls_id(), 1);
  EXPECT_EQ(t.sep_id(), 2);
  EXPECT_EQ(t.mask_id(), 4);
  EXPECT_EQ(t.id("##ing"), 11);
  EXPECT_EQ(t.id("absent"), t.unk_id());
  EXPECT_TRUE(t.contains("low"));
  EXPECT_FALSE(t.contains("absent"));
  EXPECT_FALSE(t.contains(""));
  EXPECT_EQ(t.token(14), "lowest");
  expect_names(error_of([&] { t.token(15); }), {"id 15", "15 tokens"});
  expect_names(error_of([&] { t.token(-1); }), {"id -1"});
}

TEST(Tokenizer, Decode) {
  const Tokenizer t = example();
  const Ids ids = t.encode("UNwanted, running [MASK]").ids;
  EXPECT_EQ(t.decode(ids), "unwanted , running");
  EXPECT_EQ(t.decode(ids, true), "[CLS] unwanted , running [MASK] [SEP]");
  EXPECT_EQ(t.decode(Ids{}), "");
  EXPECT_EQ(t.decode(Ids{6, 7}), "##wanted");  // nothing to continue
  expect_names(error_of([&] { t.decode(Ids{99}); }), {"id 99"});
}

TEST(Tokenizer, InvalidBytesAreDropped) {
  const Tokenizer t = example();
  EXPECT_EQ(t.tokens("lo\xFFw"), Tokens{"low"});
  EXPECT_EQ(t.tokens("\xC3\x28 low \xE2"), (Tokens{"[UNK]", "low"}));  // the parenthesis is not in the vocabulary
  EXPECT_EQ(t.tokens("\xFF[MASK]\xFE"), Tokens{"[MASK]"});
  EXPECT_EQ(t.tokens(std::string("lo\0w", 4)), Tokens{"low"});
}

TEST(Tokenizer, TimeGrowsLinearlyWithTheText) {
  const Tokenizer t = with({"a", "##a", "[", "##["});
  const auto seconds = [&](const std::string& text) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_FALSE(t.ids(text).empty());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  constexpr size_t size = 1 << 20;
  std::string words, marks = "a";
  while (words.size() < size) words += "aaaaaaa ";
  while (marks.size() < size) marks += "\u0301\u0316";
  // Quadratic work on a megabyte would take minutes; linear takes a tenth of a second without sanitizers.
  EXPECT_LT(seconds(words), 5);
  EXPECT_LT(seconds(std::string(size, 'a')), 5);  // one word
  EXPECT_LT(seconds(std::string(size, '[')), 5);  // a special token could begin everywhere
  EXPECT_LT(seconds(marks), 5);                   // one run of marks to sort
  EXPECT_LT(seconds(std::string(size, '\xFF') + "a"), 5);
}

TEST(Tokenizer, ThreadsShareOne) {
  const Tokenizer t = example();
  const std::string text = "UNwant\u00E9d, running [MASK] \uD55C lowest";
  const Ids expected = t.encode(text).ids;
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int& count : wrong)
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) count += t.encode(text).ids != expected;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

TEST(TokenizerVocabulary, MissingSpecialTokensAndNonsenseAreRefused) {
  for (const char* missing : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) {
    Tokens vocab = example_vocab;
    std::erase(vocab, missing);
    expect_names(error_of([&] { Tokenizer::from_vocab(vocab, {}, "v.txt"); }), {"v.txt", missing});
  }
  expect_names(error_of([] { Tokenizer::from_vocab({}); }), {"empty"});
  TokenizerOptions options;
  options.max_input_chars_per_word = 0;
  expect_names(error_of([&] { Tokenizer::from_vocab(example_vocab, options); }), {"max_input_chars_per_word", "0"});
  options = {};
  options.additional_special_tokens = {"<x>"};
  expect_names(error_of([&] { Tokenizer::from_vocab(example_vocab, options); }), {"<x>"});
  options = {};
  options.pad_token = "<pad>";
  expect_names(error_of([&] { Tokenizer::from_vocab(example_vocab, options); }), {"<pad>"});
  Tokens vocab = example_vocab;
  vocab.push_back("<pad>");
  EXPECT_EQ(Tokenizer::from_vocab(vocab, options).pad_id(), 15);
}

class TokenizerFiles : public ::testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& bytes) {
    write_file_atomically(directory_ / name, bytes);
    return directory_ / name;
  }
  static std::string lines(const Tokens& tokens, const std::string& end = "\n") {
    std::string bytes;
    for (const std::string& token : tokens) bytes += token + end;
    return bytes;
  }
  // A tokenizer.json over example_vocab with one part of it replaced.
  static std::string pipeline(const std::string& what = "", const std::string& with = "") {
    std::string vocab;
    for (size_t i = 0; i < example_vocab.size(); ++i) vocab += text(i ? ", " : "", '"', example_vocab[i], "\": ", i);
    std::string json = R"({"version": "1.0", "truncation": null, "padding": null,
      "added_tokens": [{"id": 4, "content": "[MASK]", "single_word": false, "lstrip": false, "rstrip": false,
                        "normalized": false, "special": true}],
      "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                     "strip_accents": null, "lowercase": true},
      "pre_tokenizer": {"type": "BertPreTokenizer"},
      "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
      "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
      "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": {)" +
                       vocab + "}}}";
    if (what.empty()) return json;
    const size_t at = json.find(what);
    EXPECT_NE(at, json.npos) << what;
    return json.replace(at, what.size(), with);
  }
  std::string refusal(const std::string& what, const std::string& with) {
    write("tokenizer.json", pipeline(what, with));
    return error_of([&] { Tokenizer::from_directory(directory_.path()); });
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(TokenizerFiles, LineEndingsDoNotMatter) {
  const std::string text = "UNwanted,running low";
  const Ids expected = example().ids(text);
  for (const char* end : {"\n", "\r\n"}) {
    const Tokenizer t = Tokenizer::from_vocab_file(write("vocab.txt", lines(example_vocab, end)));
    EXPECT_EQ(t.size(), 15);
    EXPECT_EQ(t.ids(text), expected);
    EXPECT_EQ(t.token(14), "lowest");
  }
  std::string no_end = lines(example_vocab);
  no_end.pop_back();
  EXPECT_EQ(Tokenizer::from_vocab_file(write("vocab.txt", no_end)).size(), 15);
}

TEST_F(TokenizerFiles, OfARepeatedTokenTheLastIdCounts) {
  Tokens vocab = example_vocab;
  vocab.push_back("low");
  const Tokenizer t = Tokenizer::from_vocab_file(write("vocab.txt", lines(vocab)));
  EXPECT_EQ(t.id("low"), 15);
  EXPECT_EQ(t.token(13), "low");
  EXPECT_EQ(t.size(), 16);
}

TEST_F(TokenizerFiles, BadVocabularyFilesAreNamed) {
  expect_names(error_of([&] { Tokenizer::from_vocab_file(directory_ / "none.txt"); }), {"none.txt", "No such file"});
  expect_names(error_of([&] { Tokenizer::from_vocab_file(write("empty.txt", "")); }), {"empty.txt", "is empty"});
  expect_names(error_of([&] { Tokenizer::from_vocab_file(write("latin.txt", lines(example_vocab) + "caf\xE9\n")); }),
               {"latin.txt:16", "not valid UTF-8"});
  expect_names(error_of([&] { Tokenizer::from_vocab_file(write("prose.txt", "once\nupon\n")); }),
               {"prose.txt", "[PAD]", "WordPiece"});
}

TEST_F(TokenizerFiles, BothFormsGiveEqualIds) {
  const std::string text = "UNwant\u00E9d, [MASK] running lowest! [mask]";
  const Ids expected = example().encode(text).ids;
  write("vocab.txt", lines(example_vocab));
  EXPECT_EQ(Tokenizer::from_directory(directory_.path()).encode(text).ids, expected);
  std::filesystem::remove(directory_ / "vocab.txt");
  write("tokenizer.json", pipeline());
  const Tokenizer t = Tokenizer::from_directory(directory_.path());
  EXPECT_EQ(t.encode(text).ids, expected);
  EXPECT_EQ(t.size(), 15);
  // The type of the model may be absent.
  write("tokenizer.json", pipeline(R"("type": "WordPiece", "unk_token")", R"("unk_token")"));
  EXPECT_EQ(Tokenizer::from_directory(directory_.path()).encode(text).ids, expected);
}

TEST_F(TokenizerFiles, PipelineSettingsCount) {
  write("tokenizer.json", pipeline("\"lowercase\": true", "\"lowercase\": false"));
  EXPECT_EQ(Tokenizer::from_directory(directory_.path()).tokens("LOW low"), (Tokens{"[UNK]", "low"}));
  write("tokenizer.json", pipeline("\"strip_accents\": null", "\"strip_accents\": false"));
  EXPECT_EQ(Tokenizer::from_directory(directory_.path()).tokens("l\u00F3w LOW"), (Tokens{"[UNK]", "low"}));
  write("tokenizer.json", pipeline("per_word\": 100", "per_word\": 4"));
  EXPECT_EQ(Tokenizer::from_directory(directory_.path()).tokens("low lowest"), (Tokens{"low", "[UNK]"}));
  write("tokenizer.json",
        pipeline("\"added_tokens\": [", R"("added_tokens": [{"id": 15, "content": "<e>", "special": true}, )"));
  const Tokenizer t = Tokenizer::from_directory(directory_.path());
  EXPECT_EQ(t.tokens("low<e>low"), (Tokens{"low", "<e>", "low"}));
  EXPECT_TRUE(t.is_special(15));
  // Where both speak, tokenizer_config.json wins.
  write("tokenizer_config.json", R"({"do_lower_case": false, "tokenizer_class": "BertTokenizerFast"})");
  write("tokenizer.json", pipeline());
  EXPECT_EQ(Tokenizer::from_directory(directory_.path()).tokens("LOW low"), (Tokens{"[UNK]", "low"}));
}

TEST_F(TokenizerFiles, OtherPipelinesAreRefusedByName) {
  expect_names(refusal("BertNormalizer", "Lowercase"), {"tokenizer.json", "normalizer", "Lowercase"});
  expect_names(refusal("BertPreTokenizer", "ByteLevel"), {"pre_tokenizer", "ByteLevel"});
  expect_names(refusal("BertProcessing", "RobertaProcessing"), {"post_processor", "RobertaProcessing"});
  expect_names(refusal(R"("type": "WordPiece", "unk)", R"("type": "BPE", "unk)"), {"model", "BPE"});
  expect_names(refusal(R"({"type": "BertPreTokenizer"})", "null"), {"pre_tokenizer", "none"});
  expect_names(refusal("\"low\": 13", "\"low\": 12"), {"share id 12"});
  expect_names(refusal("\"low\": 13", "\"low\": 536870912"), {"low", "536870912", "gaps"});
  expect_names(refusal("\"low\": 13", "\"low\": -1"), {"low", "-1"});
  expect_names(refusal("\"low\": 13", "\"low\": \"x\""), {"low", "not an integer"});
  expect_names(refusal("\"version\": \"1.0\"", "\"version\": "), {"tokenizer.json"});
  expect_names(refusal("\"vocab\"", "\"merges\""), {"model.vocab is missing"});
}

TEST_F(TokenizerFiles, OtherTokenizerClassesAreRefusedByName) {
  write("vocab.txt", lines(example_vocab));
  write("tokenizer_config.json", R"({"tokenizer_class": "RobertaTokenizer"})");
  expect_names(error_of([&] { Tokenizer::from_directory(directory_.path()); }),
               {"tokenizer_config.json", "RobertaTokenizer"});
  testing::TemporaryDirectory empty;
  expect_names(error_of([&] { Tokenizer::from_directory(empty.path()); }),
               {empty.path(), "tokenizer.json", "vocab.txt"});
}

TEST_F(TokenizerFiles, SavingAndLoadingKeepsEverything) {
  TokenizerOptions options{{.lowercase = false, .strip_accents = true, .tokenize_chinese_chars = false}};
  options.pad_token = "low";
  const Tokenizer t = Tokenizer::from_vocab(example_vocab, options);
  t.save(directory_.path());
  EXPECT_EQ(read_file(directory_ / "vocab.txt"), lines(example_vocab));
  const Tokenizer back = Tokenizer::from_directory(directory_.path());
  EXPECT_FALSE(back.options().lowercase);
  EXPECT_EQ(back.options().strip_accents, std::optional(true));
  EXPECT_FALSE(back.options().tokenize_chinese_chars);
  EXPECT_EQ(back.pad_id(), 13);
  example().save(directory_.path());
  EXPECT_EQ(Tokenizer::from_directory(directory_.path()).options().strip_accents, std::nullopt);
}

}  // namespace
}  // namespace duet::train
