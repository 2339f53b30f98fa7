#include "duet/train/statistics.h"

#include <cmath>

#include "duet/core/error.h"

namespace duet::train {
namespace {

// Regularised incomplete beta function I_x(a, b) by its continued fraction (Abramowitz and Stegun 26.5.8), evaluated
// with Lentz's method. It converges fast for x < (a + 1) / (a + b + 2); beyond, I_x(a, b) = 1 - I_{1-x}(b, a).
double incomplete_beta(double x, double a, double b) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incomplete_beta(1 - x, b, a);
  const auto away_from_zero = [](double v) { return std::fabs(v) < 1e-300 ? 1e-300 : v; };
  double c = 1, d = 1 / away_from_zero(1 - (a + b) * x / (a + 1)), fraction = d;
  for (int m = 1; m < 10000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away_from_zero(1 + even * d);
    c = away_from_zero(1 + even / c);
    fraction *= c * d;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away_from_zero(1 + odd * d);
    c = away_from_zero(1 + odd / c);
    fraction *= c * d;
    if (std::fabs(c * d - 1) < 1e-15) break;
  }
  const double log_front = std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x);
  return std::exp(log_front) * fraction / a;
}

// P(T > t) for t >= 0.
double student_t_tail(double t, double degrees) {
  return incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2;
}

}  // namespace

Spread spread(std::span<const double> values) {
  check(!values.empty(), "statistics", "no values");
  Spread s{.n = values.size()};
  const auto n = static_cast<double>(s.n);
  for (const double v : values) s.mean += v / n;
  if (s.n < 2) return s;
  double squares = 0;
  for (const double v : values) squares += (v - s.mean) * (v - s.mean);
  s.sd = std::sqrt(squares / (n - 1));
  return s;
}

double student_t_quantile(double probability, double degrees) {
  check(probability > 0 && probability < 1 && degrees > 0, "statistics", "Student's t has no quantile ", probability,
        " with ", degrees, " degrees of freedom");
  if (probability < 0.5) return -student_t_quantile(1 - probability, degrees);
  const double tail = 1 - probability;
  double low = 0, high = 1;
  while (student_t_tail(high, degrees) > tail) high *= 2;
  // Bisection to the last bit: slow and certain, and nobody waits for it.
  for (int i = 0; i < 200; ++i) {
    const double middle = (low + high) / 2;
    (student_t_tail(middle, degrees) > tail ? low : high) = middle;
  }
  return (low + high) / 2;
}

std::optional<Interval> confidence_interval(const Spread& values, double confidence) {
  if (!values.sd) return std::nullopt;
  const auto n = static_cast<double>(values.n);
  const double half = student_t_quantile(0.5 + confidence / 2, n - 1) * *values.sd / std::sqrt(n);
  return Interval{values.mean - half, values.mean + half};
}

}  // namespace duet::train
