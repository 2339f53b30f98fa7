#include "duet/train/svg.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "duet/core/error.h"
#include "duet/train/report_text.h"

namespace duet::train {
namespace {

// Two decimals at most: a tenth of a pixel is not visible, and files stay small.
std::string coordinate(double v) {
  check(std::isfinite(v), "report", "a chart coordinate is not finite");
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%.2f", v);
  std::string s = buffer;
  s.erase(s.find_last_not_of('0') + 1);
  if (s.ends_with('.')) s.pop_back();
  return s == "-0" ? "0" : s;
}

std::string attribute(std::string_view name, double v) {
  return duet::text(' ', name, "=\"", coordinate(v), '"');
}

std::string attribute(std::string_view name, std::string_view v) {
  return v.empty() ? "" : duet::text(' ', name, "=\"", escape_html(v), '"');
}

std::string element(std::string_view name, const std::string& attributes, std::string_view title) {
  if (title.empty()) return duet::text('<', name, attributes, "/>");
  return duet::text('<', name, attributes, "><title>", escape_html(title), "</title></", name, '>');
}

}  // namespace

Svg::Svg(double width, double height, std::string_view title)
    : head_(duet::text("<svg viewBox=\"0 0 ", coordinate(width), ' ', coordinate(height), "\" style=\"max-width:",
                       coordinate(1.25 * width), "px\" role=\"img\"", attribute("aria-label", title), '>')) {}

void Svg::open_group(std::string_view classes) {
  body_ += duet::text("<g", attribute("class", classes), '>');
}

void Svg::close_group() {
  body_ += "</g>";
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view classes) {
  body_ += element("line",
                   attribute("class", classes) + attribute("x1", x1) + attribute("y1", y1) + attribute("x2", x2) +
                       attribute("y2", y2),
                   {});
}

void Svg::rect(double x, double y, double width, double height, std::string_view classes, double opacity,
               std::string_view title) {
  body_ += element("rect",
                   attribute("class", classes) + attribute("x", x) + attribute("y", y) + attribute("width", width) +
                       attribute("height", height) + (opacity < 1 ? attribute("fill-opacity", opacity) : ""),
                   title);
}

void Svg::circle(double x, double y, double radius, std::string_view classes, std::string_view title) {
  body_ += element(
      "circle", attribute("class", classes) + attribute("cx", x) + attribute("cy", y) + attribute("r", radius), title);
}

void Svg::polyline(const std::vector<std::pair<double, double>>& points, std::string_view classes) {
  std::string list;
  for (const auto& [x, y] : points) list += duet::text(list.empty() ? "" : " ", coordinate(x), ',', coordinate(y));
  body_ += element("polyline", attribute("class", classes) + attribute("points", list), {});
}

void Svg::text(double x, double y, std::string_view text, std::string_view anchor, std::string_view classes,
               bool rotated) {
  std::string attributes = attribute("class", classes);
  if (anchor != "start") attributes += attribute("text-anchor", anchor);
  attributes += rotated ? duet::text(" transform=\"translate(", coordinate(x), ' ', coordinate(y), ") rotate(-90)\"")
                        : attribute("x", x) + attribute("y", y);
  body_ += duet::text("<text", attributes, '>', escape_html(text), "</text>");
}

std::string Svg::str() const {
  return head_ + body_ + "</svg>";
}

std::vector<double> axis_ticks(double low, double high, int count) {
  if (high <= low) high = low + 1;
  const double raw = (high - low) / count, power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double nice : {5.0, 2.0, 1.0})
    if (nice * power >= raw * 0.999) step = nice * power;
  const auto first = static_cast<int64_t>(std::floor(low / step + 1e-9));
  const auto last = static_cast<int64_t>(std::ceil(high / step - 1e-9));
  std::vector<double> ticks;
  for (int64_t i = first; i <= last; ++i) ticks.push_back(static_cast<double>(i) * step);
  return ticks;
}

std::string tick_label(double value, const std::vector<double>& ticks) {
  const double step = ticks.size() > 1 ? ticks[1] - ticks[0] : 1;
  const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 9);
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%.*f", decimals, std::fabs(value) < step / 2 ? 0.0 : value);
  return buffer;
}

}  // namespace duet::train
