#pragma once

#include <iostream>

#include "duet/tools/commands.h"
#include "duet/tools/machine.h"

namespace duet::tools {

// --device and --dtype of commands that run a finished model.
struct DeviceOption {
  std::string device = "cpu", dtype = "float32";

  void add_to(CLI::App& command) {
    command.add_option("--device", device, "cpu, cuda or cuda:INDEX")->capture_default_str();
    command.add_option("--dtype", dtype, "Of activations: float32 or bfloat16")
        ->capture_default_str()
        ->check(CLI::IsMember({"float32", "bfloat16"}));
  }
  bool bfloat16() const { return dtype == "bfloat16"; }
  // Throws Error saying what is missing when there is no such device; says which GPU it is. A dtype that the device
  // lacks is replaced, see usable_dtype.
  Device get() {
    Device result;
    try {
      result = device_named(device);
    } catch (const Error& e) {
      throw UsageError(e.what());
    }
    require(result);
    dtype = usable_dtype(result, dtype);
    if (result.kind == DeviceKind::cuda) std::cerr << "device    " << device_description(result) << '\n';
    return result;
  }
};

}  // namespace duet::tools
