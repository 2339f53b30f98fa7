#include <filesystem>
#include <iomanip>
#include <iostream>

#include "duet/core/json.h"
#include "duet/models/hub.h"
#include "duet/models/layouts.h"
#include "duet/tools/commands.h"

namespace duet::tools {
namespace {

namespace fs = std::filesystem;

// {"file", "metadata", "parameters", "bytes", "tensors": [{"name", "dtype", "shape", "bytes"}]}
Json describe_file(const SafetensorsFile& file) {
  Json tensors = Json::array();
  uint64_t bytes = 0, parameters = 0;
  for (const std::string& name : file.names()) {
    const SafetensorsFile::Entry& e = file.entry(name);
    uint64_t elements = 1;
    for (const int64_t dim : e.shape) elements *= static_cast<uint64_t>(dim);
    parameters += elements;
    bytes += e.end - e.begin;
    tensors.push_back({{"name", name}, {"dtype", e.dtype}, {"shape", e.shape}, {"bytes", e.end - e.begin}});
  }
  Json metadata = Json::object();
  for (const auto& [key, value] : file.metadata()) metadata[key] = value;
  return {{"file", file.path()},
          {"metadata", metadata},
          {"parameters", parameters},
          {"bytes", bytes},
          {"tensors", std::move(tensors)}};
}

Json describe(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  check(fs::exists(status), "inspect", path, ": no such file or directory");
  if (!fs::is_directory(status)) {
    check(fs::is_regular_file(status), "inspect", path, " is neither a file nor a directory");
    const Json file = describe_file(SafetensorsFile::open(path));
    return {{"path", path}, {"parameters", file["parameters"]}, {"bytes", file["bytes"]}, {"files", {file}}};
  }
  const std::string directory = models::find_model_directory(path);
  Json files = Json::array();
  uint64_t bytes = 0, parameters = 0;
  const models::Weights weights = models::Weights::open(directory);
  for (const SafetensorsFile& file : weights.files()) {
    files.push_back(describe_file(file));
    parameters += files.back()["parameters"].get<uint64_t>();
    bytes += files.back()["bytes"].get<uint64_t>();
  }
  Json result{{"path", path}};
  // A folder that cannot be used, without config or of an unsupported kind, can be looked at all the same.
  if (fs::exists(directory + "/config.json") || models::layout_of(weights) != models::Layout::hugging_face) try {
      result["config"] = models::read_model_config(directory);
    } catch (const Error& e) {
      result["note"] = e.what();
    }
  result["parameters"] = parameters;
  result["bytes"] = bytes;
  result["files"] = std::move(files);
  return result;
}

std::string shape_text(const Json& shape) {
  std::string result = "(";
  for (const Json& dim : shape) result += (result.size() > 1 ? ", " : "") + dim.dump();
  return result + ")";
}

// The settings that tell models apart, on one line per encoder.
void print_config(const Json& config, const std::string& indent) {
  if (!config.is_object()) return;
  std::string line;
  for (const char* key :
       {"model_type", "architectures", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "image_size", "patch_size", "vocab_size", "max_position_embeddings", "projection_dim"})
    if (config.contains(key)) line += text(line.empty() ? "" : ", ", key, " ", config[key].dump());
  if (config.contains("id2label")) line += text(line.empty() ? "" : ", ", config["id2label"].size(), " labels");
  std::cout << indent << line << '\n';
  for (const char* part : {"vision_config", "text_config"})
    if (config.contains(part)) {
      std::cout << indent << part << ":\n";
      print_config(config[part], indent + "  ");
    }
}

void print_table(const Json& result) {
  size_t width = 4;
  for (const Json& file : result["files"])
    for (const Json& t : file["tensors"]) width = std::max(width, t["name"].get<std::string>().size());
  if (result.contains("config")) {
    std::cout << "config\n";
    print_config(result["config"], "  ");
  }
  for (const Json& file : result["files"]) {
    std::cout << file["file"].get<std::string>() << '\n';
    for (const auto& [key, value] : file["metadata"].items())
      std::cout << "  metadata " << key << " = " << value.get<std::string>() << '\n';
    for (const Json& t : file["tensors"])
      std::cout << "  " << std::left << std::setw(static_cast<int>(width)) << t["name"].get<std::string>() << "  "
                << std::setw(5) << t["dtype"].get<std::string>() << std::right << std::setw(12)
                << t["bytes"].get<uint64_t>() << " bytes  " << shape_text(t["shape"]) << '\n';
  }
  if (result.contains("note")) std::cout << "note " << result["note"].get<std::string>() << '\n';
  size_t tensors = 0;
  for (const Json& file : result["files"]) tensors += file["tensors"].size();
  std::cout << "total " << tensors << " tensors, " << result["parameters"].get<uint64_t>() << " parameters, "
            << result["bytes"].get<uint64_t>() << " bytes\n";
}

}  // namespace

void add_inspect_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("inspect", "Names, shapes, dtypes, sizes and metadata of a model's weights");
  const auto path = std::make_shared<std::string>();
  const auto json = std::make_shared<bool>(false);
  command->add_option("path", *path, "Model or run directory, or .safetensors file")->required();
  command->add_flag("--json", *json, "Print as JSON");
  command->callback([path, json] {
    const Json result = describe(*path);
    if (*json)
      std::cout << result.dump(1, ' ', false, Json::error_handler_t::replace) << '\n';
    else
      print_table(result);
  });
}

}  // namespace duet::tools
