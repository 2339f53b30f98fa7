#include "duet/train/wordnet.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "duet/core/file.h"
#include "duet/core/hash.h"
#include "duet/train/markup.h"
#include "duet/train/unicode.h"

namespace duet::train {
namespace {

std::vector<std::string_view> split_fields(std::string_view line) {
  std::vector<std::string_view> fields;
  for (size_t begin; (begin = line.find_first_not_of(" \t\r")) != line.npos;) {
    line.remove_prefix(begin);
    const size_t end = std::min(line.find_first_of(" \t\r"), line.size());
    fields.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
  return fields;
}

size_t parse_count(std::string_view digits, int base, const std::string& where) {
  size_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  check(error == std::errc() && end == digits.data() + digits.size(), "wordnet", where, ": \"", digits,
        "\" is no number in base ", base);
  return value;
}

// "galore(ip)" is "galore" where only the position is remarked on; underscores join the words of a phrase.
std::string plain_word(std::string_view word) {
  if (word.ends_with(')')) word = word.substr(0, word.find('('));
  std::string plain(word);
  std::replace(plain.begin(), plain.end(), '_', ' ');
  return plain;
}

// offset lexicographer-file part word-count (word lexical-id)... pointers " | " gloss
SourceRow parse_entry(std::string_view line, const std::string& part, const std::string& where) {
  const size_t bar = line.find(" | ");
  check(bar != line.npos, "wordnet", where, ": there is no gloss after \" | \"");
  const std::vector<std::string_view> fields = split_fields(line.substr(0, bar));
  check(fields.size() >= 4, "wordnet", where, ": an entry begins with four fields, this one has ", fields.size());
  const size_t file = parse_count(fields[1], 10, where), words = parse_count(fields[3], 16, where);
  check(file < wordnet_labels().size(), "wordnet", where, ": lexicographer file ", file, " is unknown; the last is ",
        wordnet_labels().size() - 1);
  check(words > 0 && 4 + 2 * words <= fields.size(), "wordnet", where, ": ", words, " words are announced, ",
        fields.size() - 4, " fields follow");
  SourceRow row{.id = part + "-" + std::string(fields[0]), .label = wordnet_labels()[file]};
  for (size_t i = 0; i < words; ++i) row.text += (i ? ", " : "") + plain_word(fields[4 + 2 * i]);
  const std::string_view gloss = line.substr(bar + 3);
  row.text += " : " + fold_white_space(gloss.substr(0, gloss.find_first_of(";\"")));
  const uint64_t bucket = fnv1a64(row.id) % 100;
  row.split = bucket < 98 ? "train" : bucket < 99 ? "val" : "test";
  return row;
}

}  // namespace

const std::vector<std::string>& wordnet_labels() {
  static const std::vector<std::string> labels = {"adj.all",          "adj.pert",           "adv.all",
                                                  "noun.Tops",        "noun.act",           "noun.animal",
                                                  "noun.artifact",    "noun.attribute",     "noun.body",
                                                  "noun.cognition",   "noun.communication", "noun.event",
                                                  "noun.feeling",     "noun.food",          "noun.group",
                                                  "noun.location",    "noun.motive",        "noun.object",
                                                  "noun.person",      "noun.phenomenon",    "noun.plant",
                                                  "noun.possession",  "noun.process",       "noun.quantity",
                                                  "noun.relation",    "noun.shape",         "noun.state",
                                                  "noun.substance",   "noun.time",          "verb.body",
                                                  "verb.change",      "verb.cognition",     "verb.communication",
                                                  "verb.competition", "verb.consumption",   "verb.contact",
                                                  "verb.creation",    "verb.emotion",       "verb.motion",
                                                  "verb.perception",  "verb.possession",    "verb.social",
                                                  "verb.stative",     "verb.weather",       "adj.ppl"};
  return labels;
}

std::vector<SourceRow> read_wordnet(const std::string& root) {
  std::vector<SourceRow> rows;
  for (const std::string part : {"noun", "verb", "adj", "adv"}) {
    const std::string path = root + "/data." + part;
    check(std::filesystem::exists(path), "wordnet", path,
          " is missing; install it with `apt install wordnet-base`, or name its place with --source");
    const std::string bytes = read_file(path);
    check(unicode::is_valid_utf8(bytes), "wordnet", path, " is not UTF-8");
    size_t number = 0;
    for (size_t begin = 0; begin < bytes.size();) {
      const size_t end = std::min(bytes.find('\n', begin), bytes.size());
      const std::string_view line(bytes.data() + begin, end - begin);
      begin = end + 1;
      ++number;
      if (!line.starts_with("  "))
        rows.push_back(parse_entry(line, part, text(path, ":", number)));  // else the licence
    }
  }
  return rows;
}

}  // namespace duet::train
