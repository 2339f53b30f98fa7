#pragma once

#include <iosfwd>
#include <optional>

#include "duet/core/device.h"
#include "duet/core/json.h"

namespace duet::train {

constexpr int most_workers = 256;

// How many threads make batches beside those that compute: a number, or `auto`, which depends on the device. While a
// GPU computes, the cores are free. On the CPU the compute threads make each batch themselves, between two steps: a
// thread beside them would take a core from one of them, and the others wait for it at every op.
struct Workers {
  Workers() = default;
  Workers(int number) : count(number) {}

  std::optional<int> count;  // auto without

  int beside(Device device) const { return count.value_or(device.kind == DeviceKind::cuda ? 2 : 0); }
};

// As options have it: "auto" or a whole number, in JSON and on the command line.
void to_json(Json& json, const Workers& workers);
void from_json(const Json& json, Workers& workers);
std::ostream& operator<<(std::ostream& out, const Workers& workers);
std::istream& operator>>(std::istream& in, Workers& workers);

}  // namespace duet::train
