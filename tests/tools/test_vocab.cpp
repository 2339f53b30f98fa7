#include <gtest/gtest.h>

#include "duet/core/file.h"
#include "duet/tests/integration/process.h"
#include "duet/train/tokenizer.h"

namespace duet {
namespace {

using testing::Finished;
using testing::run;

class VocabCommand : public ::testing::Test {
 protected:
  std::string dataset(const std::string& name, const std::string& manifest) {
    make_directories(directory_ / name);
    write_file_atomically(directory_ / (name + "/manifest.jsonl"), manifest);
    return directory_ / name;
  }
  // Fails with status 1 and one line that holds these parts.
  static void expect_failure(const Finished& f, const std::vector<std::string>& parts) {
    EXPECT_EQ(f.status, 1) << f.err;
    ASSERT_EQ(f.error_lines().size(), 1u) << f.err;
    for (const std::string& part : parts) EXPECT_NE(f.err.find(part), f.err.npos) << f.err << "lacks " << part;
  }

  testing::TemporaryDirectory directory_;
  const std::string out_ = directory_ / "vocab.txt";
};

TEST_F(VocabCommand, LearnsFromTrainingTextsOnly) {
  const std::string data = dataset("data", R"({"id": "1", "text": "The cat sat, the cat ran", "split": "train"})"
                                           "\n\n"
                                           R"({"id": "2", "text": "zebra zebra zebra", "split": "test"})"
                                           "\r\n"
                                           R"({"id": "3", "image": "no.png", "split": "train"})"
                                           "\n"
                                           R"({"id": "4", "text": "", "split": "train"})");
  const Finished f = run({"vocab", "--data", data, "--out", out_, "--vocab-size", "60"});
  ASSERT_EQ(f.status, 0) << f.err;
  EXPECT_NE(f.out.find("texts         1 from " + data), f.out.npos) << f.out;
  EXPECT_NE(f.out.find("7 in 1 texts, 5 different"), f.out.npos) << f.out;
  const auto tokenizer = train::Tokenizer::from_vocab_file(out_);
  EXPECT_TRUE(read_file(out_).starts_with("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"));
  EXPECT_TRUE(tokenizer.contains("the"));
  EXPECT_TRUE(tokenizer.contains("cat"));
  EXPECT_FALSE(tokenizer.contains("z"));
  EXPECT_LE(tokenizer.size(), 60);
}

TEST_F(VocabCommand, TakesSeveralDatasetsAndKeepsCase) {
  const std::string a = dataset("a", R"({"id": "1", "text": "Owl Owl", "split": "train"})");
  const std::string b = dataset("b", R"({"id": "1", "text": "Yak Yak", "split": "train"})");
  ASSERT_EQ(run({"vocab", "--data", a, b, "--out", out_, "--no-lowercase"}).status, 0);
  const std::string bytes = read_file(out_);
  EXPECT_NE(bytes.find("\nOwl\n"), bytes.npos);
  EXPECT_NE(bytes.find("\nYak\n"), bytes.npos);
  ASSERT_EQ(run({"vocab", "--data", b, "--data", a, "--out", out_, "--no-lowercase"}).status, 0);
  EXPECT_EQ(read_file(out_), bytes);  // the order of datasets does not matter
}

TEST_F(VocabCommand, BadInputIsNamed) {
  const auto vocab = [&](const std::string& data) { return run({"vocab", "--data", data, "--out", out_}); };
  const std::string good = R"({"id": "1", "text": "a b", "split": "train"})"
                           "\n";
  expect_failure(vocab(directory_ / "none"), {"none/manifest.jsonl", "No such file"});
  expect_failure(vocab(dataset("x", "")), {"x/manifest.jsonl", "no row with a text"});
  expect_failure(vocab(dataset("x", R"({"id": "1", "text": "a", "split": "val"})")), {"no row with a text"});
  expect_failure(vocab(dataset("x", good + "{\"id\"")), {"x/manifest.jsonl:2"});
  expect_failure(vocab(dataset("x", good + "[1]")), {"x/manifest.jsonl:2", "JSON object"});
  expect_failure(vocab(dataset("x", good + R"({"text": 7, "split": "train"})")), {"x/manifest.jsonl:2", "\"text\""});
  expect_failure(run({"vocab", "--data", dataset("x", good), "--out", directory_ / "no/such/vocab.txt"}),
                 {"no/such/vocab.txt"});
  expect_failure(run({"vocab", "--data", dataset("x", good + good), "--out", out_, "--vocab-size", "6"}),
                 {"vocab_size 6 cannot hold"});
  EXPECT_FALSE(std::filesystem::exists(out_));
}

TEST_F(VocabCommand, WrongUseIsStatusTwo) {
  EXPECT_EQ(run({"vocab"}).status, 2);
  EXPECT_EQ(run({"vocab", "--data", "x"}).status, 2);
  EXPECT_EQ(run({"vocab", "--data", "x", "--out", out_, "--vocab-size", "many"}).status, 2);
  EXPECT_EQ(run({"vocab", "--data", "x", "--out", out_, "--vocab-size", "0"}).status, 2);
  EXPECT_EQ(run({"vocab", "--data", "x", "--out", out_, "--colour", "red"}).status, 2);
}

}  // namespace
}  // namespace duet
