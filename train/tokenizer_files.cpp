#include <algorithm>
#include <filesystem>
#include <set>

#include "duet/core/file.h"
#include "duet/core/json.h"
#include "duet/train/tokenizer.h"

// Tokenizer directories in the Hugging Face layout: vocab.txt + tokenizer_config.json, or tokenizer.json, which holds
// the whole pipeline. A pipeline that is not BERT's is refused by the name of the differing part.
namespace duet::train {
namespace {

// Tokens are stored as a string or as an object with "content".
std::string token_text(const Json& value, const std::string& fallback) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_object() ? json_get(value, "content", fallback) : fallback;
}

// The member, or null when there is none.
const Json& member(const Json& object, const std::string& key) {
  static const Json absent;
  const auto at = object.find(key);
  return at == object.end() ? absent : *at;
}

void check_type(const Json& part, const std::string& name, const std::set<std::string>& known,
                const std::string& path) {
  const std::string type = part.is_object() ? json_get<std::string>(part, "type", "") : "none";
  check(known.contains(type), "tokenizer", path, ": ", name, " \"", type, "\" is not BERT's (", *known.rbegin(),
        "); only BERT WordPiece tokenizers are supported");
}

void apply_config(const Json& config, const std::string& path, bool have_pipeline, TokenizerOptions& options) {
  const std::string type = json_get<std::string>(config, "tokenizer_class", "BertTokenizer");
  static const std::set<std::string> families{"Bert", "DistilBert", "Electra", "MobileBert"};
  const std::string family = type.substr(0, type.find("Tokenizer"));
  // The last two classes say nothing about the pipeline, which then stands in tokenizer.json.
  check(families.contains(family) ||
            (have_pipeline && (type == "PreTrainedTokenizerFast" || type == "TokenizersBackend")),
        "tokenizer", path, ": tokenizer_class ", type, " is not supported; BERT WordPiece tokenizers are");
  options.lowercase = json_get(config, "do_lower_case", options.lowercase);
  if (!member(config, "strip_accents").is_null()) options.strip_accents = json_get(config, "strip_accents", true);
  options.tokenize_chinese_chars = json_get(config, "tokenize_chinese_chars", options.tokenize_chinese_chars);
  options.pad_token = token_text(member(config, "pad_token"), options.pad_token);
  options.unk_token = token_text(member(config, "unk_token"), options.unk_token);
  options.cls_token = token_text(member(config, "cls_token"), options.cls_token);
  options.sep_token = token_text(member(config, "sep_token"), options.sep_token);
  options.mask_token = token_text(member(config, "mask_token"), options.mask_token);
}

std::vector<std::string> read_pipeline(const std::string& path, TokenizerOptions& options) {
  const Json file = read_json(path);
  const Json &normalizer = member(file, "normalizer"), &model = member(file, "model");
  check_type(normalizer, "normalizer", {"BertNormalizer"}, path);
  check_type(member(file, "pre_tokenizer"), "pre_tokenizer", {"BertPreTokenizer"}, path);
  check_type(member(file, "post_processor"), "post_processor", {"BertProcessing", "TemplateProcessing"}, path);
  check(member(model, "vocab").is_object(), "tokenizer", path, ": model.vocab is missing");
  const std::string model_type = json_get<std::string>(model, "type", "WordPiece");
  check(model_type == "WordPiece", "tokenizer", path, ": model \"", model_type, "\" is not supported, WordPiece is");
  const std::string prefix = json_get<std::string>(model, "continuing_subword_prefix", "##");
  check(prefix == "##", "tokenizer", path, ": continuing_subword_prefix \"", prefix, "\" is not supported, \"##\" is");
  check(json_get(normalizer, "clean_text", true), "tokenizer", path, ": clean_text = false is not supported");

  options.lowercase = json_get(normalizer, "lowercase", true);
  if (!member(normalizer, "strip_accents").is_null())
    options.strip_accents = json_get(normalizer, "strip_accents", true);
  options.tokenize_chinese_chars = json_get(normalizer, "handle_chinese_chars", true);
  options.unk_token = json_get(model, "unk_token", options.unk_token);
  options.max_input_chars_per_word = json_get(model, "max_input_chars_per_word", options.max_input_chars_per_word);

  std::vector<std::string> tokens;
  std::vector<bool> taken;
  const auto place = [&](const std::string& token, int64_t id) {
    check(id >= 0 && id < (1 << 30), "tokenizer", path, ": id ", id, " of token \"", token, "\" is out of range");
    const auto at = static_cast<size_t>(id);
    if (at >= tokens.size()) {
      tokens.resize(at + 1);
      taken.resize(at + 1);
    }
    check(!taken[at] || tokens[at] == token, "tokenizer", path, ": tokens \"", tokens[at], "\" and \"", token,
          "\" share id ", id);
    tokens[at] = token;
    taken[at] = true;
  };
  for (const auto& [token, id] : member(model, "vocab").items()) {
    check(id.is_number_integer(), "tokenizer", path, ": the id of token \"", token, "\" is not an integer");
    place(token, id.get<int64_t>());
  }
  for (const Json& added : member(file, "added_tokens")) {
    const std::string token = json_get<std::string>(added, "content", "");
    for (const char* flag : {"normalized", "single_word", "lstrip", "rstrip"})
      check(!json_get(added, flag, false), "tokenizer", path, ": added token \"", token, "\" has ", flag,
            " = true, which is not supported");
    place(token, json_get<int64_t>(added, "id", -1));
    options.additional_special_tokens.push_back(token);
  }
  const auto hole = std::find(taken.begin(), taken.end(), false);
  check(hole == taken.end(), "tokenizer", path, ": no token has id ", hole - taken.begin());
  return tokens;
}

}  // namespace

Tokenizer Tokenizer::from_directory(const std::string& directory) {
  const std::string config_path = directory + "/tokenizer_config.json", pipeline = directory + "/tokenizer.json",
                    vocabulary = directory + "/vocab.txt";
  const bool have_pipeline = std::filesystem::exists(pipeline);
  check(have_pipeline || std::filesystem::exists(vocabulary), "tokenizer", directory,
        " has neither tokenizer.json nor vocab.txt");
  TokenizerOptions options;
  std::vector<std::string> tokens;
  if (have_pipeline) tokens = read_pipeline(pipeline, options);
  // Where both files speak, tokenizer_config.json wins, as it does when Transformers loads a BertTokenizer.
  if (std::filesystem::exists(config_path)) apply_config(read_json(config_path), config_path, have_pipeline, options);
  return have_pipeline ? from_vocab(std::move(tokens), options, pipeline) : from_vocab_file(vocabulary, options);
}

void Tokenizer::save(const std::string& directory, int64_t max_length) const {
  save_vocab(directory + "/vocab.txt");
  Json config{{"tokenizer_class", "BertTokenizer"},
              {"do_lower_case", options_.lowercase},
              {"strip_accents", options_.strip_accents ? Json(*options_.strip_accents) : Json()},
              {"tokenize_chinese_chars", options_.tokenize_chinese_chars},
              {"pad_token", options_.pad_token},
              {"unk_token", options_.unk_token},
              {"cls_token", options_.cls_token},
              {"sep_token", options_.sep_token},
              {"mask_token", options_.mask_token}};
  if (max_length > 0) config["model_max_length"] = max_length;
  write_file_atomically(directory + "/tokenizer_config.json", config.dump(2) + "\n");
}

}  // namespace duet::train
