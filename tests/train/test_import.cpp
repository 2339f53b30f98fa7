#include "duet/train/import.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "duet/core/file.h"
#include "duet/tests/train/expect.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

class ImportTest : public ::testing::Test {
 protected:
  ImportTest() {
    for (const char* name : {"pics/a.png", "pics/b.JPG", "pics/c"}) add_file(name);
  }
  void add_file(const std::string& name, const std::string& content = "pixels") {
    make_directories(fs::path(root_ / name).parent_path().string());
    write_file_atomically(root_ / name, content);
  }
  std::vector<SourceRow> read(const std::string& content, CsvImport csv = {}, const std::string& name = "pets.csv",
                              bool convert = false) {
    add_file(name, content);
    csv.file = root_ / name;
    skipped_.clear();
    Imported imported = read_csv_rows(csv, convert, {policy_, [&](const std::string& s) { skipped_.push_back(s); }});
    has_splits_ = imported.has_splits;
    return imported.rows;
  }

  TemporaryDirectory root_;
  BadSample policy_ = BadSample::stop;
  std::vector<std::string> skipped_;
  bool has_splits_ = false;
};

TEST_F(ImportTest, ReadsTheUsualColumns) {
  const auto rows = read(
      "\xEF\xBB\xBFsplit,label,extra,text,image,id\r\n"
      "train,cat,x,\"a \"\"big\"\" cat,\nreally\",pics/a.png,one\r\n"
      "Validation,,x,,pics/b.JPG,two\r\n"
      "TEST,dog,x,only text,,three\r\n");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_TRUE(has_splits_);
  EXPECT_EQ(rows[0].id, "one");
  EXPECT_EQ(rows[0].text, "a \"big\" cat,\nreally");
  EXPECT_EQ(rows[0].label, "cat");
  EXPECT_EQ(rows[0].split, "train");
  EXPECT_EQ(rows[0].image, "images/1.png");
  EXPECT_EQ(rows[0].source, fs::canonical(root_ / "pics/a.png").string());
  EXPECT_EQ(rows[1].label, "");
  EXPECT_EQ(rows[1].split, "val");
  EXPECT_EQ(rows[1].image, "images/2.jpg");
  EXPECT_TRUE(rows[1].has_text);
  EXPECT_EQ(rows[2].split, "test");
  EXPECT_EQ(rows[2].image, "");
  EXPECT_CONTAINS(rows[2].origin, "pets.csv line 5");
  EXPECT_EQ(labels_of(rows), (std::vector<std::string>{"cat", "dog"}));
}

TEST_F(ImportTest, ReadsNamedColumns) {
  const auto rows = read("file\tclass\tcaption\npics/c\tcat\t\"it's\n",
                         {.quotes = false, .image = "file", .text = "caption", .label = "class"}, "pets.tsv");
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_FALSE(has_splits_);
  EXPECT_EQ(rows[0].id, "1");
  EXPECT_EQ(rows[0].text, "\"it's");
  EXPECT_EQ(rows[0].label, "cat");
  EXPECT_EQ(rows[0].image, "images/1");
  EXPECT_EQ(read("text;label\nx;y\n", {.delimiter = ';'})[0].label, "y");
  EXPECT_EQ(read("image\npics/b.JPG\n", {}, "pets.csv", true)[0].image, "images/1.png");
  EXPECT_FALSE(read("image\npics/b.JPG\n")[0].has_text);
}

TEST_F(ImportTest, SharesOneCopyOfAnImage) {
  const auto rows = read("image,text\npics/a.png,what\npics/../pics/a.png,why\npics/c,who\n");
  EXPECT_EQ(rows[1].image, "images/1.png");
  EXPECT_EQ(rows[1].source, rows[0].source);
  EXPECT_EQ(rows[2].image, "images/3");
}

TEST_F(ImportTest, ExplainsABadHeader) {
  std::string message = message_of([&] { read("picture,caption\n", {.image = "pic"}); });
  EXPECT_CONTAINS(message, "--image-column pic");
  EXPECT_CONTAINS(message, "\"picture\", \"caption\"");
  message = message_of([&] { read("image;text\n"); });
  EXPECT_CONTAINS(message, "--image-column");
  EXPECT_CONTAINS(message, "is --delimiter right?");
  EXPECT_CONTAINS(message_of([&] { read("text,text\n"); }), "two columns \"text\"");
  EXPECT_CONTAINS(message_of([&] { read("\n"); }), "is empty");
}

TEST_F(ImportTest, StopsAtOrSkipsBadRows) {
  const std::string header = "id,image,text,split\n", good = "1,pics/a.png,x,train\n", good2 = "2,pics/c,y,test\n";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"3,pics/none.png,x,train", "pics/none.png: No such file"},
      {"3,pics,x,train", "is not a file"},
      {"3,,,train", "neither an image nor a text"},
      {",,x,train", "the id is empty"},
      {"1,,x,train", "id \"1\" occurs for the second time"},
      {"3,,x,", "split \"\""},
      {"3,,x,later", "split \"later\""},
      {"3,,x", "3 fields, but the header has 4"},
      {"3,,x,train,more", "5 fields"},
      {"3,,caf\xE9,train", "is not UTF-8"},
      {"3,,\"x\" y,train", "text follows a closing quotation mark"}};
  for (const auto& [line, reason] : cases) {
    const std::string content = header + good + line + "\n" + good2;
    policy_ = BadSample::stop;
    const std::string message = message_of([&] { read(content); });
    EXPECT_CONTAINS(message, "pets.csv line 3");
    EXPECT_CONTAINS(message, reason);
    EXPECT_CONTAINS(message, "--on-bad-sample skip");
    policy_ = BadSample::skip;
    const auto rows = read(content);
    ASSERT_EQ(rows.size(), 2u) << line;
    EXPECT_EQ(rows[1].id, "2");
    ASSERT_EQ(skipped_.size(), 1u);
    EXPECT_CONTAINS(skipped_[0], "pets.csv line 3");
  }
}

TEST_F(ImportTest, ReadsAFolderForEachLabel) {
  for (const char* name : {"data/cat/z.png", "data/cat/deep/a.jpeg", "data/Dog/b.PNG", "data/Dog/notes.txt",
                           "data/readme.png", "data/.hidden/x.png", "data/empty/x.txt"})
    add_file(name);
  const Imported imported = read_folder_rows(root_ / "data", false);
  ASSERT_EQ(imported.rows.size(), 3u);
  EXPECT_FALSE(imported.has_splits);
  EXPECT_EQ(imported.rows[0].id, "Dog/b.PNG");
  EXPECT_EQ(imported.rows[1].id, "cat/deep/a.jpeg");
  EXPECT_EQ(imported.rows[1].label, "cat");
  EXPECT_EQ(imported.rows[1].image, "images/cat/deep/a.jpeg");
  EXPECT_FALSE(imported.rows[1].has_text);
  EXPECT_EQ(read_folder_rows(root_ / "data", true).rows[1].image, "images/cat/deep/a.jpeg.png");
  EXPECT_CONTAINS(message_of([&] { read_folder_rows(root_ / "data/empty", false); }), "one folder for each label");
  EXPECT_CONTAINS(message_of([&] { read_folder_rows(root_ / "none", false); }), "is not a directory");
}

TEST_F(ImportTest, ReadsFoldersOfSplits) {
  for (const char* name : {"data/train/cat/a.png", "data/valid/cat/a.png", "data/test/dog/a.png"}) add_file(name);
  const Imported imported = read_folder_rows(root_ / "data", false);
  EXPECT_TRUE(imported.has_splits);
  std::vector<std::string> found;
  for (const SourceRow& r : imported.rows) found.push_back(r.id + " " + r.label + " " + r.split);
  EXPECT_EQ(found, (std::vector<std::string>{"test/dog/a.png dog test", "train/cat/a.png cat train",
                                             "valid/cat/a.png cat val"}));
}

std::map<std::string, int> count_splits(const std::vector<SourceRow>& rows) {
  std::map<std::string, int> counts;
  for (const SourceRow& r : rows) ++counts[r.label + " " + r.split];
  return counts;
}

TEST(AssignSplits, DividesEachLabel) {
  std::vector<SourceRow> rows;
  for (int i = 0; i < 150; ++i) rows.push_back({.id = std::to_string(i), .label = i % 3 ? "cat" : "dog"});
  rows.push_back({.id = "x", .label = "rare"});
  assign_splits(rows, {0.7, 0.1, 0.2}, 1);
  EXPECT_EQ(count_splits(rows), (std::map<std::string, int>{{"cat train", 70},
                                                            {"cat val", 10},
                                                            {"cat test", 20},
                                                            {"dog train", 35},
                                                            {"dog val", 5},
                                                            {"dog test", 10},
                                                            {"rare train", 1}}));
  std::vector<SourceRow> again = rows, other = rows, moved(rows.rbegin(), rows.rend());
  assign_splits(again, {0.7, 0.1, 0.2}, 1);
  assign_splits(other, {0.7, 0.1, 0.2}, 2);
  assign_splits(moved, {0.7, 0.1, 0.2}, 1);
  int differences = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].split, again[i].split);
    EXPECT_EQ(rows[i].split, moved[rows.size() - 1 - i].split);  // by id, not by position
    differences += rows[i].split != other[i].split;
  }
  EXPECT_GT(differences, 20);
  assign_splits(rows, {1, 0, 0}, 1);
  EXPECT_EQ(count_splits(rows).size(), 3u);
}

TEST(AssignSplits, KeepsRowsOfAnImageTogether) {
  std::vector<SourceRow> rows;
  for (int i = 0; i < 200; ++i)
    rows.push_back({.id = std::to_string(i), .label = i % 2 ? "yes" : "no", .source = "image" + std::to_string(i / 4)});
  assign_splits(rows, {0.5, 0.25, 0.25}, 7);
  std::map<std::string, int> counts;
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].split, rows[i / 4 * 4].split);
    ++counts[rows[i].split];
  }
  EXPECT_EQ(counts, (std::map<std::string, int>{{"train", 100}, {"val", 52}, {"test", 48}}));
}

TEST(ParseSplitFractions, ChecksWhatItReads) {
  const SplitFractions f = parse_split_fractions("0.5,0,0.5");
  EXPECT_EQ(f.train, 0.5);
  EXPECT_EQ(f.val, 0);
  EXPECT_EQ(f.test, 0.5);
  for (const std::string bad : {"", "0.7", "0.7,0.3", "0.7,0.1,0.2,0", "0.7 0.1 0.2", "a,b,c", "1.2,-0.1,-0.1"})
    EXPECT_CONTAINS(message_of([&] { parse_split_fractions(bad); }), "0.7,0.1,0.2");
  EXPECT_CONTAINS(message_of([] { parse_split_fractions("0.7,0.1,0.1"); }), "add up to 0.9");
  EXPECT_CONTAINS(message_of([] { parse_split_fractions("0,0.5,0.5"); }), "above 0");
}

}  // namespace
}  // namespace duet::train
