#include "duet/train/openclipart.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <map>

#include "duet/core/file.h"
#include "duet/core/hash.h"
#include "duet/tests/real_data.h"
#include "duet/tests/train/expect.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

class OpenclipartTest : public ::testing::Test {
 protected:
  OpenclipartTest() {
    make_directories(root_ / "svg");
    make_directories(root_ / "png");
  }

  void add_svg(const std::string& path, const std::string& content, bool twin = true) {
    for (const char* part : {"svg/", "png/"}) make_directories(fs::path(root_ / (part + path)).parent_path().string());
    write_file_atomically(root_ / ("svg/" + path + ".svg"), content);
    if (twin) write_file_atomically(root_ / ("png/" + path + ".png"), "pixels");
  }
  void add(const std::string& path, const std::string& title, const std::string& description = "") {
    add_svg(path, "<svg><metadata id=\"m\">\n<dc:title>" + title + "</dc:title><dc:description>" + description +
                      "</dc:description><dc:subject>secret</dc:subject></metadata><dc:title>late</dc:title></svg>");
  }
  Openclipart read() { return read_openclipart(root_.path()); }
  std::string text_of_only_row() {
    const Openclipart data = read();
    EXPECT_EQ(data.labelled.size(), 1u);
    return data.labelled.at(0).text;
  }
  // Some series name that belongs to `split`.
  static std::string series_in(const std::string& split) {
    for (char a = 'a'; a <= 'z'; ++a)
      for (char b = 'a'; b <= 'z'; ++b) {
        const std::string name{a, b};
        const uint64_t bucket = fnv1a64(name) % 100;
        if (split == (bucket < 70 ? "train" : bucket < 80 ? "val" : "test")) return name;
      }
    return "";
  }

  TemporaryDirectory root_;
};

TEST_F(OpenclipartTest, FillsARow) {
  add("animals/birds/owl", "Snowy Owl", "An owl.");
  const Openclipart data = read();
  ASSERT_EQ(data.labelled.size(), 1u);
  const SourceRow& row = data.labelled[0];
  EXPECT_EQ(row.id, "animals/birds/owl");
  EXPECT_EQ(row.text, "Snowy Owl. An owl");
  EXPECT_EQ(row.label, "animals");
  EXPECT_EQ(row.image, "images/animals/birds/owl.png");
  EXPECT_EQ(row.source, root_ / "png/animals/birds/owl.png");
  EXPECT_EQ(row.split, "train");  // FNV-1a of "snowy owl" is 3 modulo 100
}

TEST_F(OpenclipartTest, CleansTexts) {
  const std::vector<std::array<std::string, 3>> cases = {
      {"Cat &amp;amp; dog", "", "Cat & dog"},
      {"L&amp;Atilde;&amp;copy;zard", "", "Lézard"},
      {"L\xC3\x83\xC2\xA9zard", "", "Lézard"},
      {"caf\xE9", "", "caf\uFFFD"},
      {"  a\r\n\tb ... ", " c . ", "a b. c"},
      {"", "only this", "only this"},
      {"Clipart by Nicu Buculei - baloon1", "", "baloon1"},
      {"My Clipart by Nicu Buculei - x", "", "My Clipart by Nicu Buculei - x"},
      {"a <b>bold</b> title", "d", "d"},
      {" . ", "...", ""}};
  for (const auto& [title, description, expected] : cases) {
    add("food/x", title, description);
    EXPECT_EQ(text_of_only_row(), expected) << title;
  }
}

TEST_F(OpenclipartTest, FindsTheFields) {
  for (const std::string metadata :
       {"<metadata><dc:title/><dc:title id='1'>t</dc:title></metadata>",
        "<metadata\n><dc:title>t</dc:title></metadata>",
        "<metadata><dc:title>t</dc:title><dc:description>unfinished</metadata>",
        "<metadata><dc:title>t</dc:title></metadata><metadata><dc:description>second</dc:description></metadata>"}) {
    add_svg("food/x", metadata);
    EXPECT_EQ(text_of_only_row(), "t") << metadata;
  }
  for (const std::string metadata : {"<svg/>", "<metadata><dc:title>never closed", "", "<metadata><dc:title"}) {
    add_svg("food/x", metadata);
    EXPECT_EQ(text_of_only_row(), "") << metadata;
  }
}

TEST_F(OpenclipartTest, LeavesOutOtherFoldersAndMissingTwins) {
  add("food/apple", "apple");
  add("unsorted/pear", "pear");
  add_svg("food/alone", "<metadata><dc:title>alone</dc:title></metadata>", false);
  write_file_atomically(root_ / "svg/food/notes.txt", "no drawing");
  const Openclipart data = read();
  ASSERT_EQ(data.labelled.size(), 1u);
  EXPECT_EQ(data.labelled[0].id, "food/apple");
}

TEST_F(OpenclipartTest, KeepsFiveOfASeriesInByteOrder) {
  for (const std::string name : {"a-1", "B_2", "a.3", "a/4", "c5", "d6", "e7"})
    add("tools/" + name, std::string("Hammer #(") + name.back() + ")-_");
  add("office/hammer", "HAMMER");  // the same series under another label counts for itself
  add("tools/é", "Hämmer 1");
  add("tools/è", "HÄMMER 2");
  std::vector<std::string> ids;
  const Openclipart data = read();
  for (const SourceRow& r : data.labelled) {
    ids.push_back(r.id);
  }
  EXPECT_EQ(ids, (std::vector<std::string>{"office/hammer", "tools/B_2", "tools/a-1", "tools/a.3", "tools/a/4",
                                           "tools/c5", "tools/è", "tools/é"}));
  ASSERT_EQ(data.labelled.size(), 8u);
  EXPECT_EQ(data.labelled[6].split, data.labelled[7].split);
}

TEST_F(OpenclipartTest, RowsWithoutTitleAreTheirOwnSeries) {
  for (int i = 0; i < 7; ++i) add("shapes/" + std::to_string(i), i % 2 ? "123 (4)" : "");
  const Openclipart data = read();
  ASSERT_EQ(data.labelled.size(), 7u);
  EXPECT_EQ(data.labelled[1].text, "123 (4)");
  const uint64_t bucket = fnv1a64("shapes/1.svg") % 100;
  EXPECT_EQ(data.labelled[1].split, bucket < 70 ? "train" : bucket < 80 ? "val" : "test");
}

TEST_F(OpenclipartTest, UnlabelledPairsNeverTouchSeriesOfValOrTest) {
  const std::string train = series_in("train"), val = series_in("val"), test = series_in("test");
  for (const std::string& series : {train, val, test}) {
    for (int i = 0; i < 7; ++i) add("food/" + series + std::to_string(i), series + " " + std::to_string(i));
    add("unsorted/" + series, series);
  }
  add("food/silent", "");
  std::map<std::string, int> counts;
  const Openclipart data = read();
  for (const SourceRow& r : data.unlabelled) {
    EXPECT_EQ(r.label, "");
    EXPECT_FALSE(r.text.empty());
    ++counts[r.split + " " + r.text.substr(0, 2)];
  }
  // All eight of train; of val the five rows of the task; nothing of test.
  EXPECT_EQ(counts, (std::map<std::string, int>{{"train " + train, 8}, {"val " + val, 5}}));
}

TEST_F(OpenclipartTest, NamesThePackages) {
  fs::remove_all(root_ / "png");
  const std::string message = message_of([&] { read(); });
  EXPECT_CONTAINS(message, root_ / "png");
  EXPECT_CONTAINS(message, "apt install openclipart-svg openclipart-png");
  make_directories(root_ / "png");
  EXPECT_CONTAINS(message_of([&] { read(); }), "no drawing");
}

TEST(OpenclipartPackage, GivesTheKnownRows) {
  if (!testing::has_real_data({"/usr/share/openclipart/svg", "/usr/share/openclipart/png"})) return;
  const Openclipart data = read_openclipart();
  EXPECT_EQ(data.labelled.size(), 3635u);
  std::map<std::string, int> splits, labels;
  for (const SourceRow& r : data.labelled) ++splits[r.split], ++labels[r.label];
  EXPECT_EQ(splits, (std::map<std::string, int>{{"train", 2540}, {"val", 362}, {"test", 733}}));
  EXPECT_EQ(labels.size(), openclipart_labels().size());
  EXPECT_EQ(labels["signs_and_symbols"], 913);
  EXPECT_EQ(labels["electronics"], 42);
  EXPECT_EQ(rows_checksum(data.labelled), "ee577ce6d17b35f3dd3cb0f7ed84351b90a766c67558a1c1652686c2ac7695e2");
  EXPECT_EQ(data.unlabelled.size(), 6472u);
  EXPECT_EQ(rows_checksum(data.unlabelled), "3b48c3c6f220a9e4738451ab6bb46f8cef4eba08388990f766d232e9db2947bd");
}

}  // namespace
}  // namespace duet::train
