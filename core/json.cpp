#include "duet/core/json.h"

#include <set>

#include "duet/core/file.h"

namespace duet {

Json parse_json(std::string_view text, const std::string& source) {
  std::vector<std::set<std::string>> open_objects;
  const auto refuse_duplicates = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) {
      check(open_objects.size() < 100, "json", source, ": nested deeper than 100 levels");
      open_objects.emplace_back();
    }
    if (event == Json::parse_event_t::object_end) open_objects.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto key = parsed.get<std::string>();
      check(open_objects.back().insert(key).second, "json", source, ": key \"", key, "\" occurs twice in one object");
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), refuse_duplicates);
  } catch (const nlohmann::json::exception& e) {
    fail("json", source, " is not valid JSON: ", e.what());
  }
}

Json read_json(const std::string& path) {
  return parse_json(read_file(path), path);
}

}  // namespace duet
