#include "duet/core/json.h"

#include <gtest/gtest.h>

#include "duet/tests/train/expect.h"

namespace duet {
namespace {

using train::message_of;

// Our builder must make of a text what the library makes of it.
TEST(Json, BuildsWhatTheLibraryBuilds) {
  for (const char* document : {"null", "true", "-3", "18446744073709551615", "1.5e-3", "\"a\\u00e9\\ud83d\\ude00\"",
                               "[]", "{}", R"([1, [2, [], {"a": [3, {"b": null}]}], "x", {"c": {}}])",
                               R"({"z": 1, "a": {"y": [true, false], "b": {"k": "v"}}, "": [[[]]], "m": -0.0})"}) {
    const Json parsed = parse_json(document, "test");
    EXPECT_EQ(parsed, Json::parse(document)) << document;
    EXPECT_EQ(parsed.dump(), Json::parse(document).dump()) << document;  // the order of keys too
    EXPECT_EQ(parse_sorted_json(document, "test"), SortedJson::parse(document)) << document;
  }
}

TEST(Json, RefusesWithTheSourceAndThePosition) {
  const auto error = [](const std::string& document) {
    const std::string message = message_of([&] { parse_json(document, "file.json"); });
    EXPECT_EQ(message, message_of([&] { parse_sorted_json(document, "file.json"); }));
    return message;
  };
  for (const char* document : {"", "{", "[1,]", "{\"a\" 1}", "nul", "1 2", "\"\\ud800\"", "\"\xff\"", "1e999", "[1}"})
    EXPECT_CONTAINS(error(document), "[json] file.json is not valid JSON");
  EXPECT_CONTAINS(error(R"({"a": 1, "b": {"c": 1, "c": 2}})"), "key \"c\" occurs twice");
  EXPECT_EQ(parse_json(R"({"a": {"c": 1}, "b": {"c": 2}})", "test")["b"]["c"], 2);  // twice in different objects
  EXPECT_CONTAINS(error("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer");
  EXPECT_CONTAINS(error(std::string("{}\0", 3)), "zero byte at position 2");
  EXPECT_CONTAINS(error(std::string(101, '[') + std::string(101, ']')), "nested deeper than 100 levels");
  EXPECT_TRUE(parse_json(std::string(100, '[') + std::string(100, ']'), "test").is_array());
}

TEST(Json, ManyKeysTakeLinearTime) {
  std::string document = "{";
  for (int i = 0; i < 300'000; ++i) document += (i ? ",\"" : "\"") + std::to_string(i) + "\":{}";
  EXPECT_EQ(parse_json(document + "}", "test").size(), 300'000u);
}

TEST(Json, WholeNumbersMustBeWholeAndFit) {
  const Json json = parse_json(R"({"a": 3, "b": 3.5, "c": 4294967296, "d": -1, "e": null})", "test");
  EXPECT_EQ(json_get(json, "a", 0), 3);
  EXPECT_EQ(json_get(json, "e", 7), 7);
  EXPECT_EQ(json_get(json, "f", 8), 8);
  EXPECT_CONTAINS(message_of([&] { json_get(json, "b", 0); }), "wrong type");
  EXPECT_CONTAINS(message_of([&] { json_get(json, "c", int32_t{0}); }), "wrong type");
  EXPECT_CONTAINS(message_of([&] { json_get(json, "d", uint32_t{0}); }), "wrong type");
}

}  // namespace
}  // namespace duet
