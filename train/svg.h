#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace duet::train {

// Builds one inline <svg>. Coordinates are pixels of the view box; classes refer to the page's style sheet. Texts and
// titles are escaped here.
class Svg {
 public:
  // `title` is what a screen reader says.
  Svg(double width, double height, std::string_view title);

  void open_group(std::string_view classes);
  void close_group();
  void line(double x1, double y1, double x2, double y2, std::string_view classes);
  // `title` becomes a tooltip.
  void rect(double x, double y, double width, double height, std::string_view classes, double opacity = 1,
            std::string_view title = {});
  void circle(double x, double y, double radius, std::string_view classes, std::string_view title = {});
  void polyline(const std::vector<std::pair<double, double>>& points, std::string_view classes);
  // anchor: start, middle or end. A rotated text reads upwards.
  void text(double x, double y, std::string_view text, std::string_view anchor = "start",
            std::string_view classes = "label", bool rotated = false);
  std::string str() const;

 private:
  std::string head_, body_;
};

// A linear map from data to pixels.
struct Scale {
  double low, high, from, to;
  double operator()(double value) const { return from + (value - low) / (high - low) * (to - from); }
};

// About `count` round values that cover [low, high]; the first and last are the ends of the axis.
std::vector<double> axis_ticks(double low, double high, int count);
// The ticks of one axis written alike: as many decimals as their step needs.
std::string tick_label(double value, const std::vector<double>& ticks);

}  // namespace duet::train
