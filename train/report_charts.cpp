#include "duet/train/report_charts.h"

#include <algorithm>
#include <cmath>

#include "duet/train/report_text.h"
#include "duet/train/svg.h"

namespace duet::train {
namespace {

// Accuracies are drawn in per cent.
struct Axis {
  std::vector<double> ticks;
  double low() const { return ticks.front(); }
  double high() const { return ticks.back(); }
};

Axis percent_axis(double low, double high, int count) {
  const double margin = std::max(1.0, 0.06 * (high - low));
  Axis axis{axis_ticks(std::max(0.0, low - margin), std::min(100.0, high + margin), count)};
  return axis;
}

std::optional<double> majority(const Json& report) {
  const auto m = finite_number(child(report, "dataset"), "majority_accuracy");
  return m ? std::optional(100 * *m) : std::nullopt;
}

// Fractions on a logarithmic axis, at least 10 % of the width apart, else their labels would collide.
std::vector<double> fraction_positions(const Json& fractions, double from, double to) {
  std::vector<double> x;
  const double first = std::log(fractions.front().at("fraction").get<double>());
  const double span = std::log(fractions.back().at("fraction").get<double>()) - first;
  const double least = std::min(0.1, 0.9 / static_cast<double>(fractions.size()));
  for (const Json& f : fractions) {
    double at = span > 0 ? (std::log(f.at("fraction").get<double>()) - first) / span : 0.5;
    if (!x.empty()) at = std::max(at, x.back() + least);
    x.push_back(at);
  }
  const double last = std::max(1.0, x.back());
  for (double& v : x) v = from + v / last * (to - from);
  return x;
}

std::string signed_tick_label(double value, const std::vector<double>& ticks) {
  return text(value > 1e-9 ? "+" : "", tick_label(value, ticks));
}

// At least two fractions, or none.
const Json& drawable_fractions(const Json& report) {
  static const Json none = Json::array();
  const Json& fractions = child(report, "fractions");
  for (const Json& f : fractions)
    if (finite_number(f, "fraction").value_or(0) <= 0) return none;
  return fractions.size() < 2 ? none : fractions;
}

void horizontal_grid(Svg& svg, const Axis& axis, const Scale& y, double left, double right) {
  for (const double t : axis.ticks) {
    svg.line(left, y(t), right, y(t), "tick");
    svg.text(left - 8, y(t) + 4, tick_label(t, axis.ticks), "end");
  }
}

void fraction_axis(Svg& svg, const Json& fractions, const std::vector<double>& x, double y, double middle) {
  for (size_t i = 0; i < x.size(); ++i) {
    const double f = 100 * fractions[i].at("fraction").get<double>();
    svg.line(x[i], y, x[i], y + 5, "axis");
    svg.text(x[i], y + 19, (f == std::round(f) ? thousands(std::llround(f)) : significant(f)) + " %", "middle");
  }
  svg.text(middle, y + 38, "share of the training labels", "middle", "label title");
}

}  // namespace

std::vector<std::string> report_methods(const Json& report) {
  std::vector<std::string> methods;
  for (const auto& [method, s] : child(report, "summary").items())
    if (finite_number(s, "mean")) methods.push_back(method);
  return methods;
}

std::vector<const Json*> report_cells(const Json& report, const std::string& method) {
  std::vector<const Json*> cells;
  const auto fraction = finite_number(report, "summary_fraction");
  for (const Json& cell : child(report, "cells"))
    if (json_get<std::string>(cell, "method", "") == method && json_get<double>(cell, "fraction", 1) == fraction &&
        finite_number(cell, "accuracy"))
      cells.push_back(&cell);
  return cells;
}

std::string method_class(const std::string& method) {
  constexpr const char* known[] = {"whole", "component", "image-only", "text-only", "concat-scratch"};
  for (size_t i = 0; i < std::size(known); ++i)
    if (method == known[i]) return text('c', i);
  return "c5";
}

std::string interval_chart(const Json& comparison) {
  const auto difference = finite_number(comparison, "difference");
  if (!difference) return "";
  const double d = 100 * *difference;
  const double low = 100 * finite_number(comparison, "low").value_or(*difference);
  const double high = 100 * finite_number(comparison, "high").value_or(*difference);
  const double reach = 1.15 * std::max({std::fabs(low), std::fabs(high), 1.0});
  const std::vector<double> ticks = axis_ticks(-reach, reach, 6);
  constexpr double width = 460, left = 14, right = 446, bar = 44, base = 68;
  const Scale x{ticks.front(), ticks.back(), left, right};
  Svg svg(width, 110, "Difference between whole and component with its 95 % interval");
  svg.text(0, 14, "\u2190 component ahead", "start", "label strong c1 ink");
  svg.text(width, 14, "whole ahead \u2192", "end", "label strong c0 ink");
  for (const double t : ticks) {
    svg.line(x(t), 24, x(t), base, std::fabs(t) < 1e-9 ? "zero" : "tick");
    svg.text(x(t), base + 16, signed_tick_label(t, ticks), "middle");
  }
  svg.text((left + right) / 2, base + 34, "whole minus component, points of test accuracy", "middle", "label title");
  const std::string winner = json_get<std::string>(comparison, "winner", "");
  svg.open_group(winner.empty() ? "neutral" : method_class(winner));
  if (!child(comparison, "low").is_null()) {
    svg.line(x(low), bar, x(high), bar, "interval");
    svg.line(x(low), bar - 8, x(low), bar + 8, "whisker");
    svg.line(x(high), bar - 8, x(high), bar + 8, "whisker");
  }
  svg.circle(x(d), bar, 7, "dot", points(*difference) + " points");
  svg.close_group();
  return svg.str();
}

std::string dot_plot(const Json& report) {
  const std::vector<std::string> methods = report_methods(report);
  if (methods.empty()) return "";
  double least = 100, most = 0;
  const auto include = [&](double v) {
    least = std::min(least, v);
    most = std::max(most, v);
  };
  if (const auto m = majority(report)) include(*m);
  for (const std::string& method : methods)
    for (const Json* cell : report_cells(report, method)) include(100 * *finite_number(*cell, "accuracy"));
  const Axis axis = percent_axis(least, most, 5);
  const double row = 34, top = 26, left = 158, right = 420, bottom = top + row * static_cast<double>(methods.size());
  const Scale x{axis.low(), axis.high(), left, right};
  Svg svg(466, bottom + 44, "Test accuracy of every seed by method");
  for (const double t : axis.ticks) {
    svg.line(x(t), top, x(t), bottom, "tick");
    svg.text(x(t), bottom + 17, tick_label(t, axis.ticks), "middle");
  }
  svg.text((left + right) / 2, bottom + 36, "test accuracy, %", "middle", "label title");
  if (const auto m = majority(report)) {
    svg.line(x(*m), top - 6, x(*m), bottom, "majority");
    const bool near_end = x(*m) > (left + right) / 2;
    svg.text(x(*m) + (near_end ? 4 : -4), top - 10, "majority class " + percent(*m / 100) + " %",
             near_end ? "end" : "start");
  }
  for (size_t i = 0; i < methods.size(); ++i) {
    const double y = top + row * (static_cast<double>(i) + 0.5);
    const double mean = 100 * report["summary"][methods[i]].at("mean").get<double>();
    svg.text(left - 12, y + 4, shorten(method_words(methods[i]).name, 19), "end", "label strong");
    svg.open_group(method_class(methods[i]));
    svg.line(x(mean), y - 10, x(mean), y + 10, "mean");
    for (const Json* cell : report_cells(report, methods[i])) {
      const double accuracy = *finite_number(*cell, "accuracy");
      svg.circle(x(100 * accuracy), y, 5, "seed",
                 text("seed ", json_get<int64_t>(*cell, "seed", 0), ": ", percent(accuracy), " %"));
    }
    svg.close_group();
    svg.text(right + 14, y + 4, percent(mean / 100), "start", "label strong");
  }
  return svg.str();
}

std::string fraction_chart(const Json& report) {
  const Json& fractions = drawable_fractions(report);
  if (fractions.empty()) return "";
  double least = 100, most = 0;
  for (const Json& f : fractions)
    for (const auto& [method, s] : child(f, "methods").items()) {
      const double mean = 100 * finite_number(s, "mean").value_or(NAN), sd = 100 * finite_number(s, "sd").value_or(0);
      if (std::isnan(mean)) continue;
      least = std::min(least, mean - sd);
      most = std::max(most, mean + sd);
    }
  if (const auto m = majority(report)) {
    least = std::min(least, *m);
    most = std::max(most, *m);
  }
  if (least > most) return "";
  const Axis axis = percent_axis(least, most, 5);
  constexpr double left = 44, right = 430, top = 28, bottom = 258;
  const Scale y{axis.low(), axis.high(), bottom, top};
  Svg svg(440, 304, "Test accuracy against the share of the training labels");
  horizontal_grid(svg, axis, y, left, right);
  svg.text(4, 13, "test accuracy, %", "start", "label title");
  const std::vector<double> x = fraction_positions(fractions, left + 30, right - 30);
  fraction_axis(svg, fractions, x, bottom, (left + right) / 2);
  if (const auto m = majority(report)) {
    svg.line(left, y(*m), right, y(*m), "majority");
    svg.text(right, y(*m) - 5, "majority class", "end");
  }
  const std::vector<std::string> methods = report_methods(report);
  for (size_t k = 0; k < methods.size(); ++k) {
    // Side by side, so that error bars do not hide each other.
    const double dodge = 5 * (static_cast<double>(k) - static_cast<double>(methods.size() - 1) / 2);
    std::vector<std::pair<double, double>> means;
    svg.open_group(method_class(methods[k]));
    for (size_t i = 0; i < fractions.size(); ++i) {
      const Json& s = child(child(fractions[i], "methods"), methods[k]);
      const auto mean = finite_number(s, "mean");
      if (!mean) continue;
      const double at = x[i] + dodge, sd = finite_number(s, "sd").value_or(0);
      if (sd > 0) svg.line(at, y(100 * (*mean - sd)), at, y(100 * (*mean + sd)), "whisker");
      means.emplace_back(at, y(100 * *mean));
    }
    svg.polyline(means, "series");
    for (const auto& [px, py] : means) svg.circle(px, py, 4, "dot", method_words(methods[k]).name);
    svg.close_group();
  }
  return svg.str();
}

std::string difference_chart(const Json& report) {
  const Json& fractions = drawable_fractions(report);
  if (fractions.empty()) return "";
  double least = -1, most = 1;
  bool any = false;
  for (const Json& f : fractions)
    for (const char* key : {"difference", "low", "high"})
      if (const auto v = finite_number(child(f, "comparison"), key)) {
        any = true;
        least = std::min(least, 100 * *v);
        most = std::max(most, 100 * *v);
      }
  if (!any) return "";
  const Axis axis{axis_ticks(least * 1.1, most * 1.1, 5)};
  constexpr double left = 44, right = 430, top = 28, bottom = 258;
  const Scale y{axis.low(), axis.high(), bottom, top};
  Svg svg(440, 304, "Difference between whole and component against the share of the training labels");
  for (const double t : axis.ticks) {
    svg.line(left, y(t), right, y(t), std::fabs(t) < 1e-9 ? "zero" : "tick");
    svg.text(left - 8, y(t) + 4, signed_tick_label(t, axis.ticks), "end");
  }
  svg.text(4, 13, "whole minus component, points", "start", "label title");
  svg.text(right, y(0) - 7, "whole ahead \u2191", "end", "label c0 ink");
  svg.text(right, y(0) + 16, "component ahead \u2193", "end", "label c1 ink");
  const std::vector<double> x = fraction_positions(fractions, left + 30, right - 136);
  fraction_axis(svg, fractions, x, bottom, (left + right) / 2);
  for (size_t i = 0; i < fractions.size(); ++i) {
    const Json& c = child(fractions[i], "comparison");
    const auto d = finite_number(c, "difference"), low = finite_number(c, "low"), high = finite_number(c, "high");
    if (!d) continue;
    const bool shown = low && high && (*low > 0 || *high < 0);
    svg.open_group(!shown ? "neutral" : *d > 0 ? "c0" : "c1");
    if (low && high) {
      svg.line(x[i], y(100 * *low), x[i], y(100 * *high), "whisker");
      for (const double end : {*low, *high}) svg.line(x[i] - 7, y(100 * end), x[i] + 7, y(100 * end), "whisker");
    }
    svg.circle(x[i], y(100 * *d), 5.5, "dot", points(*d) + " points");
    svg.text(x[i] + 12, y(100 * *d) + 4, points(*d), "start", "label strong ink");
    svg.close_group();
  }
  return svg.str();
}

namespace {

std::vector<double> curve(const Json& cell, const char* key) {
  std::vector<double> values;
  for (const Json& v : child(cell, key))
    values.push_back(v.is_number() && std::isfinite(v.get<double>()) ? v.get<double>() : NAN);
  return values;
}

}  // namespace

double highest_loss(const Json& report) {
  double highest = 0;
  for (const std::string& method : report_methods(report))
    for (const Json* cell : report_cells(report, method))
      for (const char* key : {"loss_per_epoch", "validation_loss_per_epoch"})
        for (const double v : curve(*cell, key))
          if (v > highest) highest = v;
  return highest;
}

std::string loss_chart(const std::vector<const Json*>& cells, double highest) {
  size_t epochs = 0;
  for (const Json* cell : cells) epochs = std::max(epochs, curve(*cell, "loss_per_epoch").size());
  if (epochs == 0 || highest <= 0) return "";
  constexpr double left = 38, right = 312, top = 12, bottom = 168;
  const std::vector<double> ticks = axis_ticks(0, highest, 4);
  const Scale y{0, ticks.back(), bottom, top};
  // The axis starts where nothing is trained yet; a point stands at the end of its epoch.
  const Scale x{0, static_cast<double>(epochs), left, right};
  Svg svg(320, 206, "Training and validation loss by epoch");
  for (const double t : ticks) {
    svg.line(left, y(t), right, y(t), "tick");
    svg.text(left - 7, y(t) + 4, tick_label(t, ticks), "end");
  }
  for (const double t : axis_ticks(0, static_cast<double>(epochs), 4))
    if (t <= static_cast<double>(epochs) && t == std::round(t))
      svg.text(x(t), bottom + 16, thousands(std::llround(t)), "middle");
  svg.text((left + right) / 2, bottom + 34, "epoch", "middle", "label title");
  for (const Json* cell : cells) {
    for (const auto& [key, style] :
         {std::pair("loss_per_epoch", "curve"), {"validation_loss_per_epoch", "curve dashed"}}) {
      const std::vector<double> values = curve(*cell, key);
      // Validations need not come once per epoch: they are spread over the training they cover.
      const double last = static_cast<double>(curve(*cell, "loss_per_epoch").size());
      std::vector<std::pair<double, double>> points;
      for (size_t i = 0; i < values.size(); ++i) {
        const double at = last * static_cast<double>(i + 1) / static_cast<double>(values.size());
        if (std::isfinite(values[i])) points.emplace_back(x(at), y(std::max(0.0, values[i])));
      }
      if (points.size() == 1) svg.circle(points[0].first, points[0].second, 3, "dot");
      if (points.size() > 1) svg.polyline(points, style);
    }
  }
  return svg.str();
}

Counts summed_confusion(const std::vector<const Json*>& cells) {
  Counts sum;
  for (const Json* cell : cells) {
    const Json& rows = child(*cell, "confusion");
    if (!rows.is_array() || rows.empty()) continue;
    if (sum.empty()) sum.assign(rows.size(), std::vector<double>(rows.size()));
    if (rows.size() != sum.size()) continue;
    for (size_t i = 0; i < rows.size(); ++i)
      for (size_t j = 0; j < std::min(rows[i].size(), sum.size()); ++j) sum[i][j] += rows[i][j].get<double>();
  }
  return sum;
}

std::string heat_map(const Counts& counts, const std::vector<std::string>& labels) {
  const size_t n = counts.size();
  if (n == 0) return "";
  const double cell = std::clamp(400.0 / static_cast<double>(n), 4.0, 44.0);
  const bool named = cell >= 11 && labels.size() == n, numbered = cell >= 19;
  std::vector<std::string> names(n);
  double names_width = 0;
  for (size_t i = 0; named && i < n; ++i) {
    names[i] = shorten(labels[i], 20);
    names_width = std::max(names_width, 6.4 * static_cast<double>(display_width(names[i])));
  }
  const double left = 26 + names_width, top = 6, side = cell * static_cast<double>(n);
  Svg svg(std::max(left + side, left + 120) + 8, top + side + names_width + 30,
          "Confusion matrix: rows are the true class, columns the predicted one");
  svg.rect(left, top, side, side, "plate");
  for (size_t i = 0; i < n; ++i) {
    const auto row = static_cast<double>(i);
    double total = 0;
    for (const double v : counts[i]) total += v;
    if (named) {
      svg.text(left - 7, top + cell * (row + 0.5) + 4, names[i], "end");
      svg.text(left + cell * (row + 0.5) + 4, top + side + 7, names[i], "end", "label", true);
    }
    for (size_t j = 0; j < n; ++j) {
      if (counts[i][j] <= 0) continue;
      const double share = counts[i][j] / total, x = left + cell * static_cast<double>(j), y = top + cell * row;
      // The square root keeps rare mistakes visible.
      const double strength = std::max(0.06, std::sqrt(share));
      const std::string tooltip =
          named ? text(labels[i], " taken for ", labels[j], ": ", counts[i][j], " (", percent(share), " %)") : "";
      svg.rect(x + 0.5, y + 0.5, cell - 1, cell - 1, i == j ? "hit" : "miss", strength, tooltip);
      if (numbered)
        svg.text(x + cell / 2, y + cell / 2 + 3.5, thousands(std::llround(counts[i][j])), "middle",
                 strength > 0.62 ? "count inverse" : "count");
    }
  }
  svg.text(left + side / 2, top + side + names_width + 24, "predicted", "middle", "label title");
  svg.text(14, top + side / 2, "true class", "middle", "label title", true);
  return svg.str();
}

std::string stacked_bars(const std::vector<BarRow>& rows, const std::string& title) {
  double most = 0;
  for (const BarRow& row : rows) {
    double total = 0;
    for (const BarSegment& s : row.segments) total += s.value;
    most = std::max(most, total);
  }
  if (most <= 0) return "";
  constexpr double left = 158, right = 366, step = 26, height = 15;
  const Scale x{0, most, 0, right - left};
  Svg svg(450, step * static_cast<double>(rows.size()) + 6, title);
  for (size_t i = 0; i < rows.size(); ++i) {
    const double y = 4 + step * static_cast<double>(i);
    double at = left;
    svg.text(left - 10, y + 12, shorten(rows[i].label, 19), "end", "label strong");
    svg.open_group(rows[i].style);
    for (const BarSegment& s : rows[i].segments) {
      if (s.value <= 0) continue;
      svg.rect(at, y, std::max(1.0, x(s.value) - 1), height, s.style, 1, s.title);
      at += x(s.value);
    }
    svg.close_group();
    svg.text(at + 7, y + 12, rows[i].value, "start");
  }
  return svg.str();
}

}  // namespace duet::train
