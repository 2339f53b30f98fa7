#include <iostream>
#include <memory>

#include "duet/core/json.h"
#include "duet/models/hub.h"
#include "duet/tools/arguments.h"
#include "duet/tools/commands.h"
#include "duet/train/tokenizer.h"

namespace duet::tools {
namespace {

struct TokenizeArguments {
  std::string model, vocab;
  bool pair = false, lowercase = true;
  int64_t max_length = 0;
};

void run_tokenize(const TokenizeArguments& arguments) {
  train::TokenizerOptions options;
  options.lowercase = arguments.lowercase;
  const auto tokenizer = arguments.model.empty()
                             ? train::Tokenizer::from_vocab_file(arguments.vocab, options)
                             : train::Tokenizer::from_directory(models::find_model_directory(arguments.model));
  size_t number = 0;
  for (std::string line; std::getline(std::cin, line);) {
    ++number;
    train::Encoding encoding;
    if (arguments.pair) {
      const size_t tab = line.find('\t');
      check(tab != std::string::npos && line.find('\t', tab + 1) == std::string::npos, "tokenize", "line ", number,
            " of the input: --pair expects two columns with one tab between them");
      const std::string_view columns = line;
      encoding = tokenizer.encode_pair(columns.substr(0, tab), columns.substr(tab + 1), arguments.max_length);
    } else {
      encoding = tokenizer.encode(line, arguments.max_length);
    }
    Json row{{"ids", encoding.ids}, {"tokens", Json::array()}};
    for (const int32_t id : encoding.ids) row["tokens"].push_back(tokenizer.token(id));
    if (arguments.pair) row["type_ids"] = encoding.type_ids;
    std::cout << row.dump() << '\n';
    check(std::cout.good(), "tokenize", "cannot write the result of line ", number, " to standard output");
  }
  std::cout.flush();
  check(std::cout.good(), "tokenize", "cannot write to standard output");
}

}  // namespace

void add_tokenize_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("tokenize", "Turn lines of standard input into token ids, one JSON object each");
  auto arguments = std::make_shared<TokenizeArguments>();
  CLI::Option* model =
      command->add_option("--model", arguments->model, "Model directory with vocab.txt or tokenizer.json");
  CLI::Option* vocab = command->add_option("--vocab", arguments->vocab, "Vocabulary file, one token a line");
  model->excludes(vocab);
  command->add_flag("--pair", arguments->pair, "Each line holds two texts with a tab between them");
  command->add_option("--max-length", arguments->max_length, "Cut to so many tokens, special ones included; 0: never")
      ->check(not_negative)
      ->capture_default_str();
  command
      ->add_flag("--lowercase,!--no-lowercase", arguments->lowercase,
                 "With --vocab: whether the vocabulary is lowercase (default)")
      ->excludes(model);
  command->callback([arguments, model, vocab] {
    if (model->empty() && vocab->empty()) throw CLI::RequiredError("--model or --vocab");
    run_tokenize(*arguments);
  });
}

}  // namespace duet::tools
