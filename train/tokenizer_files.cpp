#include <algorithm>
#include <filesystem>
#include <limits>
#include <set>

#include "duet/core/file.h"
#include "duet/train/tokenizer.h"
#include "duet/train/tokenizer_reader.h"

// Reading tokenizers in the Hugging Face layout: vocab.txt, or tokenizer.json, which holds the whole pipeline, with
// tokenizer_config.json. A pipeline that is not BERT's is refused by the name of the differing part.
namespace duet::train {
namespace {

using tokenizer_files::most_ids;
using tokenizer_files::Object;
using tokenizer_files::Reader;
using tokenizer_files::Vocabulary;
using Kind = TemplatePiece::Kind;

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    while (line.ends_with('\r')) line.remove_suffix(1);
    lines.emplace_back(line);
    begin = end + 1;
  }
  return lines;
}

void read_normalizer(const Reader& read, const Object& part, TokenizerOptions& options) {
  read.type(part, "normalizer", {"BertNormalizer"});
  options.clean_text = read.boolean(part, "clean_text", true);
  options.lowercase = read.boolean(part, "lowercase", true);
  options.tokenize_chinese_chars = read.boolean(part, "handle_chinese_chars", true);
  if (!read.member(part, "strip_accents").is_null()) options.strip_accents = read.boolean(part, "strip_accents", true);
}

// A special token of a post-processor under its name and its id there, which must be that of the vocabulary.
struct NamedId {
  std::string token;
  int64_t id;
};

std::vector<TemplatePiece> read_template(const Reader& read, const Object& post, const std::string& which,
                                         std::vector<NamedId>& used) {
  const Object& given = read.member(post, which);
  check(given.is_array() && given.size() <= 1000, "tokenizer", read.source, ": post_processor.", which,
        " must be a list of at most 1000 parts, not ", Reader::shown(given));
  std::vector<TemplatePiece> pieces;
  for (const Object& entry : given) {
    const Object &special = read.member(entry, "SpecialToken"), &sequence = read.member(entry, "Sequence");
    check(special.is_object() != sequence.is_object(), "tokenizer", read.source, ": post_processor.", which,
          " has a part that is neither SpecialToken nor Sequence: ", Reader::shown(entry));
    const Object& part = special.is_object() ? special : sequence;
    TemplatePiece piece;
    const std::string id = read.string(part, "id", "");
    piece.type_id = static_cast<int32_t>(read.integer(part, "type_id", 0, 0, std::numeric_limits<int32_t>::max()));
    if (sequence.is_object()) {
      check(id == "A" || id == "B", "tokenizer", read.source, ": post_processor.", which, " has Sequence \"", id,
            "\"; A and B are possible");
      piece.kind = id == "A" ? Kind::a : Kind::b;
    } else {
      const Object& token = read.member(read.member(post, "special_tokens"), id);
      const Object &ids = read.member(token, "ids"), &tokens = read.member(token, "tokens");
      check(ids.is_array() && tokens.is_array() && ids.size() == tokens.size() && ids.size() <= 1000, "tokenizer",
            read.source, ": post_processor.special_tokens lacks \"", id, "\" with as many ids as tokens");
      for (size_t i = 0; i < ids.size(); ++i) {
        check(tokens[i].is_string(), "tokenizer", read.source, ": the tokens of special token \"", id,
              "\" must be strings");
        piece.tokens.push_back(tokens[i].get<std::string>());
        used.push_back(
            {piece.tokens.back(), read.integer(ids[i], "the id of special token \"" + id + "\"", 0, most_ids)});
      }
    }
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

// Whether the parts are BERT's own; cls and sep are then their special tokens.
bool is_bert_template(const std::vector<TemplatePiece>& pieces, bool pair, std::string& cls, std::string& sep) {
  static const std::vector<std::pair<Kind, int32_t>> shape{
      {Kind::special, 0}, {Kind::a, 0}, {Kind::special, 0}, {Kind::b, 1}, {Kind::special, 1}};
  if (pieces.size() != (pair ? 5u : 3u)) return false;
  for (size_t i = 0; i < pieces.size(); ++i)
    if (pieces[i].kind != shape[i].first || pieces[i].type_id != shape[i].second ||
        (pieces[i].kind == Kind::special && pieces[i].tokens.size() != 1))
      return false;
  cls = pieces[0].tokens[0];
  sep = pieces[2].tokens[0];
  return !pair || pieces[4].tokens[0] == sep;
}

std::vector<NamedId> read_post_processor(const Reader& read, const Object& post, TokenizerOptions& options) {
  std::vector<NamedId> used;
  if (read.type(post, "post_processor", {"TemplateProcessing", "BertProcessing"}) == "BertProcessing") {
    for (const auto& [key, name] : {std::pair{"sep", &options.sep_token}, {"cls", &options.cls_token}}) {
      const Object& token = read.member(post, key);
      check(token.is_array() && token.size() == 2 && token[0].is_string(), "tokenizer", read.source,
            ": post_processor.", key, " must be a token and its id, not ", Reader::shown(token));
      *name = token[0].get<std::string>();
      used.push_back({*name, read.integer(token[1], std::string("the id in post_processor.") + key, 0, most_ids)});
    }
    return used;
  }
  auto single = read_template(read, post, "single", used), pair = read_template(read, post, "pair", used);
  std::string cls, sep, pair_cls, pair_sep;
  if (is_bert_template(single, false, cls, sep) && is_bert_template(pair, true, pair_cls, pair_sep) &&
      cls == pair_cls && sep == pair_sep) {
    options.cls_token = cls;
    options.sep_token = sep;
  } else {
    options.single_template = std::move(single);
    options.pair_template = std::move(pair);
    check(!options.single_template.empty() && !options.pair_template.empty(), "tokenizer", read.source,
          ": the template of post_processor is empty");
  }
  return used;
}

void read_truncation(const Reader& read, const Object& part, TokenizerOptions& options) {
  if (part.is_null()) return;
  TruncationOptions& t = options.truncation.emplace();
  t.max_length =
      read.integer(read.member(part, "max_length"), "truncation.max_length", 1, std::numeric_limits<int64_t>::max());
  t.side = read.side(part, "direction", Side::right);
  const int64_t stride = read.integer(part, "stride", 0, 0, std::numeric_limits<int64_t>::max());
  check(stride == 0, "tokenizer", read.source, ": truncation.stride ", stride,
        " is not supported, 0 is: what is cut off is not kept in further pieces");
  const std::string strategy = read.string(part, "strategy", "LongestFirst");
  static const std::vector<std::string> names{"LongestFirst", "OnlyFirst", "OnlySecond"};
  const auto at = std::find(names.begin(), names.end(), strategy);
  check(at != names.end(), "tokenizer", read.source, ": truncation.strategy \"", strategy,
        "\" is not supported; LongestFirst, OnlyFirst and OnlySecond are");
  t.strategy = static_cast<Truncation>(at - names.begin());
}

void read_padding(const Reader& read, const Object& part, Vocabulary& vocabulary, TokenizerOptions& options) {
  if (part.is_null()) return;
  constexpr int64_t longest = 1 << 20;
  PaddingOptions& p = options.padding.emplace();
  const Object& strategy = read.member(part, "strategy");
  if (!(strategy.is_string() && strategy == "BatchLongest"))
    p.length = read.integer(read.member(strategy, "Fixed"), "padding.strategy, unless \"BatchLongest\", {\"Fixed\"}", 1,
                            longest);
  p.multiple_of = read.integer(part, "pad_to_multiple_of", 0, 0, longest);
  p.side = read.side(part, "direction", Side::right);
  p.type_id = static_cast<int32_t>(read.integer(part, "pad_type_id", 0, 0, std::numeric_limits<int32_t>::max()));
  p.id = static_cast<int32_t>(read.integer(part, "pad_id", -1, 0, most_ids));
  options.pad_token = read.string(part, "pad_token", options.pad_token);
  if (p.id >= 0) vocabulary.add(options.pad_token, p.id, true);
}

void read_pipeline(const Reader& read, const Object& file, Vocabulary& vocabulary, TokenizerOptions& options) {
  check(file.is_object(), "tokenizer", read.source, " is not a JSON object");
  const std::string version = read.string(file, "version", "none");
  check(version == "1.0", "tokenizer", read.source, ": version \"", version, "\" is not supported, \"1.0\" is");
  const Object& model = read.member(file, "model");
  read_normalizer(read, read.member(file, "normalizer"), options);
  read.type(read.member(file, "pre_tokenizer"), "pre_tokenizer", {"BertPreTokenizer"});
  const std::vector<NamedId> used = read_post_processor(read, read.member(file, "post_processor"), options);
  if (const Object& decoder = read.member(file, "decoder"); !decoder.is_null()) {
    read.type(decoder, "decoder", {"WordPiece"});
    options.decoder_prefix = read.string(decoder, "prefix", "##");
    options.decoder_cleanup = read.boolean(decoder, "cleanup", true);
  }
  if (model.is_object() && model.contains("type")) read.type(model, "model", {"WordPiece"});
  const Object& vocab = read.member(model, "vocab");
  check(vocab.is_object(), "tokenizer", read.source, ": model.vocab is missing");
  options.continuation = read.string(model, "continuing_subword_prefix", "##");
  options.unk_token = read.string(model, "unk_token", options.unk_token);
  // The limit bounds the work for a word.
  options.max_input_chars_per_word = static_cast<int>(read.integer(model, "max_input_chars_per_word", 100, 1, 10000));
  for (const auto& [token, id] : vocab.items()) {
    check(id.is_number_integer(), "tokenizer", read.source, ": the id of token \"", token, "\" is not an integer");
    if (!token.empty())
      vocabulary.add(token, read.integer(id, "the id of token \"" + token + "\"", 0, most_ids), false);
  }
  const Object& listed = read.member(file, "added_tokens");
  check(listed.is_array() || listed.is_null(), "tokenizer", read.source, ": added_tokens must be a list, not ",
        Reader::shown(listed));
  std::unordered_map<std::string, size_t> listed_at;
  for (const Object& entry : listed) {
    const AddedToken token = read.added(entry);
    vocabulary.add(token.content, read.integer(entry, "id", -1, 0, most_ids), true);
    // The same token once more changes nothing; with other settings the reference would keep both in part.
    const auto [at, is_new] = listed_at.emplace(token.content, options.added_tokens.size());
    if (is_new) options.added_tokens.push_back(token);
    check(options.added_tokens[at->second] == token, "tokenizer", read.source, ": added token \"", token.content,
          "\" is listed twice with different settings");
  }
  // The ids a template or padding names must be those of the tokens: elsewhere only the tokens are kept.
  for (const NamedId& token : used) vocabulary.add(token.token, token.id, true);
  read_truncation(read, read.member(file, "truncation"), options);
  read_padding(read, read.member(file, "padding"), vocabulary, options);
}

void apply_config(const Reader& read, const Object& config, bool have_pipeline, Vocabulary& vocabulary,
                  TokenizerOptions& options) {
  check(config.is_object(), "tokenizer", read.source, " is not a JSON object");
  const std::string type = read.string(config, "tokenizer_class", "BertTokenizer");
  static const std::set<std::string> families{"Bert", "DistilBert", "Electra", "MobileBert"};
  const std::string family = type.substr(0, type.find("Tokenizer"));
  // The last two classes say nothing about the pipeline, which then stands in tokenizer.json.
  check(families.contains(family) ||
            (have_pipeline && (type == "PreTrainedTokenizerFast" || type == "TokenizersBackend")),
        "tokenizer", read.source, ": tokenizer_class ", type, " is not supported; BERT WordPiece tokenizers are");
  options.lowercase = read.boolean(config, "do_lower_case", options.lowercase);
  if (!read.member(config, "strip_accents").is_null())
    options.strip_accents = read.boolean(config, "strip_accents", true);
  options.tokenize_chinese_chars = read.boolean(config, "tokenize_chinese_chars", options.tokenize_chinese_chars);
  options.truncation_side = read.side(config, "truncation_side", options.truncation_side);
  if (read.string(config, "duet_semantics", "fast") == "slow") options.semantics = Semantics::slow;

  std::unordered_map<std::string, size_t> listed;
  const auto list = [&](const AddedToken& token, bool replace) {
    const auto [at, is_new] = listed.emplace(token.content, options.added_tokens.size());
    if (is_new)
      options.added_tokens.push_back(token);
    else if (replace)
      options.added_tokens[at->second] = token;
  };
  for (size_t i = 0; i < options.added_tokens.size(); ++i) listed.emplace(options.added_tokens[i].content, i);
  for (const auto& [id, entry] : read.member(config, "added_tokens_decoder").items()) {
    const AddedToken token = read.added(entry);
    const bool number = !id.empty() && id.size() <= 9 && id.find_first_not_of("0123456789") == id.npos;
    check(number, "tokenizer", read.source, ": added_tokens_decoder has the id \"", id.substr(0, 20), "\"");
    vocabulary.add(token.content, std::stoll(id), true);
    list(token, true);
  }
  // A token stands as a string, or as an object whose settings count when it is listed nowhere else.
  const auto name = [&](const Object& value, const std::string& fallback) {
    if (value.is_null()) return fallback;
    if (value.is_string()) return value.get<std::string>();
    AddedToken token = read.added(value);
    token.special = true;
    token.normalized = read.boolean(value, "normalized", false);
    list(token, false);
    return token.content;
  };
  for (const auto& [key, token] : {std::pair{"pad_token", &options.pad_token},
                                   {"unk_token", &options.unk_token},
                                   {"cls_token", &options.cls_token},
                                   {"sep_token", &options.sep_token},
                                   {"mask_token", &options.mask_token}})
    *token = name(read.member(config, key), *token);
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"})
    for (const auto& [_, value] : read.member(config, key).items()) {
      const std::string token = name(value, "");
      if (!listed.contains(token)) options.additional_special_tokens.push_back(token);
    }
}

}  // namespace

Tokenizer Tokenizer::from_vocab_text(std::string_view vocab, const TokenizerOptions& options,
                                     const std::string& source) {
  check(!is_lfs_pointer(vocab), "tokenizer", source,
        " is a Git LFS pointer, not the vocabulary; fetch it with: git lfs pull");
  return from_vocab(lines_of(vocab), options, source);
}

Tokenizer Tokenizer::from_vocab_file(const std::string& path, const TokenizerOptions& options) {
  return from_vocab_text(read_file(path), options, path);
}

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json, std::string_view tokenizer_config_json,
                               const std::string& source, Semantics semantics) {
  return from_parts(&tokenizer_json, nullptr, tokenizer_config_json, "", source, source + "'s tokenizer_config.json",
                    semantics);
}

Tokenizer Tokenizer::from_parts(const std::string_view* pipeline, const std::string_view* vocab,
                                std::string_view config, std::string_view special_tokens, const std::string& source,
                                const std::string& config_source, Semantics semantics) {
  TokenizerOptions options;
  Vocabulary vocabulary(source);
  if (pipeline)
    read_pipeline({source}, parse_sorted_json(*pipeline, source), vocabulary, options);
  else
    vocabulary.add_lines(lines_of(*vocab));
  Object settings = config.empty() ? Object::object() : parse_sorted_json(config, config_source);
  if (!special_tokens.empty() && settings.is_object())
    if (const Object more = parse_sorted_json(special_tokens, config_source); more.is_object())
      for (const auto& [key, value] : more.items())
        if (!settings.contains(key)) settings[key] = value;
  // Where both files speak, tokenizer_config.json wins, as it does when Transformers loads a BertTokenizer.
  if (!settings.empty() || !config.empty()) apply_config({config_source}, settings, pipeline, vocabulary, options);
  if (semantics == Semantics::slow) options.semantics = semantics;
  std::vector<bool> outside;
  std::vector<std::string> tokens = vocabulary.finish(outside);
  return make(std::move(tokens), std::move(outside), options, source);
}

Tokenizer Tokenizer::from_directory(const std::string& directory, Semantics semantics) {
  const auto path = [&](const char* name) { return directory + "/" + name; };
  const auto exists = [&](const char* name) { return std::filesystem::exists(path(name)); };
  const auto optional_file = [&](const char* name) { return exists(name) ? read_file(path(name)) : ""; };
  const bool have_pipeline = exists("tokenizer.json");
  check(have_pipeline || exists("vocab.txt"), "tokenizer", directory, " has neither tokenizer.json nor vocab.txt");
  const std::string source = path(have_pipeline ? "tokenizer.json" : "vocab.txt"), bytes = read_file(source);
  const std::string_view view = bytes;
  const std::string config = optional_file("tokenizer_config.json"), special = optional_file("special_tokens_map.json");
  return from_parts(have_pipeline ? &view : nullptr, have_pipeline ? nullptr : &view, config, special, source,
                    path("tokenizer_config.json"), semantics);
}

}  // namespace duet::train
