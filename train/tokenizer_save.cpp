#include <algorithm>

#include "duet/core/file.h"
#include "duet/core/json.h"
#include "duet/train/tokenizer.h"

namespace duet::train {
namespace {

using Kind = TemplatePiece::Kind;

Json flags(const AddedToken& token) {
  return {{"content", token.content}, {"single_word", token.single_word}, {"lstrip", token.lstrip},
          {"rstrip", token.rstrip},   {"normalized", token.normalized},   {"special", token.special}};
}

const char* direction(Side side) {
  return side == Side::left ? "Left" : "Right";
}

Json truncation_json(const std::optional<TruncationOptions>& t) {
  if (!t || t->max_length == 0) return {};
  const char* strategies[] = {"LongestFirst", "OnlyFirst", "OnlySecond"};
  return {{"direction", direction(t->side)},
          {"max_length", t->max_length},
          {"strategy", strategies[static_cast<int>(t->strategy)]},
          {"stride", 0}};
}

// An object member without a search for one of the same name, which for a vocabulary would take quadratic time.
void append(Json& object, const std::string& key, Json value) {
  object.get_ref<Json::object_t&>().emplace_back(key, std::move(value));
}

}  // namespace

std::string Tokenizer::to_json() const {
  Json added = Json::array();
  std::vector<std::pair<int32_t, const AddedToken*>> by_id;
  for (const AddedToken& token : added_) by_id.emplace_back(find(token.content), &token);
  std::sort(by_id.begin(), by_id.end());
  for (const auto& [id, token] : by_id) {
    Json entry{{"id", id}};
    entry.update(flags(*token));
    added.push_back(std::move(entry));
  }
  Json padding;
  if (const auto& p = options_.padding) {
    const int32_t id = p->id < 0 ? pad_id() : p->id;
    padding = {{"strategy", p->length ? Json{{"Fixed", p->length}} : Json("BatchLongest")},
               {"direction", direction(p->side)},
               {"pad_to_multiple_of", p->multiple_of ? Json(p->multiple_of) : Json()},
               {"pad_id", id},
               {"pad_type_id", p->type_id},
               {"pad_token", tokens_[static_cast<size_t>(id)]}};
  }
  Json special = Json::object();
  const auto pieces = [&](const Template& form) {
    Json list = Json::array();
    for (const Template::Piece& piece : form.pieces) {
      if (piece.kind != Kind::special) {
        list.push_back({{"Sequence", {{"id", piece.kind == Kind::a ? "A" : "B"}, {"type_id", piece.type_id}}}});
        continue;
      }
      Json tokens = Json::array();
      std::string name;
      for (const int32_t id : piece.ids) {
        const std::string& token = tokens_[static_cast<size_t>(id)];
        tokens.push_back(token);
        name += (name.empty() ? "" : " ") + token;
      }
      special[name] = {{"id", name}, {"ids", piece.ids}, {"tokens", tokens}};
      list.push_back({{"SpecialToken", {{"id", name}, {"type_id", piece.type_id}}}});
    }
    return list;
  };
  const Json single = pieces(single_), pair = pieces(pair_);
  Json vocab = Json::object();
  for (size_t i = 0; i < tokens_.size(); ++i)
    if (!tokens_[i].empty() && (outside_.empty() || !outside_[i]) && find(tokens_[i]) == static_cast<int32_t>(i))
      append(vocab, tokens_[i], i);
  const Json file{
      {"version", "1.0"},
      {"truncation", truncation_json(options_.truncation)},
      {"padding", padding},
      {"added_tokens", added},
      {"normalizer",
       {{"type", "BertNormalizer"},
        {"clean_text", options_.clean_text},
        {"handle_chinese_chars", options_.tokenize_chinese_chars},
        {"strip_accents", options_.strip_accents ? Json(*options_.strip_accents) : Json()},
        {"lowercase", options_.lowercase}}},
      {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
      {"post_processor",
       {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}}},
      {"decoder", {{"type", "WordPiece"}, {"prefix", options_.decoder_prefix}, {"cleanup", options_.decoder_cleanup}}},
      {"model",
       {{"type", "WordPiece"},
        {"unk_token", options_.unk_token},
        {"continuing_subword_prefix", options_.continuation},
        {"max_input_chars_per_word", options_.max_input_chars_per_word},
        {"vocab", std::move(vocab)}}}};
  return file.dump(2) + "\n";
}

void Tokenizer::save_vocab(const std::string& path) const {
  std::string bytes;
  // Added tokens after the last of the vocabulary stand in the other files.
  size_t end = tokens_.size();
  while (!outside_.empty() && end > 0 && outside_[end - 1]) --end;
  for (size_t i = 0; i < end; ++i) {
    check(tokens_[i].find('\n') == std::string::npos && !tokens_[i].ends_with('\r'), "tokenizer", path, ": token ", i,
          " holds a line break, which a vocabulary file cannot");
    bytes += tokens_[i] + '\n';
  }
  write_file_atomically(path, bytes);
}

void Tokenizer::save(const std::string& directory, int64_t max_length) const {
  save_vocab(directory + "/vocab.txt");
  write_file_atomically(directory + "/tokenizer.json", to_json());
  const TokenizerOptions usual;
  // Transformers' BertTokenizer makes its own pipeline from these settings alone; the other class takes tokenizer.json.
  const bool bert = options_.clean_text && options_.continuation == usual.continuation &&
                    options_.decoder_prefix == usual.decoder_prefix && options_.decoder_cleanup &&
                    options_.max_input_chars_per_word == usual.max_input_chars_per_word &&
                    options_.single_template.empty() && options_.pair_template.empty();
  Json config{{"tokenizer_class", bert ? "BertTokenizer" : "PreTrainedTokenizerFast"},
              {"do_lower_case", options_.lowercase},
              {"strip_accents", options_.strip_accents ? Json(*options_.strip_accents) : Json()},
              {"tokenize_chinese_chars", options_.tokenize_chinese_chars}};
  Json special{{"pad_token", options_.pad_token},
               {"unk_token", options_.unk_token},
               {"cls_token", options_.cls_token},
               {"sep_token", options_.sep_token},
               {"mask_token", options_.mask_token}};
  config.update(special);
  Json decoder = Json::object();
  for (const AddedToken& token : added_) decoder[std::to_string(find(token.content))] = flags(token);
  config["added_tokens_decoder"] = decoder;
  if (options_.truncation_side == Side::left) config["truncation_side"] = "left";
  if (options_.semantics == Semantics::slow) config["duet_semantics"] = "slow";
  if (max_length > 0) config["model_max_length"] = max_length;
  write_file_atomically(directory + "/tokenizer_config.json", config.dump(2) + "\n");
  write_file_atomically(directory + "/special_tokens_map.json", special.dump(2) + "\n");
}

}  // namespace duet::train
