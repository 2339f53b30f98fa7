#include <unistd.h>

// libjpeg's header needs stdio before it.
#include <cstdio>

#include <jpeglib.h>
#include <libdeflate.h>
#include <png.h>
#include <zlib.h>

#include <CLI/Version.hpp>
#include <Eigen/Core>
#include <iostream>

#include "duet/core/backend.h"
#include "duet/core/cpu.h"
#include "duet/core/json.h"
#include "duet/core/parallel.h"
#include "duet/tools/commands.h"
#include "duet/tools/machine.h"

namespace duet::tools {
namespace {

std::string jpeg_version() {
#if defined(LIBJPEG_TURBO_VERSION)
#define DUET_QUOTE(x) #x
#define DUET_QUOTE_VALUE(x) DUET_QUOTE(x)
  return "turbo " DUET_QUOTE_VALUE(LIBJPEG_TURBO_VERSION);
#else
  return std::to_string(JPEG_LIB_VERSION);
#endif
}

Json build_information() {
  const std::string sanitizers = DUET_SANITIZE, build_type = DUET_BUILD_TYPE;
  return {{"type", build_type},
          {"compiler", DUET_COMPILER},
          {"native", static_cast<bool>(DUET_NATIVE)},
          {"sanitizers", sanitizers.empty() ? "none" : sanitizers},
          {"cuda", cuda_built},
          {"mpi", false}};
}

// oneDNN, libpng and zlib tell what is loaded; the others exist as headers or tell only what was compiled against.
Json library_versions() {
  return {{"onednn", onednn_version()},
          {"eigen", text(EIGEN_WORLD_VERSION, ".", EIGEN_MAJOR_VERSION, ".", EIGEN_MINOR_VERSION)},
          {"libpng", png_get_libpng_ver(nullptr)},
          {"libjpeg", jpeg_version()},
          {"zlib", zlibVersion()},
          {"libdeflate", LIBDEFLATE_VERSION_STRING},
          {"nlohmann_json",
           text(NLOHMANN_JSON_VERSION_MAJOR, ".", NLOHMANN_JSON_VERSION_MINOR, ".", NLOHMANN_JSON_VERSION_PATCH)},
          {"cli11", CLI11_VERSION},
          {"openmp", std::to_string(_OPENMP)}};
}

Json machine_information() {
  const MachineMemory memory = machine_memory();
  Json cpu{{"name", "cpu"},
           {"model", cpu_name()},
           {"cores", ::sysconf(_SC_NPROCESSORS_ONLN)},
           {"threads", threads()},
           {"instruction_sets", instruction_sets()},
           {"kernels", name_of(cpu_instructions())},
           {"dtypes", cpu_has_bfloat16() ? Json{"float32", "bfloat16"} : Json{"float32"}},
           {"memory_bytes", memory.total},
           {"available_memory_bytes", memory.available}};
  Json devices = Json::array({cpu});
  std::string without_gpu = "not in this build";
  if constexpr (cuda_built) {
    const int count = device_count(CudaContext{}, without_gpu);
    for (int i = 0; i < count; ++i) {
      DeviceInformation d;
      try {
        d = describe(CudaContext{i});
      } catch (const Error& error) {  // a library that is missing, say: what this command is to find
        d.versions = error.what();
      }
      devices.push_back({{"name", text(Device{DeviceKind::cuda, i})},
                         {"model", d.name},
                         {"capability", d.capability},
                         {"multiprocessors", d.multiprocessors},
                         {"dtypes", {"float32", "bfloat16"}},
                         {"memory_bytes", d.memory_bytes},
                         {"available_memory_bytes", d.free_bytes},
                         {"versions", d.versions}});
    }
  }
  return {{"version", DUET_VERSION},
          {"devices", devices},
          {"cuda", devices.size() > 1 ? Json() : Json(without_gpu)},
          {"libraries", library_versions()},
          {"build", build_information()}};
}

std::string gibibytes(const Json& bytes) {
  std::ostringstream out;
  out.precision(1);
  out << std::fixed << bytes.get<double>() / (1 << 30) << " GiB";
  return out.str();
}

void print_lines(const Json& info) {
  const auto line = [](const std::string& key, const std::string& value) {
    std::cout << key << std::string(key.size() < 16 ? 16 - key.size() : 1, ' ') << value << '\n';
  };
  const auto name = [](const Json& value) { return value.get<std::string>(); };
  line("duet", name(info["version"]));
  for (const Json& d : info["devices"]) {
    line("device", name(d["name"]) + ": " + name(d["model"]));
    if (d.contains("capability")) {
      line("capability", name(d["capability"]) + ", " + d["multiprocessors"].dump() + " multiprocessors");
      line("memory", gibibytes(d["memory_bytes"]) + ", " + gibibytes(d["available_memory_bytes"]) + " available");
      line("versions", name(d["versions"]));
      continue;
    }
    line("cores", d["cores"].dump());
    line("threads", d["threads"].dump());
    std::string sets;
    for (const Json& set : d["instruction_sets"]) sets += (sets.empty() ? "" : ", ") + name(set);
    line("instructions", sets.empty() ? "none known" : sets);
    line("kernels", name(d["kernels"]));
    line("bfloat16", d["dtypes"].size() > 1 ? "yes" : "no, --dtype bfloat16 computes in float32");
    line("memory", gibibytes(d["memory_bytes"]) + ", " + gibibytes(d["available_memory_bytes"]) + " available");
  }
  const Json& build = info["build"];
  for (const auto& [library, version] : info["libraries"].items()) line(library, name(version));
  line("build", name(build["type"]) + ", " + name(build["compiler"]) +
                    (build["native"].get<bool>() ? ", for this processor" : ", for any processor of this kind"));
  line("sanitizers", name(build["sanitizers"]));
  if (info["cuda"].is_string()) line("cuda", name(info["cuda"]));
  line("mpi", "not in this build");
}

}  // namespace

void add_info_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("info", "Show devices, instruction sets, libraries and build options");
  const auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "Print as JSON");
  command->callback([json] {
    const Json info = machine_information();
    if (*json)
      std::cout << info.dump(1) << '\n';
    else
      print_lines(info);
  });
}

}  // namespace duet::tools
