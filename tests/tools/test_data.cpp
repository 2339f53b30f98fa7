#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <thread>

#include "duet/core/file.h"
#include "duet/core/json.h"
#include "duet/tests/tools/run_duet.h"
#include "duet/tests/train/expect.h"
#include "duet/train/dataset.h"
#include "duet/train/image.h"

namespace duet::tools {
namespace {

namespace fs = std::filesystem;

class DataCommand : public ::testing::Test {
 protected:
  void add_file(const std::string& name, const std::string& content) {
    make_directories(fs::path(root_ / name).parent_path().string());
    write_file_atomically(root_ / name, content);
  }
  void add_picture(const std::string& name, int width, int height) {
    train::Image image{width, height, std::vector<uint8_t>(static_cast<size_t>(width * height * 3), 100)};
    add_file(name, train::encode_png(image));
  }
  void add_drawing(const std::string& path, const std::string& title) {
    add_file("clips/svg/" + path + ".svg", "<metadata><dc:title>" + title + "</dc:title></metadata>");
    add_picture("clips/png/" + path + ".png", 60, 30);
  }
  CommandResult duet(const std::string& arguments) { return run_duet("data " + arguments); }
  std::string out() const { return root_ / "out"; }
  std::string clips() const { return "--source " + (root_ / "clips"); }

  TemporaryDirectory root_;
};

TEST_F(DataCommand, OpenclipartWritesBothDirectories) {
  add_drawing("food/apple", "Snowy owl");  // train
  add_drawing("animals/owl", "barn owl");  // test
  add_drawing("unsorted/x", "Owl");        // train
  const std::string command =
      "openclipart --max-side 20 --out " + out() + " --unlabelled-out " + (root_ / "pairs") + " ";
  const CommandResult result = duet(command + clips());
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_CONTAINS(result.out, "rows          2\nsplits        train 1, val 0, test 1\n");
  EXPECT_CONTAINS(result.out, "sha256        ");
  EXPECT_CONTAINS(result.out, "written to    " + out());
  const train::Dataset data = train::Dataset::open(out());
  EXPECT_EQ(data.name(), "openclipart");
  EXPECT_EQ(data.labels().size(), 16u);
  EXPECT_EQ(data.samples()[0].id, "animals/owl");
  const train::Image image = train::load_image(data.image_path(data.samples()[1]));
  EXPECT_EQ(image.width, 20);
  EXPECT_EQ(image.height, 10);
  const train::Dataset pairs = train::Dataset::open(root_ / "pairs");
  ASSERT_EQ(pairs.samples().size(), 2u);
  EXPECT_EQ(pairs.samples()[0].id, "food/apple");
  EXPECT_FALSE(pairs.samples()[0].has_label());
  EXPECT_EQ(pairs.samples()[1].id, "unsorted/x");

  // The same again keeps what is there, with any number of workers; other settings are honoured.
  const std::string png = out() + "/images/food/apple.png", manifest = read_file(out() + "/manifest.jsonl");
  const auto written = fs::last_write_time(png);
  EXPECT_EQ(duet(command + "--workers 5 " + clips()).status, 0);
  EXPECT_EQ(fs::last_write_time(png), written);
  EXPECT_EQ(read_file(out() + "/manifest.jsonl"), manifest);
  EXPECT_EQ(duet("openclipart --limit 1 --out " + out() + " " + clips()).status, 0);
  EXPECT_EQ(train::load_image(out() + "/images/animals/owl.png").width, 60);
  EXPECT_EQ(train::Dataset::open(out()).samples().size(), 1u);
}

TEST_F(DataCommand, OpenclipartSkipsBadImagesOnRequest) {
  add_drawing("food/apple", "apple");
  add_drawing("food/pear", "pear");
  add_file("clips/png/food/pear.png", "no picture");
  CommandResult result = duet("openclipart --out " + out() + " " + clips());
  EXPECT_EQ(result.status, 1);
  EXPECT_CONTAINS(result.err, "food/pear.png");
  EXPECT_FALSE(fs::exists(out() + "/manifest.jsonl"));
  result = duet("openclipart --on-bad-sample skip --out " + out() + " " + clips());
  EXPECT_EQ(result.status, 0);
  EXPECT_CONTAINS(result.out, "rows          1\n");
  EXPECT_CONTAINS(result.out, "skipped       1\n");
  EXPECT_CONTAINS(result.err, "food/pear.png");
}

TEST_F(DataCommand, MissingPackageAndForeignDirectory) {
  CommandResult result = duet("wordnet --source " + (root_ / "none") + " --out " + out());
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(result.err.starts_with("duet: ")) << result.err;
  EXPECT_CONTAINS(result.err, "apt install wordnet-base");
  EXPECT_FALSE(fs::exists(out()));
  add_drawing("food/apple", "apple");
  add_file("out/thesis.tex", "years of work");
  result = duet("openclipart --out " + out() + " " + clips());
  EXPECT_EQ(result.status, 1);
  EXPECT_CONTAINS(result.err, "thesis.tex");
  result = duet("openclipart --out " + (root_ / "x") + " --unlabelled-out " + (root_ / "x") + " " + clips());
  EXPECT_CONTAINS(result.err, "two directories are needed");
}

TEST_F(DataCommand, FullDiskIsNoBadImage) {
  add_drawing("food/apple", "apple");
  // Files may hold no byte, which fails in the same place as a disk without room. Output goes through a pipe.
  const std::string command = "trap '' XFSZ; ulimit -f 0; '" DUET_BINARY
                              "' data openclipart --on-bad-sample skip --out " +
                              out() + " " + clips() + " 2>&1";
  FILE* pipe = ::popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string printed;
  for (int c; (c = std::fgetc(pipe)) != EOF;) printed += static_cast<char>(c);
  EXPECT_EQ(WEXITSTATUS(::pclose(pipe)), 1);
  EXPECT_CONTAINS(printed, "cannot write " + out());
  EXPECT_CONTAINS(printed, "File too large");
  EXPECT_FALSE(fs::exists(out() + "/manifest.jsonl"));
  EXPECT_EQ(duet("openclipart --out " + out() + " " + clips()).status, 0);
}

TEST_F(DataCommand, AnInterruptedRunCanBeRepeated) {
  add_picture("big.png", 1500, 1500);
  for (int i = 0; i < 60; ++i) {
    const std::string name = "food/" + std::to_string(i);
    add_file("clips/svg/" + name + ".svg", "");
    add_file("clips/png/" + name + ".png", read_file(root_ / "big.png"));
  }
  const std::string err = root_ / "err", source = root_ / "clips", images = out() + "/images/food", to = out();
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (!std::freopen(err.c_str(), "w", stderr)) ::_exit(126);
    ::execl(DUET_BINARY, "duet", "data", "openclipart", "--workers", "1", "--source", source.c_str(), "--out",
            to.c_str(), nullptr);
    ::_exit(127);
  }
  const auto count = [&] { return fs::exists(images) ? std::distance(fs::directory_iterator(images), {}) : 0; };
  for (int i = 0; i < 20000 && count() < 2; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  ::kill(child, SIGINT);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 130);
  EXPECT_CONTAINS(read_file(err), "of 60 are done and kept");
  EXPECT_FALSE(fs::exists(out() + "/manifest.jsonl"));
  const auto finished = count();
  EXPECT_GE(finished, 2);
  EXPECT_LT(finished, 60);
  std::map<fs::path, fs::file_time_type> written;
  for (const auto& entry : fs::directory_iterator(images)) written[entry.path()] = entry.last_write_time();
  EXPECT_EQ(duet("openclipart --out " + out() + " " + clips()).status, 0);
  for (const auto& [path, time] : written) EXPECT_EQ(fs::last_write_time(path), time) << path;
  EXPECT_EQ(train::Dataset::open(out()).samples().size(), 60u);
}

TEST_F(DataCommand, ImportMakesASelfContainedDirectory) {
  std::string csv = "picture,caption,class\n";
  for (int i = 0; i < 10; ++i) {
    add_picture("in/p/" + std::to_string(i) + ".png", 30, 10 + i);
    csv += "p/" + std::to_string(i) + ".png,picture " + std::to_string(i) + "," + (i % 2 ? "odd" : "even") + "\n";
  }
  add_file("in/pets.csv", csv);
  const std::string command = "import --csv " + (root_ / "in/pets.csv") +
                              " --image-column picture --text-column caption --label-column class --seed 3 --out " +
                              out();
  CommandResult result = duet(command + " --split 0.6,0.2,0.2");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_CONTAINS(result.out, "split by      seed 3, fractions 0.6,0.2,0.2\n");
  EXPECT_CONTAINS(result.out, "splits        train 6, val 2, test 2\n");
  EXPECT_CONTAINS(result.out, "labels        2, from 5 rows (even) to 5 (odd)\n");
  const Json description = read_json(out() + "/dataset.json");
  EXPECT_EQ(description["name"], "pets");
  EXPECT_EQ(description["settings"]["split"]["seed"], 3);
  EXPECT_EQ(description["settings"]["split"]["val"], 0.2);
  const std::string original = read_file(root_ / "in/p/4.png");
  fs::remove_all(root_ / "in/p");
  const train::Dataset data = train::Dataset::open(out());
  EXPECT_EQ(read_file(data.image_path(data.samples()[4])), original);

  // A finished import is made anew, so that changed pictures never hide behind older copies.
  for (int i = 0; i < 10; ++i) add_picture("in/p/" + std::to_string(i) + ".png", 8, 4);
  for (const auto& entry : fs::directory_iterator(root_ / "in/p"))
    fs::last_write_time(entry.path(), fs::file_time_type::clock::now() - std::chrono::hours(1));
  ASSERT_EQ(duet(command + " --max-side 4").status, 0);
  EXPECT_EQ(train::load_image(out() + "/images/5.png").width, 4);
  ASSERT_EQ(duet(command).status, 0);
  EXPECT_EQ(train::load_image(out() + "/images/5.png").width, 8);
}

TEST_F(DataCommand, ImportNamesBadLines) {
  add_picture("in/a.png", 4, 4);
  add_file("in/b.png", "no picture");
  add_file("in/pets.csv", "image,label,split\na.png,x,train\nnone.png,y,train\nb.png,y,train\na.png,y,test\n");
  const std::string command = "import --csv " + (root_ / "in/pets.csv") + " --out " + out();
  CommandResult result = duet(command);
  EXPECT_EQ(result.status, 1);
  EXPECT_CONTAINS(result.err, "pets.csv line 3: image");
  result = duet(command + " --on-bad-sample skip");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_CONTAINS(result.err, "pets.csv line 3: image");
  EXPECT_CONTAINS(result.err, "pets.csv line 4: ");
  EXPECT_CONTAINS(result.out, "rows          2\n");
  EXPECT_CONTAINS(result.out, "skipped       2\n");
  EXPECT_EQ(train::Dataset::open(out()).samples().size(), 2u);
}

TEST_F(DataCommand, ImportReadsFolders) {
  add_picture("in/cat/1.png", 4, 4);
  add_picture("in/dog/1.png", 4, 4);
  CommandResult result = duet("import --folder " + (root_ / "in") + " --out " + (root_ / "in/out"));
  EXPECT_EQ(result.status, 1);
  EXPECT_CONTAINS(result.err, "lies inside --folder");
  result = duet("import --folder " + (root_ / "in") + "/ --out " + out());
  EXPECT_EQ(result.status, 0) << result.err;
  const train::Dataset data = train::Dataset::open(out());
  EXPECT_EQ(data.name(), "in");
  EXPECT_EQ(data.labels(), (std::vector<std::string>{"cat", "dog"}));
}

TEST_F(DataCommand, UsageErrors) {
  EXPECT_EQ(duet("import --out " + out()).status, 2);
  EXPECT_EQ(duet("import --csv a --folder b --out " + out()).status, 2);
  EXPECT_EQ(duet("import --folder b --text-column x --out " + out()).status, 2);
  EXPECT_EQ(duet("import --csv a --split-column s --split 1,0,0 --out " + out()).status, 2);
  EXPECT_EQ(duet("openclipart --on-bad-sample maybe --out " + out()).status, 2);
  EXPECT_EQ(duet("wordnet").status, 2);
  EXPECT_EQ(duet("").status, 2);
}

}  // namespace
}  // namespace duet::tools
