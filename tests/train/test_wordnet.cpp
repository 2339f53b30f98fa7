#include "duet/train/wordnet.h"

#include <gtest/gtest.h>

#include <map>

#include "duet/core/file.h"
#include "duet/tests/real_data.h"
#include "duet/tests/train/expect.h"

namespace duet::train {
namespace {

// A tree with one good entry in each part, some of which `noun` replaces.
void write_tree(const TemporaryDirectory& root, const std::string& noun) {
  write_file_atomically(root / "data.noun", "  1 This is the licence | not an entry; \n" + noun);
  write_file_atomically(root / "data.verb", "00001740 29 v 01 breathe 0 000 01 + 02 00 | draw air into the lungs  \n");
  write_file_atomically(root / "data.adj",
                        "00002730 44 a 02 galore(ip) 0 a_la_mode(a) 0 000 | in great numbers; \"daisies galore\"  \n");
  write_file_atomically(root / "data.adv", "00001837 02 r 01 a_(b)_cappella 0 000 | the so-called \"quoted\" thing\n");
}

TEST(WordNet, MakesARowOfEachEntry) {
  const TemporaryDirectory root;
  write_tree(root,
             "00015388 05 n 0c animal 0 animate_being 0 beast 0 c4 0 c5 0 c6 0 c7 0 c8 0 c9 0 c10 0 c11 0 c12 0 001 @ "
             "00004475 n 0000 | a living organism; with movement  \n");
  const auto rows = read_wordnet(root.path());
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0].id, "noun-00015388");
  EXPECT_EQ(rows[0].text, "animal, animate being, beast, c4, c5, c6, c7, c8, c9, c10, c11, c12 : a living organism");
  EXPECT_EQ(rows[0].label, "noun.animal");
  EXPECT_EQ(rows[1].text, "breathe : draw air into the lungs");
  EXPECT_EQ(rows[1].label, "verb.body");
  EXPECT_EQ(rows[2].text, "galore, a la mode : in great numbers");  // markers dropped, gloss cut at the semicolon
  EXPECT_EQ(rows[2].label, "adj.ppl");
  EXPECT_EQ(rows[3].text, "a (b) cappella : the so-called");  // brackets inside a word stay; cut at the quotation mark
  EXPECT_EQ(rows[3].id, "adv-00001837");
}

TEST(WordNet, NamesTheLineOfABadEntry) {
  const TemporaryDirectory root;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"00015388 05 n 01 animal 0 000 no gloss\n", "no gloss"},
      {"00015388 45 n 01 animal 0 000 | x\n", "lexicographer file 45"},
      {"00015388 05 n zz animal 0 000 | x\n", "\"zz\" is no number in base 16"},
      {"00015388 05 n 09 animal 0 000 | x\n", "9 words"},
      {"00015388 05 | x\n", "four fields"}};
  for (const auto& [noun, reason] : cases) {
    write_tree(root, noun);
    const std::string message = message_of([&] { read_wordnet(root.path()); });
    EXPECT_CONTAINS(message, root / "data.noun:2");
    EXPECT_CONTAINS(message, reason);
  }
}

TEST(WordNet, NamesThePackage) {
  const std::string message = message_of([] { read_wordnet("/nonexistent"); });
  EXPECT_CONTAINS(message, "/nonexistent/data.noun");
  EXPECT_CONTAINS(message, "apt install wordnet-base");
}

TEST(WordNetPackage, GivesTheKnownRows) {
  if (!testing::has_real_data({"/usr/share/wordnet/data.noun"})) return;
  const auto rows = read_wordnet();
  EXPECT_EQ(rows.size(), 117659u);
  std::map<std::string, int> splits, labels;
  for (const SourceRow& r : rows) ++splits[r.split], ++labels[r.label];
  EXPECT_EQ(splits, (std::map<std::string, int>{{"train", 115329}, {"val", 1159}, {"test", 1171}}));
  EXPECT_EQ(labels.size(), 45u);
  EXPECT_EQ(labels["noun.motive"], 42);
  EXPECT_EQ(rows_checksum(rows), "74caaeaafd3c0acaf7a0568f86a52b6462397c5d2ae15be4be9eacf4cf6e1619");
}

}  // namespace
}  // namespace duet::train
