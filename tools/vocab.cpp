#include <chrono>
#include <iomanip>
#include <iostream>
#include <memory>

#include "duet/core/file.h"
#include "duet/core/json.h"
#include "duet/tools/arguments.h"
#include "duet/tools/commands.h"
#include "duet/train/tokenizer.h"
#include "duet/train/wordpiece_trainer.h"

namespace duet::tools {
namespace {

struct VocabArguments {
  std::vector<std::string> data;
  std::string out;
  train::WordPieceTrainerOptions trainer;
};

// The texts of the rows of split "train" in DIR/manifest.jsonl.
std::vector<std::string> training_texts(const std::string& directory) {
  const std::string path = directory + "/manifest.jsonl", bytes = read_file(path);
  std::vector<std::string> texts;
  size_t number = 0;
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t end = std::min(bytes.find('\n', begin), bytes.size());
    const std::string_view line(bytes.data() + begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const Json row = parse_json(line, text(path, ":", number));
    check(row.is_object(), "vocab", path, ":", number, ": a JSON object was expected");
    const auto value = [&](const char* key) {
      const auto at = row.find(key);
      if (at == row.end() || at->is_null()) return std::string();
      check(at->is_string(), "vocab", path, ":", number, ": \"", key, "\" must be a string, it is ", at->dump());
      return at->get<std::string>();
    };
    if (value("split") != "train") continue;
    if (std::string t = value("text"); !t.empty()) texts.push_back(std::move(t));
  }
  return texts;
}

void run_vocab(const VocabArguments& arguments) {
  const auto start = std::chrono::steady_clock::now();
  train::WordPieceTrainer trainer(arguments.trainer);
  size_t total = 0;
  for (const std::string& directory : arguments.data) {
    const std::vector<std::string> texts = training_texts(directory);
    check(!texts.empty(), "vocab", directory, "/manifest.jsonl has no row with a text and split \"train\"");
    for (const std::string& line : texts) trainer.add(line);
    std::cout << "texts         " << texts.size() << " from " << directory << '\n';
    total += texts.size();
  }
  train::TokenizerOptions options;
  options.lowercase = arguments.trainer.basic.lowercase;
  const auto tokenizer = train::Tokenizer::from_vocab(trainer.train(), options);

  // Coverage, weighing each word by how often it occurs.
  int64_t words = 0, whole = 0, pieces = 0, unknown = 0;
  for (const auto& [word, count] : trainer.word_counts()) {
    const std::vector<int32_t> ids = tokenizer.ids(word);
    words += count;
    pieces += count * static_cast<int64_t>(ids.size());
    if (ids == std::vector{tokenizer.unk_id()})
      unknown += count;
    else if (ids.size() == 1)
      whole += count;
  }
  tokenizer.save_vocab(arguments.out);
  const auto percent = [&](int64_t n) { return 100.0 * static_cast<double>(n) / static_cast<double>(words); };
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::cout << std::fixed << "words         " << words << " in " << total << " texts, " << trainer.word_counts().size()
            << " different\n"
            << "vocabulary    " << tokenizer.size() << " tokens"
            << (tokenizer.size() < arguments.trainer.vocab_size ? " (no pair is frequent enough for more)" : "") << '\n'
            << std::setprecision(2) << "whole words   " << percent(whole) << " %\n"
            << "unknown words " << std::setprecision(4) << percent(unknown) << " %\n"
            << "tokens a word " << std::setprecision(3) << static_cast<double>(pieces) / static_cast<double>(words)
            << '\n'
            << "seconds       " << seconds.count() << '\n'
            << "written to    " << arguments.out << '\n';
}

}  // namespace

void add_vocab_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("vocab", "Learn a WordPiece vocabulary from the training texts of datasets");
  auto arguments = std::make_shared<VocabArguments>();
  train::WordPieceTrainerOptions& trainer = arguments->trainer;
  command->add_option("--data", arguments->data, "Dataset directories (manifest.jsonl inside)")->required();
  command->add_option("--out", arguments->out, "File to write, one token a line")->required();
  command->add_option("--vocab-size", trainer.vocab_size, "Tokens, the five special ones included")
      ->check(positive)
      ->capture_default_str();
  command->add_option("--min-frequency", trainer.min_frequency, "How often a character or a merged pair must occur")
      ->check(positive)
      ->capture_default_str();
  command->add_option("--alphabet-limit", trainer.alphabet_limit, "Keep at most so many different characters")
      ->check(positive)
      ->capture_default_str();
  command->add_flag("--lowercase,!--no-lowercase", trainer.basic.lowercase,
                    "Lowercase and strip accents (default), or keep both; the tokenizer must be told the same");
  command->callback([arguments] { run_vocab(*arguments); });
}

}  // namespace duet::tools
