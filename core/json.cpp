#include "duet/core/json.h"

#include <unordered_set>
#include <vector>

#include "duet/core/file.h"

namespace duet {

namespace {

// Refuses what the library accepts: keys that occur twice, and nesting so deep that later recursion could overflow.
// A pass of its own, because the library's callback interface takes quadratic time for an object of many objects.
class Checker : public nlohmann::json_sax<SortedJson> {
 public:
  explicit Checker(const std::string& source) : source_(source) {}
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override {
    open_objects_.emplace_back();
    return enter();
  }
  bool end_object() override {
    open_objects_.pop_back();
    --depth_;
    return true;
  }
  bool start_array(size_t) override { return enter(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(string_t& key) override {
    check(open_objects_.back().insert(key).second, "json", source_, ": key \"", key, "\" occurs twice in one object");
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& e) override {
    fail("json", source_, " is not valid JSON: ", e.what());
  }

 private:
  bool enter() {
    check(++depth_ <= 100, "json", source_, ": nested deeper than 100 levels");
    return true;
  }

  const std::string& source_;
  int depth_ = 0;
  std::vector<std::unordered_set<std::string>> open_objects_;
};

template <class Value>
Value parse(std::string_view text, const std::string& source) {
  // The library takes a zero byte for the end of the text and would not look at what follows.
  const size_t zero = text.find('\0');
  check(zero == std::string_view::npos, "json", source, " is not valid JSON: zero byte at position ", zero);
  Checker checker(source);
  SortedJson::sax_parse(text.begin(), text.end(), &checker);
  try {
    return Value::parse(text.begin(), text.end());
  } catch (const nlohmann::json::exception& e) {
    fail("json", source, " is not valid JSON: ", e.what());
  }
}

}  // namespace

Json parse_json(std::string_view text, const std::string& source) {
  return parse<Json>(text, source);
}

SortedJson parse_sorted_json(std::string_view text, const std::string& source) {
  return parse<SortedJson>(text, source);
}

Json read_json(const std::string& path) {
  return parse_json(read_file(path), path);
}

}  // namespace duet
