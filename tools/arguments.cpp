#include "duet/tools/arguments.h"

#include <algorithm>
#include <filesystem>

#include "duet/core/json.h"

namespace duet::tools {
namespace {

std::string typed = "duet";

void remember(const std::string& word) {
  if (!word.empty() && word.find_first_of(" \t\n\"'\\$*?&|;<>()`!#~[]{}") == std::string::npos) {
    typed += " " + word;
    return;
  }
  std::string quoted = word;
  for (size_t at = 0; (at = quoted.find('\'', at)) != std::string::npos; at += 4) quoted.replace(at, 1, "'\\''");
  typed += " '" + quoted + "'";
}

void append_setting(std::vector<std::string>& arguments, const std::string& path, const std::string& key,
                    const Json& value) {
  if (value.is_array()) {
    for (const Json& item : value) append_setting(arguments, path, key, item);
    return;
  }
  check(value.is_primitive() && !value.is_null(), "options", path, ": \"", key,
        "\" must be a value or a list of values");
  arguments.push_back("--" + key + "=" + (value.is_string() ? value.get<std::string>() : value.dump()));
}

bool mentions(const std::vector<std::string>& arguments, const std::string& key) {
  return std::any_of(arguments.begin(), arguments.end(),
                     [&](const std::string& a) { return a == "--" + key || a.starts_with("--" + key + "="); });
}

}  // namespace

std::string not_negative(const std::string& value) {
  return value.starts_with('-') ? value + " must not be negative" : "";
}

std::string positive(const std::string& value) {
  const bool zero = value.find_first_not_of("0+.") == std::string::npos;
  return zero || value.starts_with('-') ? value + " must be above 0" : "";
}

std::vector<std::string> expand_arguments(int argc, char** argv) {
  std::vector<std::string> result, configs;
  const auto value_of = [&](const std::string& name, int& i, std::string& value) {
    const std::string word = argv[i];
    if (word.starts_with(name + "=")) {
      value = word.substr(name.size() + 1);
      return true;
    }
    if (word != name) return false;
    check_usage(i + 1 < argc, "options", name, " needs a value");
    value = argv[++i];
    return true;
  };
  for (int i = 1; i < argc; ++i) remember(argv[i]);
  for (int i = 1; i < argc; ++i) {
    std::string value;
    if (value_of("--set", i, value)) {
      check_usage(value.find('=') != std::string::npos && value[0] != '=', "options", "--set wants key=value, got \"",
                  value, "\"");
      result.push_back("--" + value);
    } else if (value_of("--config", i, value)) {
      configs.push_back(value);
    } else {
      result.emplace_back(argv[i]);
    }
  }
  const std::vector<std::string> given = result;
  for (const std::string& path : configs) {
    check_usage(std::filesystem::exists(path), "options", "--config ", path, ": no such file");
    const Json config = read_json(path);
    check(config.is_object(), "options", path, " must hold one object of option names and values");
    for (const auto& [key, value] : config.items())
      if (!mentions(given, key)) append_setting(result, path, key, value);
  }
  return result;
}

const std::string& command_line() {
  return typed;
}

}  // namespace duet::tools
