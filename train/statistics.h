#pragma once

#include <cstddef>
#include <optional>
#include <span>

namespace duet::train {

struct Spread {
  double mean = 0;
  std::optional<double> sd;  // sample standard deviation (n - 1); none for a single value
  size_t n = 0;
};

// At least one value.
Spread spread(std::span<const double> values);

// The t with P(T <= t) = probability for Student's distribution. 0 < probability < 1, degrees > 0.
double student_t_quantile(double probability, double degrees);

struct Interval {
  double low, high;
};

// Two-sided interval for the mean, mean +- t sd / sqrt(n); none for a single value.
std::optional<Interval> confidence_interval(const Spread& values, double confidence = 0.95);

}  // namespace duet::train
