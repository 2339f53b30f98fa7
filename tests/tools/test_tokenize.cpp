#include <gtest/gtest.h>

#include "duet/core/file.h"
#include "duet/core/json.h"
#include "duet/tests/integration/process.h"
#include "duet/train/tokenizer.h"

namespace duet {
namespace {

using testing::Finished;
using testing::run;

class TokenizeCommand : public ::testing::Test {
 protected:
  TokenizeCommand() {
    write_file_atomically(vocab_, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncat\n##s\nsat\n,\nThe\n");
  }
  Finished tokenize(std::vector<std::string> more, const std::string& input) const {
    std::vector<std::string> arguments{"tokenize", "--vocab", vocab_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments, {.input = input});
  }
  static std::vector<Json> rows(const Finished& f) {
    EXPECT_EQ(f.status, 0) << f.err;
    EXPECT_EQ(f.err, "");
    std::vector<Json> all;
    for (size_t begin = 0; begin < f.out.size();) {
      const size_t end = f.out.find('\n', begin);
      all.push_back(parse_json(std::string_view(f.out).substr(begin, end - begin), "output"));
      begin = end + 1;
    }
    return all;
  }

  testing::TemporaryDirectory directory_;
  const std::string vocab_ = directory_ / "vocab.txt";
};

TEST_F(TokenizeCommand, OneObjectPerLine) {
  const auto lines = rows(tokenize({}, "The cats,\r\n\ncat [MASK] caf\xE9"));
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].dump(), R"({"ids":[2,5,6,7,9,3],"tokens":["[CLS]","the","cat","##s",",","[SEP]"]})");
  EXPECT_EQ(lines[1].dump(), R"({"ids":[2,3],"tokens":["[CLS]","[SEP]"]})");
  EXPECT_EQ(lines[2]["ids"], Json({2, 6, 4, 1, 3}));
  EXPECT_EQ(rows(tokenize({}, "")).size(), 0u);
  EXPECT_EQ(rows(tokenize({"--no-lowercase"}, "The the"))[0]["ids"], Json({2, 10, 5, 3}));
}

TEST_F(TokenizeCommand, PairsStandInTwoColumns) {
  const auto lines = rows(tokenize({"--pair"}, "the cat\tsat\n\t\n"));
  EXPECT_EQ(lines[0]["ids"], Json({2, 5, 6, 3, 8, 3}));
  EXPECT_EQ(lines[0]["type_ids"], Json({0, 0, 0, 0, 1, 1}));
  EXPECT_EQ(lines[0]["tokens"], Json({"[CLS]", "the", "cat", "[SEP]", "sat", "[SEP]"}));
  EXPECT_EQ(lines[1]["ids"], Json({2, 3, 3}));
  for (const char* bad : {"the cat\tsat\nno tab\n", "the cat\tsat\na\tb\tc\n"}) {
    const Finished f = tokenize({"--pair"}, bad);
    EXPECT_EQ(f.status, 1);
    ASSERT_EQ(f.error_lines().size(), 1u) << f.err;
    EXPECT_NE(f.err.find("line 2"), f.err.npos) << f.err;
    EXPECT_NE(f.err.find("tab"), f.err.npos) << f.err;
  }
}

TEST_F(TokenizeCommand, MaxLengthCounts) {
  EXPECT_EQ(rows(tokenize({"--max-length", "4"}, "the cats sat"))[0]["ids"], Json({2, 5, 6, 3}));
  EXPECT_EQ(rows(tokenize({"--max-length", "6", "--pair"}, "the cats\tsat sat"))[0]["ids"], Json({2, 5, 6, 3, 8, 3}));
  const Finished f = tokenize({"--max-length", "1"}, "cat\n");
  EXPECT_EQ(f.status, 1);
  EXPECT_NE(f.err.find("max_length 1"), f.err.npos) << f.err;
  EXPECT_EQ(tokenize({"--max-length", "-1"}, "cat\n").status, 2);
}

TEST_F(TokenizeCommand, EitherEndAndEitherTextCanBeCut) {
  EXPECT_EQ(rows(tokenize({"--max-length", "4", "--truncation-side", "left"}, "the cat sat"))[0]["ids"],
            Json({2, 6, 8, 3}));
  EXPECT_EQ(rows(tokenize({"--max-length", "6", "--pair", "--truncation", "only_first"}, "the cat\tsat sat"))[0]["ids"],
            Json({2, 5, 3, 8, 8, 3}));
  EXPECT_EQ(tokenize({"--truncation", "only_first"}, "cat\n").status, 2);  // needs --max-length
  EXPECT_EQ(tokenize({"--max-length", "6", "--truncation", "middle"}, "cat\n").status, 2);
  EXPECT_EQ(tokenize({"--max-length", "6", "--truncation", "only_second"}, "cat\n").status, 1);
}

TEST_F(TokenizeCommand, OffsetsAndSlowSemantics) {
  const auto lines = rows(tokenize({"--offsets"}, "The c\u00E1ts [MASK]"));
  EXPECT_EQ(lines[0]["offsets"].dump(), "[[0,0],[0,3],[4,7],[7,8],[9,15],[0,0]]");
  EXPECT_EQ(rows(tokenize({}, "cat\u0378"))[0]["ids"], Json({2, 1, 3}));
  EXPECT_EQ(rows(tokenize({"--slow"}, "cat\u0378"))[0]["ids"], Json({2, 6, 3}));
  const Finished f = tokenize({"--slow", "--offsets"}, "cat\n");
  EXPECT_EQ(f.status, 1);
  EXPECT_NE(f.err.find("slow"), f.err.npos) << f.err;
}

TEST_F(TokenizeCommand, TheModelsOwnTruncationAndPaddingCount) {
  train::TokenizerOptions options;
  options.truncation = train::TruncationOptions{.max_length = 4};
  options.padding = train::PaddingOptions{.length = 5};
  make_directories(directory_ / "model");
  train::Tokenizer::from_vocab_file(vocab_, options).save(directory_ / "model");
  const std::vector<std::string> arguments{"tokenize", "--model", directory_ / "model"};
  const Json row = rows(run(arguments, {.input = "the cat sat"}))[0];
  EXPECT_EQ(row["ids"], Json({2, 5, 6, 3, 0}));
  EXPECT_EQ(row["attention_mask"], Json({1, 1, 1, 1, 0}));
  std::vector<std::string> without = arguments;
  without.insert(without.end(), {"--max-length", "0"});
  EXPECT_EQ(rows(run(without, {.input = "the cat sat"}))[0].dump(),
            R"({"ids":[2,5,6,8,3],"tokens":["[CLS]","the","cat","sat","[SEP]"]})");
}

TEST_F(TokenizeCommand, ModelDirectoriesKeepTheirSettings) {
  train::TokenizerOptions options;
  options.lowercase = false;
  make_directories(directory_ / "model");
  train::Tokenizer::from_vocab_file(vocab_, options).save(directory_ / "model");
  const Finished f = run({"tokenize", "--model", directory_ / "model"}, {.input = "The the"});
  EXPECT_EQ(rows(f)[0]["ids"], Json({2, 10, 5, 3}));
}

TEST_F(TokenizeCommand, WrongUseAndBadFiles) {
  EXPECT_EQ(run({"tokenize"}).status, 2);
  EXPECT_EQ(run({"tokenize", "--vocab", vocab_, "--model", directory_.path()}).status, 2);
  EXPECT_EQ(run({"tokenize", "--model", directory_.path(), "--no-lowercase"}).status, 2);
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"tokenize", "--vocab", directory_ / "none.txt"}, {"tokenize", "--model", "/none"}}) {
    const Finished f = run(arguments);
    EXPECT_EQ(f.status, 1);
    ASSERT_EQ(f.error_lines().size(), 1u) << f.err;
    EXPECT_NE(f.err.find("none"), f.err.npos) << f.err;
  }
}

}  // namespace
}  // namespace duet
