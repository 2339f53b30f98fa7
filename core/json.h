#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <utility>

#include "duet/core/error.h"

namespace duet {

// Insertion-ordered, so that files we write keep the order we wrote them in.
using Json = nlohmann::ordered_json;

// Parses a JSON file; throws Error naming the file and the position. Duplicate keys are refused at every level.
Json read_json(const std::string& path);
// Parses JSON text; `source` names it in errors.
Json parse_json(std::string_view text, const std::string& source);

// The same with keys in byte order, for objects of very many keys (vocabularies, safetensors headers): Json looks keys
// up one by one.
using SortedJson = nlohmann::json;
SortedJson parse_sorted_json(std::string_view text, const std::string& source);

// object[key] = value for a key that the object does not have yet, without looking for it.
void append_key(Json& object, std::string key, Json value);

// `object[key]` as T, or `fallback` when absent or null. A value of the wrong type is an Error naming the key.
// For a whole number that includes a fraction, which the library would cut, and one that T cannot hold.
template <class T, class Object>
T json_get(const Object& object, const std::string& key, const T& fallback) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return fallback;
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    const bool whole = it->is_number_unsigned()
                           ? std::in_range<T>(it->template get<uint64_t>())
                           : it->is_number_integer() && std::in_range<T>(it->template get<int64_t>());
    check(whole, "json", "\"", key, "\" has the wrong type: ", it->dump());
  }
  try {
    return it->template get<T>();
  } catch (const nlohmann::json::exception&) {
    fail("json", "\"", key, "\" has the wrong type: ", it->dump());
  }
}

}  // namespace duet
