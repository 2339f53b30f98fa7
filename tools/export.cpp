#include <iostream>

#include "duet/core/file.h"
#include "duet/models/hub.h"
#include "duet/models/onnx_export.h"
#include "duet/tools/commands.h"

namespace duet::tools {
namespace {

struct ExportCommand {
  std::string model, onnx, part;
};

models::OnnxPart chosen_part(const ExportCommand& c) {
  for (const auto part : {models::OnnxPart::classifier, models::OnnxPart::vision, models::OnnxPart::text})
    if (c.part == name_of(part)) return part;
  return models::default_onnx_part(c.model);
}

void run_export(const ExportCommand& c) {
  const models::OnnxPart part = chosen_part(c);
  const models::OnnxGraph graph = models::export_onnx(c.model, part);
  const std::string bytes = graph.serialize();
  write_file_atomically(c.onnx, bytes);
  std::cout << "wrote   " << c.onnx << ": " << name_of(part) << " of " << c.model << ", ONNX opset "
            << models::OnnxGraph::opset << ", " << bytes.size() << " bytes\n";
  for (const models::OnnxValue& value : graph.inputs()) std::cout << "input   " << value << '\n';
  for (const models::OnnxValue& value : graph.outputs()) std::cout << "output  " << value << '\n';
  check(std::cout.flush().good(), "export", "cannot write to standard output");
}

}  // namespace

void add_export_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("export", "A model as an ONNX file, for other runtimes");
  const auto c = std::make_shared<ExportCommand>();
  command->add_option("--model", c->model, "Model or run directory")->required();
  command->add_option("--onnx", c->onnx, "The file to write")->required();
  command
      ->add_option("--part", c->part,
                   "classifier, vision or text; by default a classifier as such, else the only encoder")
      ->check(CLI::IsMember({"classifier", "vision", "text"}));
  command->callback([c] {
    c->model = models::find_model_directory(c->model);
    run_export(*c);
  });
}

}  // namespace duet::tools
