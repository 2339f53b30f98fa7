#include "duet/train/dataset.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "duet/core/file.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

// A fresh dataset directory with one small "image" (opening only looks at the file, not at its pixels).
class DatasetTest : public ::testing::Test {
 protected:
  DatasetTest() {
    base_ = fs::temp_directory_path() / ("duet_dataset_" + std::to_string(::getpid()) + "_" +
                                         ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(base_);
    make_directories(dir() + "/images");
    write("images/a.png", "pixels");
    write("dataset.json", R"({"name": "pets", "labels": ["cat", "dog"], "source": "here"})");
  }
  ~DatasetTest() override { fs::remove_all(base_); }

  std::string dir() const { return (base_ / "data").string(); }
  void write(const std::string& name, const std::string& content) {
    write_file_atomically(dir() + "/" + name, content);
  }

  Dataset open(const std::string& manifest, const OpenOptions& options = {}) {
    write("manifest.jsonl", manifest);
    return Dataset::open(dir(), options);
  }
  // The second line is the bad one; its error must say so.
  void expect_refused(const std::string& bad_line, const std::string& reason) {
    const std::string manifest = good + bad_line + "\n" + good2;
    try {
      open(manifest);
      ADD_FAILURE() << "accepted: " << bad_line;
    } catch (const Error& e) {
      const std::string message = e.what();
      EXPECT_NE(message.find("manifest.jsonl line 2"), message.npos) << message;
      EXPECT_NE(message.find(reason), message.npos) << message;
    }
    const Dataset rest = open(manifest, {.on_bad_sample = BadSample::skip, .report = {}});
    EXPECT_EQ(rest.samples().size(), 2u);
    ASSERT_EQ(rest.skipped().size(), 1u);
    EXPECT_NE(rest.skipped()[0].find(reason), std::string::npos) << rest.skipped()[0];
  }

  fs::path base_;
  const std::string good = R"({"id": "1", "image": "images/a.png", "text": "a cat", "label": "cat", "split": "train"})"
                           "\n";
  const std::string good2 = R"({"id": "2", "text": "", "label": "cat", "split": "test"})"
                            "\n";
};

TEST_F(DatasetTest, ReadsEveryField) {
  const Dataset data = open(good + good2 + R"({"id": "3", "image": "images/a.png", "split": "val", "text": null})");
  EXPECT_EQ(data.name(), "pets");
  EXPECT_EQ(data.labels(), (std::vector<std::string>{"cat", "dog"}));
  ASSERT_EQ(data.samples().size(), 3u);
  const Sample& first = data.samples()[0];
  EXPECT_EQ(first.id + first.image + first.text + first.split, "1images/a.pnga cattrain");
  EXPECT_EQ(first.label, 0);
  EXPECT_EQ(data.image_path(first), dir() + "/images/a.png");
  EXPECT_TRUE(data.samples()[1].has_text);  // present and empty
  EXPECT_FALSE(data.samples()[1].has_image());
  EXPECT_THROW(data.image_path(data.samples()[1]), Error);
  EXPECT_FALSE(data.samples()[2].has_text);
  EXPECT_FALSE(data.samples()[2].has_label());
  EXPECT_EQ(data.split("val").size(), 1u);
}

TEST_F(DatasetTest, TextsParseAsTheirFiles) {
  std::vector<std::string> asked;
  DatasetText source{.directory = dir(), .name = "unused", .manifest = good};
  source.image_bytes = [&](const std::string& image, const std::string&) {
    asked.push_back(image);
    return uint64_t{6};  // as many as "pixels" has
  };
  const std::string description = R"({"name": "pets", "labels": ["cat", "dog"]})";
  source.description = description;
  const Dataset data = Dataset::parse(source);
  EXPECT_EQ(data.name(), "pets");
  EXPECT_EQ(data.fingerprint(), open(good).fingerprint());
  EXPECT_EQ(asked, std::vector<std::string>{"images/a.png"});
  source.description.reset();
  EXPECT_EQ(Dataset::parse(source).name(), "unused");
  EXPECT_EQ(Dataset::parse(source).labels(), std::vector<std::string>{"cat"});
}

TEST_F(DatasetTest, BadLinesAreRefusedByLineNumberOrSkippedByName) {
  expect_refused(R"({"id": "x", "text": "cut of)", "not valid JSON");
  expect_refused("cat,dog", "not valid JSON");
  expect_refused("\"\xff\"", "not valid JSON");
  expect_refused(R"(["x"])", "must be a JSON object");
  expect_refused(R"({"text": "x", "split": "train"})", "\"id\" is missing");
  expect_refused(R"({"id": "", "text": "x", "split": "train"})", "\"id\" is missing");
  expect_refused(R"({"id": 7, "text": "x", "split": "train"})", "\"id\" must be a string, it is 7");
  expect_refused(R"({"id": "x", "text": ["x"], "split": "train"})", "\"text\" must be a string");
  expect_refused(R"({"id": "x", "text": "x", "label": 1, "split": "train"})", "\"label\" must be a string, it is 1");
  expect_refused(R"({"id": "x", "image": {}, "split": "train"})", "\"image\" must be a string");
  expect_refused(R"({"id": "1", "text": "x", "split": "train"})", "id \"1\" was already used on line 1");
  expect_refused(R"({"id": "x", "text": "x", "id": "y", "split": "train"})", "key \"id\" occurs twice");
  expect_refused(R"({"id": "x", "text": "x"})", "\"split\" is missing");
  expect_refused(R"({"id": "x", "text": "x", "split": "dev"})", "unknown split \"dev\"; use train, val or test");
  expect_refused(R"({"id": "x", "split": "train"})", "neither \"image\" nor \"text\"");
  expect_refused(R"({"id": "x", "text": "x", "label": "horse", "split": "train"})",
                 "label \"horse\" is not among the 2 labels of dataset.json");
  expect_refused(R"({"id": "x", "text": "x", "label": "", "split": "train"})", "the label is empty");
  expect_refused(R"({"id": "x", "image": "images/none.png", "split": "train"})", "cannot find image");
  expect_refused(R"({"id": "x", "image": "none.idx#3", "split": "train"})", "none.idx: No such file");
  expect_refused(R"({"id": "x", "image": "images", "split": "train"})", "is not a file");
  expect_refused(R"({"id": "x", "image": "", "split": "train"})", "the image path is empty");
}

TEST_F(DatasetTest, ImagesOutsideTheDirectoryAreRefused) {
  write_file_atomically((base_ / "secret.png").string(), "pixels");
  expect_refused(R"({"id": "x", "image": ")" + (base_ / "secret.png").string() + R"(", "split": "train"})",
                 "points outside");
  expect_refused(R"({"id": "x", "image": "../secret.png", "split": "train"})", "points outside");
  expect_refused(R"({"id": "x", "image": "images/../../secret.png", "split": "train"})", "points outside");
  fs::create_symlink(base_ / "secret.png", dir() + "/images/link.png");
  expect_refused(R"({"id": "x", "image": "images/link.png", "split": "train"})", "leads outside");
  fs::create_directory_symlink(base_, dir() + "/up");
  expect_refused(R"({"id": "x", "image": "up/secret.png", "split": "train"})", "leads outside");
  // A directory whose name merely begins with the dataset's is outside too.
  make_directories(dir() + "2");
  write_file_atomically(dir() + "2/b.png", "pixels");
  fs::create_symlink(dir() + "2/b.png", dir() + "/images/b.png");
  expect_refused(R"({"id": "x", "image": "images/b.png", "split": "train"})", "leads outside");
  // A link that stays inside is fine.
  fs::create_symlink("a.png", dir() + "/images/same.png");
  EXPECT_EQ(open(R"({"id": "x", "image": "images/same.png", "split": "train"})").samples().size(), 1u);
}

TEST_F(DatasetTest, EmptyImageFilesAreRefused) {
  write("images/empty.png", "");
  expect_refused(R"({"id": "x", "image": "images/empty.png", "split": "train"})", "is empty");
}

TEST_F(DatasetTest, IndexedImagesShareOneFile) {
  write("digits.idx", "bytes");
  const Dataset data = open(R"({"id": "x", "image": "digits.idx#12", "split": "train"})");
  EXPECT_EQ(data.image_path(data.samples()[0]), dir() + "/digits.idx#12");
}

TEST_F(DatasetTest, LabelsComeFromTheManifestWithoutDatasetJson) {
  fs::remove(dir() + "/dataset.json");
  const Dataset data = open(R"({"id": "1", "text": "x", "label": "zebra", "split": "train"})"
                            "\n"
                            R"({"id": "2", "text": "x", "label": "ant", "split": "train"})"
                            "\r\n\n");
  EXPECT_EQ(data.labels(), (std::vector<std::string>{"ant", "zebra"}));
  EXPECT_EQ(data.samples()[0].label, 1);
  EXPECT_EQ(data.samples()[1].label, 0);
  EXPECT_EQ(data.name(), "data");
}

TEST_F(DatasetTest, DatasetJsonIsChecked) {
  for (const auto& [content, reason] :
       std::map<std::string, std::string>{{R"({"labels": ["cat", "cat"]})", "label \"cat\" is listed twice"},
                                          {R"({"labels": "cat"})", "must be a list of strings"},
                                          {R"({"labels": [1]})", "non-empty strings"},
                                          {R"({"labels": [], "labels": []})", "occurs twice"},
                                          {"[]", "must be a JSON object"},
                                          {"{", "not valid JSON"}}) {
    write("dataset.json", content);
    try {
      open(good);
      ADD_FAILURE() << "accepted: " << content;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("dataset.json"), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find(reason), std::string::npos) << e.what();
    }
  }
}

TEST_F(DatasetTest, MissingOrUselessManifestsAreErrors) {
  EXPECT_THROW(Dataset::open(dir()), Error);
  EXPECT_THROW(Dataset::open(dir() + "/nowhere"), Error);
  EXPECT_THROW(open(""), Error);
  EXPECT_THROW(open("{}\n{}\n", {.on_bad_sample = BadSample::skip, .report = {}}), Error);  // every line skipped
}

TEST_F(DatasetTest, EmptyOrUnknownSplitIsAnError) {
  const Dataset data = open(good);
  EXPECT_TRUE(data.has_split("train"));
  EXPECT_FALSE(data.has_split("val"));
  try {
    data.split("val");
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("split \"val\" is empty"), std::string::npos) << e.what();
  }
  EXPECT_THROW(data.split("dev"), Error);
}

TEST_F(DatasetTest, WarnsAboutRareLabelsAndUnusedKeys) {
  std::vector<std::string> reported;
  OpenOptions options;
  options.report = [&](const std::string& line) { reported.push_back(line); };
  const Dataset data = open(good + R"({"id": "2", "text": "x", "lable": "cat", "split": "test"})", options);
  ASSERT_EQ(data.warnings().size(), 3u);
  EXPECT_NE(data.warnings()[0].find("key \"lable\" is not used"), std::string::npos);
  EXPECT_NE(data.warnings()[1].find("\"cat\" has a single example"), std::string::npos);
  EXPECT_NE(data.warnings()[2].find("\"dog\" has no example"), std::string::npos);
  EXPECT_EQ(reported.size(), 3u);
  EXPECT_EQ(data.samples().size(), 2u);  // kept
}

TEST_F(DatasetTest, FingerprintFollowsTheContent) {
  const uint64_t first = open(good + good2).fingerprint();
  EXPECT_EQ(open(good + "\n" + good2).fingerprint(), first);
  EXPECT_NE(open(good2 + good).fingerprint(), first);
  EXPECT_NE(open(good).fingerprint(), first);
  write("images/a.png", "other pixels");
  EXPECT_NE(open(good + good2).fingerprint(), first);
}

// Classes of 60, 39 and 1.
std::vector<Sample> hundred_samples() {
  std::vector<Sample> samples(100);
  for (size_t i = 0; i < 100; ++i) {
    samples[i].id = std::to_string(i);
    samples[i].label = i < 60 ? 0 : i < 99 ? 1 : 2;
  }
  return samples;
}

std::set<std::string> ids(const std::vector<Sample>& samples) {
  std::set<std::string> out;
  for (const Sample& s : samples) out.insert(s.id);
  return out;
}

TEST(StratifiedFraction, IsNestedDeterministicAndKeepsEveryClass) {
  std::vector<Sample> samples = hundred_samples();
  std::set<std::string> previous;
  for (const double fraction : {0.01, 0.1, 0.3, 0.5, 1.0}) {
    const auto part = stratified_fraction(samples, fraction, 7);
    std::map<int, int> counts;
    for (const Sample& s : part) ++counts[s.label];
    EXPECT_EQ(counts[0], std::max(1, static_cast<int>(std::lround(60 * fraction)))) << fraction;
    EXPECT_EQ(counts[2], 1) << fraction;
    const auto now = ids(part);
    EXPECT_TRUE(std::includes(now.begin(), now.end(), previous.begin(), previous.end())) << fraction;
    previous = now;
  }
  EXPECT_EQ(previous.size(), 100u);
  EXPECT_NE(ids(stratified_fraction(samples, 0.3, 7)), ids(stratified_fraction(samples, 0.3, 8)));
  // The choice does not depend on the order of the rows.
  const auto before = ids(stratified_fraction(samples, 0.3, 7));
  std::reverse(samples.begin(), samples.end());
  EXPECT_EQ(ids(stratified_fraction(samples, 0.3, 7)), before);
}

TEST(StratifiedFraction, RefusesImpossibleFractions) {
  for (const double fraction : {0.0, -0.1, 1.5, std::nan("")})
    EXPECT_THROW(stratified_fraction(hundred_samples(), fraction, 1), Error) << fraction;
}

TEST(StratifiedLimit, TakesFirstRowsInProportion) {
  std::vector<int> classes;
  for (const Sample& s : hundred_samples()) classes.push_back(s.label);
  const auto ten = stratified_limit(classes, 10);
  ASSERT_EQ(ten.size(), 10u);
  std::map<int, int> counts;
  for (const size_t i : ten) ++counts[classes[i]];
  EXPECT_EQ(counts[2], 1);
  EXPECT_NEAR(counts[0], 6, 1);
  EXPECT_EQ(ten[0], 0u);
  const auto twenty = stratified_limit(classes, 20);
  EXPECT_TRUE(std::includes(twenty.begin(), twenty.end(), ten.begin(), ten.end()));
  EXPECT_EQ(stratified_limit(classes, 1000).size(), 100u);
}

}  // namespace
}  // namespace duet::train
