#include "duet/core/json.h"

#include <unordered_set>
#include <vector>

#include "duet/core/file.h"

namespace duet {

namespace {

// Builds the value and refuses what the library accepts: keys that occur twice, and nesting so deep that later
// recursion could overflow. The library's own builder takes quadratic time for an ordered object of many keys, because
// it looks for each of them, and with a callback for every object of many objects.
template <class Value>
class Builder : public nlohmann::json_sax<Value> {
  using Sax = nlohmann::json_sax<Value>;

 public:
  explicit Builder(const std::string& source) : source_(source) {}
  Value take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(typename Sax::number_integer_t value) override { return add(value); }
  bool number_unsigned(typename Sax::number_unsigned_t value) override { return add(value); }
  bool number_float(typename Sax::number_float_t value, const std::string&) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(typename Sax::binary_t&) override { fail("json", source_, " holds binary data"); }
  bool start_object(size_t) override {
    keys_.emplace_back();
    return open(Value::object());
  }
  bool end_object() override {
    keys_.pop_back();
    open_.pop_back();
    return true;
  }
  bool start_array(size_t) override { return open(Value::array()); }
  bool end_array() override {
    open_.pop_back();
    return true;
  }
  bool key(std::string& key) override {
    check(keys_.back().insert(key).second, "json", source_, ": key \"", key, "\" occurs twice in one object");
    key_ = std::move(key);
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& e) override {
    fail("json", source_, " is not valid JSON: ", e.what());
  }

 private:
  template <class T>
  bool add(T&& value) {
    place(Value(std::forward<T>(value)));
    return true;
  }
  bool open(Value value) {
    check(open_.size() < 100, "json", source_, ": nested deeper than 100 levels");
    open_.push_back(place(std::move(value)));
    return true;
  }
  // Where the value now stands. Containers that are still open do not move: only the innermost one grows.
  Value* place(Value value) {
    if (open_.empty()) return &(root_ = std::move(value));
    Value& parent = *open_.back();
    if (parent.is_array()) return &parent.template get_ref<typename Value::array_t&>().emplace_back(std::move(value));
    auto& object = parent.template get_ref<typename Value::object_t&>();
    if constexpr (std::is_same_v<Value, Json>)
      return &object.emplace_back(std::move(key_), std::move(value)).second;
    else
      return &object.emplace(std::move(key_), std::move(value)).first->second;
  }

  const std::string& source_;
  Value root_;
  std::vector<Value*> open_;
  std::vector<std::unordered_set<std::string>> keys_;  // of the open objects
  std::string key_;
};

template <class Value>
Value parse(std::string_view text, const std::string& source) {
  check(!is_lfs_pointer(text), "json", source, " is a Git LFS pointer, not the file; fetch it with: git lfs pull");
  // The library takes a zero byte for the end of the text and would not look at what follows.
  const size_t zero = text.find('\0');
  check(zero == std::string_view::npos, "json", source, " is not valid JSON: zero byte at position ", zero);
  Builder<Value> builder(source);
  Value::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

}  // namespace

Json parse_json(std::string_view text, const std::string& source) {
  return parse<Json>(text, source);
}

SortedJson parse_sorted_json(std::string_view text, const std::string& source) {
  return parse<SortedJson>(text, source);
}

void append_key(Json& object, std::string key, Json value) {
  object.get_ref<Json::object_t&>().emplace_back(std::move(key), std::move(value));
}

Json read_json(const std::string& path) {
  return parse_json(read_file(path), path);
}

}  // namespace duet
