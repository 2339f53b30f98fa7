#include <iostream>
#include <map>
#include <memory>
#include <optional>

#include "duet/core/json.h"
#include "duet/models/hub.h"
#include "duet/tools/arguments.h"
#include "duet/tools/commands.h"
#include "duet/train/tokenizer.h"

namespace duet::tools {
namespace {

struct TokenizeArguments {
  std::string model, vocab;
  bool pair = false, lowercase = true, slow = false, offsets = false;
  // Whether the command line says how to cut. If not, the truncation and padding of tokenizer.json count.
  bool cut_given = false;
  train::TruncationOptions cut;
};

const std::map<std::string, train::Truncation> strategies{{"longest_first", train::Truncation::longest_first},
                                                          {"only_first", train::Truncation::only_first},
                                                          {"only_second", train::Truncation::only_second}};
const std::map<std::string, train::Side> sides{{"left", train::Side::left}, {"right", train::Side::right}};

void run_tokenize(const TokenizeArguments& arguments) {
  const auto semantics = arguments.slow ? train::Semantics::slow : train::Semantics::fast;
  train::TokenizerOptions options;
  options.lowercase = arguments.lowercase;
  options.semantics = semantics;
  const auto tokenizer = arguments.model.empty() ? train::Tokenizer::from_vocab_file(arguments.vocab, options)
                                                 : train::Tokenizer::from_directory(
                                                       models::find_model_directory(arguments.model), semantics);
  const auto encode = [&](std::string_view a, std::optional<std::string_view> b) {
    if (!arguments.cut_given) return tokenizer.encode_as_configured(a, b, arguments.offsets);
    return tokenizer.encode_with({.truncation = arguments.cut, .offsets = arguments.offsets}, a, b);
  };
  size_t number = 0;
  for (std::string line; std::getline(std::cin, line);) {
    ++number;
    train::Encoding encoding;
    if (arguments.pair) {
      const size_t tab = line.find('\t');
      check(tab != std::string::npos && line.find('\t', tab + 1) == std::string::npos, "tokenize", "line ", number,
            " of the input: --pair expects two columns with one tab between them");
      const std::string_view columns = line;
      encoding = encode(columns.substr(0, tab), columns.substr(tab + 1));
    } else {
      encoding = encode(line, {});
    }
    Json row{{"ids", encoding.ids}, {"tokens", Json::array()}};
    for (const int32_t id : encoding.ids) row["tokens"].push_back(tokenizer.token(id));
    if (arguments.pair) row["type_ids"] = encoding.type_ids;
    if (!arguments.cut_given && tokenizer.options().padding) row["attention_mask"] = encoding.attention_mask;
    if (arguments.offsets) row["offsets"] = encoding.offsets;
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
  CLI::Option* max_length = command->add_option("--max-length", arguments->cut.max_length,
                                                "Cut to so many tokens, special ones included; 0: never. Without this "
                                                "option, as tokenizer.json says, which may also pad");
  max_length->check(not_negative);
  command->add_option("--truncation", arguments->cut.strategy, "Which text of a pair to cut")
      ->transform(CLI::CheckedTransformer(strategies))
      ->needs(max_length);
  command->add_option("--truncation-side", arguments->cut.side, "Which end to cut off: right (default) or left")
      ->transform(CLI::CheckedTransformer(sides))
      ->needs(max_length);
  command->add_flag("--slow", arguments->slow, "Results of the older Python tokenizer instead of the fast one");
  command->add_flag("--offsets", arguments->offsets, "Add where each token stands in its text, in characters");
  command
      ->add_flag("--lowercase,!--no-lowercase", arguments->lowercase,
                 "With --vocab: whether the vocabulary is lowercase (default)")
      ->excludes(model);
  command->callback([arguments, model, vocab, max_length] {
    if (model->empty() && vocab->empty()) throw CLI::RequiredError("--model or --vocab");
    arguments->cut_given = !max_length->empty();
    run_tokenize(*arguments);
  });
}

}  // namespace duet::tools
