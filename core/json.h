#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "duet/core/error.h"

namespace duet {

// Insertion-ordered, so that files we write keep the order we wrote them in.
using Json = nlohmann::ordered_json;

// Parses a JSON file; throws Error naming the file and the position. Duplicate keys are refused at every level.
Json read_json(const std::string& path);
// Parses JSON text; `source` names it in errors.
Json parse_json(std::string_view text, const std::string& source);
// The same with the keys sorted. For objects with very many keys, where the ordered form searches all of them for each.
nlohmann::json parse_json_sorted(std::string_view text, const std::string& source);

// `object[key]` as T, or `fallback` when absent or null. A value of the wrong type is an Error naming the key.
template <class T>
T json_get(const Json& object, const std::string& key, const T& fallback) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return fallback;
  try {
    return it->template get<T>();
  } catch (const nlohmann::json::exception&) {
    fail("json", "\"", key, "\" has the wrong type: ", it->dump());
  }
}

}  // namespace duet
