#include <gtest/gtest.h>

#include "duet/core/file.h"
#include "duet/core/json.h"
#include "duet/tests/temporary_directory.h"
#include "duet/tests/train/expect.h"
#include "duet/train/tokenizer.h"

// What tokenizer.json can say beyond a plain BERT pipeline, and what follows from it.
namespace duet::train {
namespace {

using Ids = std::vector<int32_t>;
using Tokens = std::vector<std::string>;
using Offsets = std::vector<std::array<uint32_t, 2>>;

Json example_file() {
  Json vocab;
  int id = 0;
  for (const char* token :
       {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##a", "b", "##b", "new", ".", "'", "t", "do", "not", "n"})
    vocab[token] = id++;
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", Json::array()},
          {"normalizer", {{"type", "BertNormalizer"}}},
          {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
          {"post_processor", {{"type", "BertProcessing"}, {"sep", {"[SEP]", 3}}, {"cls", {"[CLS]", 2}}}},
          {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
          {"model", {{"type", "WordPiece"}, {"vocab", vocab}}}};
}

Tokenizer load(const Json& json, const Json& config = {}) {
  return Tokenizer::from_json(json.dump(), config.is_null() ? "" : config.dump(), "t.json");
}

std::string refusal(const Json& json, const Json& config = {}) {
  return message_of([&] { load(json, config); });
}

Json added(const std::string& content, int id, const Json& more = Json::object()) {
  Json token{{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
             {"rstrip", false}, {"normalized", false}, {"special", true}};
  token.update(more);
  return token;
}

Json special(const std::string& id, int type) {
  return {{"SpecialToken", {{"id", id}, {"type_id", type}}}};
}

Json sequence(const std::string& id, int type) {
  return {{"Sequence", {{"id", id}, {"type_id", type}}}};
}

TEST(TokenizerPipeline, AddedTokensOutsideTheModel) {
  Json json = example_file();
  json["added_tokens"] = {added("tok", 16, {{"single_word", true}}), added("<l>", 17, {{"lstrip", true}}),
                          added("N\u00E9w", 18, {{"normalized", true}, {"special", false}})};
  const Tokenizer t = load(json);
  EXPECT_EQ(t.size(), 19);
  EXPECT_EQ(t.ids("a tok  <l>b"), (Ids{5, 16, 17, 7}));
  EXPECT_EQ(t.ids("tokb"), Ids{1});  // no word is made of an added token
  EXPECT_EQ(t.ids("a NEW n\u00E9wb"), (Ids{5, 18, 18, 7}));
  EXPECT_EQ(t.token(18), "new");
  EXPECT_EQ(t.id("N\u00E9w"), 18);
  EXPECT_TRUE(t.is_special(16));
  EXPECT_FALSE(t.is_special(18));
  const Encoding e = t.encode_with({.offsets = true, .special_tokens = false}, "\u00E9 a <l> N\u00C9W");
  EXPECT_EQ(e.ids, (Ids{1, 5, 17, 18}));
  EXPECT_EQ(e.offsets, (Offsets{{0, 1}, {2, 3}, {3, 7}, {8, 11}}));

  json["added_tokens"] = Json::array({added("\u0301", 16, {{"normalized", true}})});
  EXPECT_CONTAINS(refusal(json), "empty once it is normalised");
}

TEST(TokenizerPipeline, AddedTokensOfTheConfigurationWin) {
  Json json = example_file();
  json["added_tokens"] = Json::array({added("tok", 16)});
  const Json config{{"added_tokens_decoder",
                     {{"16", {{"content", "tok"}, {"rstrip", true}, {"special", true}}},
                      {"17", {{"content", "<e>"}, {"special", true}}}}},
                    {"mask_token", {{"content", "[MASK]"}, {"lstrip", true}}}};
  const Tokenizer t = load(json, config);
  EXPECT_EQ(t.encode_with({.offsets = true}, "tok  <e> [MASK]").offsets,
            (Offsets{{0, 0}, {0, 5}, {5, 8}, {8, 15}, {0, 0}}));
  EXPECT_CONTAINS(refusal(json, {{"added_tokens_decoder", {{"9", {{"content", "tok"}}}}}}), "tok");
  EXPECT_CONTAINS(refusal(json, {{"added_tokens_decoder", {{"-1", {{"content", "x"}}}}}}), "-1");
}

TEST(TokenizerPipeline, Templates) {
  Json json = example_file();
  json["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single", {special("two", 0), sequence("A", 1)}},
                            {"pair", {sequence("B", 3), special("[SEP]", 2), sequence("A", 1)}},
                            {"special_tokens",
                             {{"two", {{"id", "two"}, {"ids", {2, 4}}, {"tokens", {"[CLS]", "[MASK]"}}}},
                              {"[SEP]", {{"id", "[SEP]"}, {"ids", {3}}, {"tokens", {"[SEP]"}}}}}}};
  const Tokenizer t = load(json);
  EXPECT_EQ(t.encode("a").ids, (Ids{2, 4, 5}));
  EXPECT_EQ(t.encode("a").type_ids, (Ids{0, 0, 1}));
  EXPECT_EQ(t.encode("a").special_tokens_mask, (std::vector<uint8_t>{1, 1, 0}));
  EXPECT_EQ(t.encode_pair("a", "b b").ids, (Ids{7, 7, 3, 5}));
  EXPECT_EQ(t.encode_pair("a", "b b").type_ids, (Ids{3, 3, 2, 1}));
  EXPECT_EQ(load(Json::parse(t.to_json())).encode_pair("a", "b b").type_ids, (Ids{3, 3, 2, 1}));

  Json bad = json;
  bad["post_processor"]["single"].push_back(sequence("B", 0));
  EXPECT_CONTAINS(refusal(bad), "template");
  bad = json;
  bad["post_processor"]["special_tokens"].erase("two");
  EXPECT_CONTAINS(refusal(bad), "two");
  bad = json;
  bad["post_processor"]["special_tokens"]["two"]["ids"] = {2, 5};
  EXPECT_CONTAINS(refusal(bad), "[MASK]");
}

TEST(TokenizerPipeline, TruncationAndPaddingAreKept) {
  Json json = example_file();
  json["truncation"] = {{"direction", "Left"}, {"max_length", 4}, {"strategy", "OnlyFirst"}, {"stride", 0}};
  json["padding"] = {{"strategy", {{"Fixed", 5}}}, {"direction", "Left"}, {"pad_to_multiple_of", 4}, {"pad_id", 0},
                     {"pad_type_id", 1},           {"pad_token", "[PAD]"}};
  for (const Tokenizer& t : {load(json), load(Json::parse(load(json).to_json()))}) {
    const Encoding e = t.encode_as_configured("a b a");
    EXPECT_EQ(e.ids, (Ids{0, 0, 0, 0, 2, 7, 5, 3}));
    EXPECT_EQ(e.type_ids, (Ids{1, 1, 1, 1, 0, 0, 0, 0}));
    EXPECT_EQ(e.attention_mask, (std::vector<uint8_t>{0, 0, 0, 0, 1, 1, 1, 1}));
    EXPECT_EQ(e.special_tokens_mask, (std::vector<uint8_t>{1, 1, 1, 1, 1, 0, 0, 1}));
    EXPECT_EQ(t.encode("a b a").ids.size(), 5u);  // only on request
  }
  Json bad = json;
  bad["truncation"]["stride"] = 2;
  EXPECT_CONTAINS(refusal(bad), "stride 2");
  bad = json;
  bad["truncation"]["strategy"] = "Middle";
  EXPECT_CONTAINS(refusal(bad), "Middle");
  bad = json;
  bad["padding"]["strategy"] = {{"Fixed", int64_t{1} << 40}};
  EXPECT_CONTAINS(refusal(bad), "Fixed");
  bad = json;
  bad["padding"]["pad_id"] = 7;
  EXPECT_CONTAINS(refusal(bad), "[PAD]");
}

TEST(TokenizerPipeline, CuttingFromEitherSide) {
  const Tokenizer t = load(example_file());
  const auto cut = [&](int64_t length, Side side, std::optional<std::string_view> b = {}) {
    return t.encode_with({.truncation = {.max_length = length, .side = side}, .offsets = true}, "a b new", b);
  };
  EXPECT_EQ(cut(4, Side::right).ids, (Ids{2, 5, 7, 3}));
  EXPECT_EQ(cut(4, Side::left).ids, (Ids{2, 7, 9, 3}));
  EXPECT_EQ(cut(4, Side::left).offsets, (Offsets{{0, 0}, {2, 3}, {4, 7}, {0, 0}}));
  EXPECT_EQ(cut(6, Side::left, "b a t").ids, (Ids{2, 9, 3, 5, 12, 3}));
  EXPECT_EQ(cut(2, Side::left).ids, (Ids{2, 3}));
  EXPECT_THROW(t.encode_with({.truncation = {.max_length = 9, .strategy = Truncation::only_second}}, "a"), Error);
  using Pair = std::array<int64_t, 2>;
  EXPECT_EQ(truncated_lengths(5, 5, 7, Truncation::longest_first, Semantics::slow), (Pair{4, 3}));
  for (int64_t a = 0; a < 12; ++a)
    for (int64_t b = 0; b < 12; ++b)
      for (int64_t m = 0; m < 24; ++m) {
        int64_t x = a, y = b;
        while (x + y > m) --(x > y ? x : y);
        EXPECT_EQ(truncated_lengths(a, b, m, Truncation::longest_first, Semantics::slow), (Pair{x, y}))
            << a << ' ' << b;
      }
}

TEST(TokenizerPipeline, Padding) {
  const Tokenizer t = load(example_file());
  std::vector<Encoding> batch{t.encode("a"), t.encode("a b a")};
  t.pad(batch);
  EXPECT_EQ(batch[0].ids, (Ids{2, 5, 3, 0, 0}));
  EXPECT_EQ(batch[0].attention_mask, (std::vector<uint8_t>{1, 1, 1, 0, 0}));
  EXPECT_EQ(batch[0].special_tokens_mask, (std::vector<uint8_t>{1, 0, 1, 1, 1}));
  EXPECT_EQ(batch[1].ids.size(), 5u);
  t.pad(batch, {.length = 6, .multiple_of = 4, .side = Side::left, .id = 4, .type_id = 2});
  EXPECT_EQ(batch[0].ids, (Ids{4, 4, 4, 2, 5, 3, 0, 0}));
  EXPECT_EQ(batch[1].type_ids, (Ids{2, 2, 2, 0, 0, 0, 0, 0}));
  t.pad(batch, {.length = 2});  // nothing is cut
  EXPECT_EQ(batch[0].ids.size(), 8u);
  EXPECT_THROW(t.pad(batch, {.length = int64_t{1} << 40}), Error);
  EXPECT_THROW(t.pad(batch, {.id = 99}), Error);
}

TEST(TokenizerPipeline, DecodingCleansUp) {
  const Tokenizer t = load(example_file());
  const Ids ids = t.encode("do not do n ' t a'a b.").ids;
  EXPECT_EQ(t.decode(ids), "do not do n ' t a ' a b .");
  EXPECT_EQ(t.decode(ids, false, Cleanup::tokens), "do not do n ' t a ' a b.");  // one token at a time
  EXPECT_EQ(t.decode(ids, false, Cleanup::text), "do not don't a'a b.");
  EXPECT_EQ(t.decode(t.encode("ab").ids, true, Cleanup::tokens), "[CLS] ab [SEP]");
}

TEST(TokenizerPipeline, OffsetsCountCharacters) {
  Json json = example_file();
  for (const char* token : {",", "naive", "allen", "##nl", "##p", "sentence"})
    json["model"]["vocab"][token] = json["model"]["vocab"].size();
  const Tokenizer t = load(json);
  const Encoding e = t.encode_with({.offsets = true}, "A, na\u00EFve [MASK] AllenNLP sentence.");
  EXPECT_EQ(
      e.offsets,
      (Offsets{{0, 0}, {0, 1}, {1, 2}, {3, 8}, {9, 15}, {16, 21}, {21, 23}, {23, 24}, {25, 33}, {33, 34}, {0, 0}}));
  EXPECT_EQ(e.ids, t.encode("A, na\u00EFve [MASK] AllenNLP sentence.").ids);
  // Offsets of b count from its own beginning; removed characters and bad bytes count.
  EXPECT_EQ(t.encode_with({.offsets = true}, "a", "\xFF\u00AD a\u00ADb").offsets,
            (Offsets{{0, 0}, {0, 1}, {0, 0}, {3, 4}, {5, 6}, {0, 0}}));
}

TEST(TokenizerPipeline, OtherPrefixesAndUncleanedText) {
  Json json = example_file();
  json["model"]["continuing_subword_prefix"] = "@";
  json["model"]["vocab"]["@b"] = 16;
  json["decoder"]["prefix"] = "@";
  json["normalizer"]["clean_text"] = false;
  const Tokenizer t = load(json);
  EXPECT_EQ(t.ids("ab a\u00ADb"), (Ids{5, 16, 1}));
  EXPECT_EQ(t.decode(t.ids("ab a")), "ab a");
  const testing::TemporaryDirectory directory;
  t.save(directory.path());
  EXPECT_EQ(Tokenizer::from_directory(directory.path()).ids("ab a\u00ADb"), (Ids{5, 16, 1}));
  EXPECT_EQ(read_json(directory / "tokenizer_config.json").at("tokenizer_class"), "PreTrainedTokenizerFast");
}

TEST(TokenizerPipeline, SavingKeepsAddedTokensAndSemantics) {
  Json json = example_file();
  json["added_tokens"] = {added("tok", 16, {{"single_word", true}}),
                          added("N\u00E9w", 17, {{"normalized", true}, {"special", false}})};
  const Tokenizer t = Tokenizer::from_json(json.dump(), "", "t.json", Semantics::slow);
  const testing::TemporaryDirectory directory;
  t.save(directory.path(), 64);
  const std::string text = "a tok NEW \u0378 tokb [MASK]";
  for (const bool pipeline : {true, false}) {
    if (!pipeline) std::filesystem::remove(directory / "tokenizer.json");  // vocab.txt and the configuration suffice
    const Tokenizer back = Tokenizer::from_directory(directory.path());
    EXPECT_EQ(back.ids(text), t.ids(text)) << pipeline;
    EXPECT_EQ(back.options().semantics, Semantics::slow);
    EXPECT_EQ(back.added_tokens().size(), t.added_tokens().size());
    EXPECT_EQ(back.size(), 18);
  }
  EXPECT_THROW(t.encode_with({.offsets = true}, "a"), Error);
}

// Of a repeated token the earlier id is a gap in tokenizer.json.
TEST(TokenizerPipeline, RepeatedTokensSurviveSaving) {
  const Tokenizer t = Tokenizer::from_vocab_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\na\n");
  const testing::TemporaryDirectory directory;
  t.save(directory.path());
  const Tokenizer back = Tokenizer::from_directory(directory.path());
  EXPECT_EQ(back.ids("a b"), (Ids{7, 6}));
  EXPECT_EQ(back.token(5), "");
  EXPECT_EQ(back.size(), 8);
}

TEST(TokenizerPipeline, NonsenseIsRefusedByName) {
  const auto with = [](const char* pointer, const Json& value) {
    Json json = example_file();
    json[Json::json_pointer(pointer)] = value;
    return refusal(json);
  };
  EXPECT_CONTAINS(with("/version", "2.0"), "\"2.0\"");
  EXPECT_CONTAINS(with("/version", 1), "version");
  EXPECT_CONTAINS(with("/decoder/type", "ByteLevel"), "ByteLevel");
  EXPECT_CONTAINS(with("/normalizer/lowercase", "yes"), "lowercase");
  EXPECT_CONTAINS(with("/model/vocab/b", int64_t{1} << 29), "536870912");
  EXPECT_CONTAINS(with("/model/vocab/b", uint64_t{1} << 63), "b");
  EXPECT_CONTAINS(with("/model/vocab/b", -1), "-1");
  EXPECT_CONTAINS(with("/model/vocab/b", 7.5), "integer");
  EXPECT_CONTAINS(with("/model/vocab", Json::array()), "vocab");
  EXPECT_CONTAINS(with("/model/max_input_chars_per_word", 1e300), "max_input_chars_per_word");
  EXPECT_CONTAINS(with("/added_tokens", Json::array({added("", 5)})), "no content");
  EXPECT_CONTAINS(with("/added_tokens", Json::array({added("b", 5)})), "\"b\"");
  EXPECT_CONTAINS(with("/added_tokens", Json::array({7})), "7");
  EXPECT_CONTAINS(with("/added_tokens", Json::object()), "added_tokens");
  EXPECT_CONTAINS(with("/added_tokens", Json::array({added("x", 1 << 29)})), "gaps");
  EXPECT_CONTAINS(with("/post_processor/cls", {"[CLS]", 5}), "[CLS]");
  EXPECT_CONTAINS(with("/post_processor/cls", "[CLS]"), "cls");
  EXPECT_CONTAINS(with("/model/unk_token", "<unk>"), "<unk>");
  for (const std::string& text :
       {std::string("{"), std::string("[]"), std::string("null"), std::string("7"), std::string(),
        std::string(100000, '['), std::string("{\"version\": \"\xFF\"}"), std::string("\0{}", 3)})
    EXPECT_THROW(Tokenizer::from_json(text), Error) << text.substr(0, 20);
  EXPECT_THROW(Tokenizer::from_json(example_file().dump(), "[]"), Error);
  EXPECT_THROW(Tokenizer::from_json(example_file().dump(), R"({"mask_token": 7})"), Error);
  EXPECT_THROW(Tokenizer::from_json(example_file().dump(), R"({"additional_special_tokens": [[]]})"), Error);
  EXPECT_THROW(Tokenizer::from_vocab_text(""), Error);
  EXPECT_THROW(Tokenizer::from_vocab_text("\n\n"), Error);
}

}  // namespace
}  // namespace duet::train
