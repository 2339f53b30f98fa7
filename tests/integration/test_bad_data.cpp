#include <gtest/gtest.h>

#include "duet/tests/integration/tiny_data.h"

namespace duet::testing {
namespace {

namespace fs = std::filesystem;

class BadData : public ::testing::Test {
 protected:
  void expect_failure(const std::vector<std::string>& parts,
                      const std::vector<std::string>& options = {"--steps", "3"}) {
    const Finished f = run(data_.finetuning(out_, options));
    EXPECT_EQ(f.status, 1) << f.err;
    ASSERT_EQ(f.error_lines().size(), 1u) << f.err;
    for (const std::string& part : parts)
      EXPECT_NE(f.error_lines()[0].find(part), std::string::npos) << f.err << "lacks " << part;
    fs::remove_all(out_);
  }
  Finished run_skipping() {
    Finished f = run(data_.finetuning(out_, {"--steps", "12", "--on-bad-sample", "skip"}));
    EXPECT_EQ(f.status, 0) << f.err;
    fs::remove_all(out_);
    return f;
  }
  static void expect_names(const Finished& f, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) EXPECT_NE(f.err.find(part), std::string::npos) << f.err << "lacks " << part;
  }

  TinyData data_;
  const std::string out_ = data_ / "run";
};

TEST_F(BadData, MissingPlacesAreNamed) {
  const Finished f = run({"finetune", "--strategy", "image-only", "--data", data_ / "none", "--out", out_});
  EXPECT_EQ(f.status, 1);
  EXPECT_NE(f.err.find("none is not a directory"), std::string::npos) << f.err;
  fs::remove(data_.path() + "/manifest.jsonl");
  expect_failure({"manifest.jsonl", "No such file"});
}

TEST_F(BadData, BadRowsAreNamedByLine) {
  const std::vector<Json> good = data_.rows;
  const auto second_row = [&](const std::string& key, const Json& value, const std::vector<std::string>& parts) {
    data_.rows = good;
    data_.rows[1][key] = value;
    data_.write_manifest();
    std::vector<std::string> all = parts;
    all.push_back("manifest.jsonl line 2");
    expect_failure(all);
    expect_names(run_skipping(), {"skipped 1 bad sample:", parts[0]});
  };
  second_row("image", "../secret.png", {"\"../secret.png\" points outside"});
  second_row("image", "/etc/passwd", {"\"/etc/passwd\" points outside"});
  second_row("image", "images/none.png", {"cannot find image", "none.png"});
  second_row("label", "purple", {"label \"purple\" is not among"});
  second_row("id", good[0]["id"], {"was already used on line 1"});
  second_row("split", "dev", {"unknown split \"dev\""});

  write_file_atomically(data_ / "secret.png", "x");
  fs::create_symlink(data_ / "secret.png", data_.path() + "/images/link.png");
  second_row("image", "images/link.png", {"leads outside"});
  data_.write("images/empty.png", "");
  second_row("image", "images/empty.png", {"empty.png is empty"});

  data_.rows = good;
  data_.write_manifest();
  data_.write("manifest.jsonl", read_file(data_.path() + "/manifest.jsonl") + "{\"id\": \n");
  expect_failure({"line 43", "not valid JSON"});
}

TEST_F(BadData, UnreadableImagesStopOrAreSkippedByName) {
  const std::string path = data_.path() + "/" + data_.rows[0]["image"].get<std::string>();
  const std::string good = read_file(path), id = data_.rows[0]["id"];
  for (const std::string& bytes : {good.substr(0, good.size() / 2), good.substr(0, 20), std::string("not an image")}) {
    write_file_atomically(path, bytes);
    expect_failure({id, path});
    expect_names(run_skipping(), {"skipped 1 bad sample:", id, path});
  }
  fs::remove(path);
  expect_failure({id, path});
}

// The file vanishes or breaks in the test split: found at the end of the run, and by evaluate and predict.
TEST_F(BadData, SkippedSamplesOfTheTestSplitAreCounted) {
  const auto row =
      std::find_if(data_.rows.begin(), data_.rows.end(), [](const Json& r) { return r["split"] == "test"; });
  const std::string id = (*row)["id"], path = data_.path() + "/" + (*row)["image"].get<std::string>();
  write_file_atomically(path, "no image");
  expect_failure({id, path});
  const Finished f = run(data_.finetuning(out_, {"--steps", "3", "--on-bad-sample", "skip"}));
  ASSERT_EQ(f.status, 0) << f.err;
  expect_names(f, {"skipped 1 bad sample:", id});

  const std::vector<std::string> evaluate{"evaluate", "--model", out_, "--data", data_.path(), "--json"};
  const std::vector<std::string> predict{"predict", "--model", out_, "--data", data_.path(), "--split", "test"};
  for (const std::vector<std::string>& command : {evaluate, predict}) {
    const Finished stopped = run(command);
    EXPECT_EQ(stopped.status, 1);
    ASSERT_EQ(stopped.error_lines().size(), 1u) << stopped.err;
    expect_names(stopped, {id, path});
    std::vector<std::string> skipping = command;
    skipping.insert(skipping.end(), {"--on-bad-sample", "skip"});
    const Finished went_on = run(skipping);
    EXPECT_EQ(went_on.status, 0) << went_on.err;
    expect_names(went_on, {"skipped 1 bad sample:", id});
    const std::vector<Json> lines = json_lines(went_on.out);
    if (command == predict) {
      EXPECT_EQ(lines.size(), 11u);
      for (const Json& line : lines) EXPECT_NE(line["id"], id);
    } else {
      EXPECT_EQ(lines.at(0)["samples"], 11);
      EXPECT_EQ(lines.at(0)["skipped"].size(), 1u);
    }
  }
}

TEST_F(BadData, SplitsAndClasses) {
  const std::vector<Json> good = data_.rows;
  // An empty text is a text; a class may have one example, with a warning.
  data_.rows[0]["text"] = "";
  std::erase_if(data_.rows, [](const Json& r) { return r["label"] == "blue" && r["id"] != "train-blue-0"; });
  data_.write_manifest();
  const Finished f = run(data_.finetuning(out_, {"--steps", "3"}));
  EXPECT_EQ(f.status, 0) << f.err;
  expect_names(f, {"warning:", "label \"blue\" has a single example"});
  EXPECT_EQ(f.error_lines().size(), 0u) << f.err;
  fs::remove_all(out_);

  data_.rows = good;
  std::erase_if(data_.rows, [](const Json& r) { return r["split"] == "train"; });
  data_.write_manifest();
  expect_failure({"split \"train\" is empty"});

  data_.rows = good;
  std::erase_if(data_.rows, [](const Json& r) { return r["split"] != "train"; });
  data_.write_manifest();
  EXPECT_EQ(run(data_.finetuning(out_, {"--steps", "3"})).status, 0);  // no validation, no test
  const Finished evaluated = run({"evaluate", "--model", out_, "--data", data_.path()});
  EXPECT_EQ(evaluated.status, 1);
  expect_names(evaluated, {"split \"test\" is empty"});
  fs::remove_all(out_);

  data_.rows.clear();
  data_.write_manifest();
  expect_failure({"no usable samples"});
}

TEST_F(BadData, LargeImagesAreRefusedByName) {
  expect_failure({"train-red-0", "pixels"}, {"--steps", "3", "--max-pixels", "255"});
  EXPECT_EQ(run(data_.finetuning(out_, {"--steps", "3", "--max-pixels", "256"})).status, 0);
}

TEST_F(BadData, BadModelFilesAreNamed) {
  expect_failure({"vision.json"}, {"--steps", "3", "--vision-config", data_ / "no/vision.json"});
  expect_failure({"--max-length 40", "16 positions"}, {"--steps", "3", "--max-length", "40"});
  const std::string none = data_ / "none";
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"evaluate", "--model", none, "--data", data_.path()},
        {"predict", "--model", none, "--text", "x"}}) {
    const Finished f = run(command);
    EXPECT_EQ(f.status, 1);
    ASSERT_EQ(f.error_lines().size(), 1u) << f.err;
    expect_names(f, {"none is no model directory"});
  }
}

// Messages quote what they found, and that may hold line breaks.
TEST_F(BadData, ErrorsStayOnOneLine) {
  data_.rows[1]["label"] = "two\nlines";
  data_.write_manifest();
  expect_failure({"two", "lines", "is not among"});
  const Finished f = run({"evaluate", "--model", "a\nb", "--data", data_.path()});
  EXPECT_EQ(f.status, 1);
  EXPECT_EQ(std::count(f.err.begin(), f.err.end(), '\n'), 1) << f.err;
}

}  // namespace
}  // namespace duet::testing
