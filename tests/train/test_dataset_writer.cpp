#include "duet/train/dataset_writer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "duet/core/file.h"
#include "duet/core/json.h"
#include "duet/tests/train/expect.h"
#include "duet/train/image.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

// `width` x `height` pixels whose red counts up.
std::string picture(int width, int height) {
  Image image{width, height, {}};
  for (int i = 0; i < width * height; ++i)
    for (const int value : {i % 251, 20, 200}) image.rgb.push_back(static_cast<uint8_t>(value));
  return encode_png(image);
}

const DatasetWriter::Claim claim{"duet data test", {{"max_side", 8}}};

TEST(RowsChecksum, IsThatOfTheLines) {
  // printf 'a\tb c\tx\ttrain\nd\t\t\ttest\n' | sha256sum
  EXPECT_EQ(rows_checksum({{.id = "a", .text = "b c", .label = "x", .split = "train"}, {.id = "d", .split = "test"}}),
            "f23721d7c9ec87ece0cedf51d6dca5ca247871d2b497c7db3ee9856a0d82eaed");
}

TEST(LimitRows, KeepsLabelsAndSplitsInProportion) {
  std::vector<SourceRow> rows;
  for (int i = 0; i < 100; ++i)
    rows.push_back({.id = std::to_string(i), .label = i % 4 ? "many" : "few", .split = i % 10 ? "train" : "test"});
  EXPECT_EQ(limit_rows(rows, 0).size(), 100u);
  EXPECT_EQ(limit_rows(rows, 1000).size(), 100u);
  std::map<std::string, int> counts;
  for (const SourceRow& r : limit_rows(rows, 20)) ++counts[r.label + " " + r.split];
  EXPECT_EQ(counts,
            (std::map<std::string, int>{{"few test", 1}, {"few train", 4}, {"many test", 1}, {"many train", 14}}));
}

TEST(DatasetWriter, WritesWhatDatasetReads) {
  const TemporaryDirectory root;
  {
    DatasetWriter writer(root / "new/data", claim);
    write_file_atomically(writer.path("a.png"), picture(2, 2));
    writer.finish("pets", {"cat", "dog"}, {{"limit", 3}},
                  {{.id = "1", .text = "ä \"b\"\n", .label = "dog", .split = "train", .image = "a.png"},
                   {.id = "2", .text = "", .split = "val"},
                   {.id = "3", .label = "cat", .split = "test", .image = "a.png", .has_text = false}});
  }
  const Dataset data = Dataset::open(root / "new/data");
  EXPECT_EQ(data.name(), "pets");
  EXPECT_EQ(data.labels(), (std::vector<std::string>{"cat", "dog"}));
  ASSERT_EQ(data.samples().size(), 3u);
  EXPECT_EQ(data.samples()[0].text, "ä \"b\"\n");
  EXPECT_EQ(data.samples()[0].label, 1);
  EXPECT_TRUE(data.samples()[1].has_text);
  EXPECT_FALSE(data.samples()[1].has_label());
  EXPECT_FALSE(data.samples()[2].has_text);
  EXPECT_EQ(read_file(root / "new/data/manifest.jsonl").substr(0, 92),
            R"({"id":"1","image":"a.png","text":"ä \"b\"\n","label":"dog","split":"train"})"
            "\n"
            R"({"id":"2","text)");
  const Json description = read_json(root / "new/data/dataset.json");
  EXPECT_EQ(description["splits"], (Json{{"train", 1}, {"val", 1}, {"test", 1}}));
  EXPECT_EQ(description["settings"]["limit"], 3);
}

TEST(DatasetWriter, TouchesNobodyElsesFiles) {
  const TemporaryDirectory root;
  make_directories(root / "mine");
  write_file_atomically(root / "mine/letter.txt", "dear");
  std::string message = message_of([&] { DatasetWriter(root / "mine", claim); });
  EXPECT_CONTAINS(message, root / "mine");
  EXPECT_CONTAINS(message, "letter.txt");
  EXPECT_CONTAINS(message, "another directory");
  EXPECT_EQ(std::distance(fs::directory_iterator(root / "mine"), {}), 1);

  write_file_atomically(root / "mine/dataset.json", R"({"made_by": "duet data other"})");
  message = message_of([&] { DatasetWriter(root / "mine", claim); });
  EXPECT_CONTAINS(message, "another dataset");
  EXPECT_CONTAINS(message, "`duet data test`");

  write_file_atomically(root / "file", "");
  EXPECT_CONTAINS(message_of([&] { DatasetWriter(root / "file", claim); }), root / "file");
}

TEST(DatasetWriter, RefusesASecondWriter) {
  const TemporaryDirectory root;
  {
    const DatasetWriter first(root.path(), claim);
    EXPECT_CONTAINS(message_of([&] { DatasetWriter(root.path(), claim); }), "another process");
  }
  DatasetWriter(root.path(), claim);
}

TEST(DatasetWriter, RemovesImagesOfOtherSettingsAndLeftovers) {
  const TemporaryDirectory root;
  const std::string image = root / "images/a.png", leftover = root / "images/b.png.tmp-123";
  const auto make = [&](const DatasetWriter::Claim& c) {
    DatasetWriter writer(root.path(), c);
    const bool kept = fs::exists(image);
    make_directories(root / "images");
    write_file_atomically(image, "pixels");
    write_file_atomically(leftover, "half");
    return kept;
  };
  EXPECT_FALSE(make(claim));
  EXPECT_TRUE(make(claim));
  { const DatasetWriter writer(root.path(), claim); }
  EXPECT_FALSE(fs::exists(leftover));
  DatasetWriter::Claim other = claim;
  other.images = {{"max_side", 9}};
  EXPECT_FALSE(make(other));
  other.fresh = true;
  EXPECT_TRUE(make(other));  // unfinished: the work is kept
  DatasetWriter(root.path(), other).finish("x", {}, {}, {{.id = "1", .text = "t", .split = "train"}});
  EXPECT_FALSE(make(other));
  EXPECT_FALSE(fs::exists(root / "manifest.jsonl"));
}

class WriteImages : public ::testing::Test {
 protected:
  WriteImages() { write_file_atomically(source, picture(40, 20)); }
  std::map<std::string, std::string> write(const std::vector<ImageTask>& tasks, int max_side, int workers = 1,
                                           BadSample policy = BadSample::stop) {
    return write_images(tasks, {max_side, workers, policy, "test"});
  }

  TemporaryDirectory root_;
  const std::string source = root_ / "source.png", target = root_ / "out/images/x/a.png", second = root_ / "b.png";
};

TEST_F(WriteImages, ShrinksIntoEveryTarget) {
  EXPECT_TRUE(write({{source, {target, second}, ""}}, 10).empty());
  const Image image = load_image(target);
  EXPECT_EQ(image.width, 10);
  EXPECT_EQ(image.height, 5);
  EXPECT_EQ(image.rgb[2], 200);
  EXPECT_EQ(read_file(target), read_file(second));
  write({{source, {root_ / "c.png"}, ""}}, 100);
  EXPECT_EQ(load_image(root_ / "c.png").rgb, load_image(source).rgb);  // never enlarged
}

TEST_F(WriteImages, CopiesWithoutALimit) {
  write({{source, {target}, ""}}, 0);
  EXPECT_EQ(read_file(target), read_file(source));
}

TEST_F(WriteImages, KeepsOnlyWhatIsWholeAndCurrent) {
  const auto written = [&] { return fs::last_write_time(target); };
  const auto rewrites = [&](int max_side) {
    const auto past = fs::last_write_time(source) + std::chrono::seconds(1);
    fs::last_write_time(target, past);
    write({{source, {target}, ""}}, max_side);
    return written() != past;
  };
  for (const int max_side : {10, 0}) {
    fs::remove(target);
    write({{source, {target}, ""}}, max_side);
    const std::string whole = read_file(target);
    EXPECT_FALSE(rewrites(max_side));
    for (const size_t length : {whole.size() - 1, size_t{0}}) {
      write_file_atomically(target, whole.substr(0, length));
      EXPECT_TRUE(rewrites(max_side)) << length;
      EXPECT_EQ(read_file(target), whole);
    }
    fs::last_write_time(target, fs::last_write_time(source) - std::chrono::seconds(1));
    write({{source, {target}, ""}}, max_side);
    EXPECT_GE(written(), fs::last_write_time(source));
  }
}

TEST_F(WriteImages, GivesTheSameForAnyNumberOfWorkers) {
  std::vector<ImageTask> one, four;
  for (int i = 0; i < 30; ++i) {
    const std::string name = std::to_string(i), from = root_ / (name + ".png");
    write_file_atomically(from, picture(20 + i, 50 - i));
    one.push_back({from, {root_ / ("one/" + name)}, ""});
    four.push_back({from, {root_ / ("four/" + name)}, ""});
  }
  write(one, 16, 1);
  write(four, 16, 4);
  for (int i = 0; i < 30; ++i)
    EXPECT_EQ(read_file(root_ / ("one/" + std::to_string(i))), read_file(root_ / ("four/" + std::to_string(i))));
}

TEST_F(WriteImages, StopsAtOrSkipsBadImages) {
  const std::string bad = root_ / "bad.png", missing = root_ / "missing.png";
  write_file_atomically(bad, "no picture");
  const std::vector<ImageTask> tasks = {{source, {target}, ""},
                                        {bad, {second}, "pets.csv line 3"},
                                        {missing, {root_ / "c"}, ""},
                                        {source, {root_ / "d"}, ""}};
  for (const int max_side : {0, 8}) {
    for (const int workers : {1, 3}) {
      const std::string message = message_of([&] { write(tasks, max_side, workers); });
      EXPECT_CONTAINS(message, "pets.csv line 3: ");
      EXPECT_CONTAINS(message, bad);
    }
    const auto reasons = write(tasks, max_side, 2, BadSample::skip);
    ASSERT_EQ(reasons.size(), 2u);
    EXPECT_CONTAINS(reasons.at(bad), "pets.csv line 3: ");
    EXPECT_CONTAINS(reasons.at(missing), missing);
    EXPECT_TRUE(fs::exists(root_ / "d"));
    EXPECT_FALSE(fs::exists(second));
    fs::remove(root_ / "d");
  }
}

TEST_F(WriteImages, NeverTakesAFailedWriteForABadImage) {
  make_directories(second);  // a directory where the file belongs
  EXPECT_CONTAINS(message_of([&] {
                    write({{source, {second}, ""}}, 8, 1, BadSample::skip);
                  }),
                  second + " is a directory");
}

}  // namespace
}  // namespace duet::train
