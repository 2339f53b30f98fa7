#include <algorithm>
#include <cmath>

#include "duet/train/report.h"
#include "duet/train/report_text.h"

namespace duet::train {
namespace {

constexpr size_t line_width = 96;

// Rows of cells; the first column is left-aligned, the others right-aligned, each as wide as its widest cell.
std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) {
      if (widths.size() <= i) widths.push_back(0);
      widths[i] = std::max(widths[i], display_width(row[i]));
    }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i)
      line += i == 0 ? pad_right(row[i], widths[i]) : "   " + pad_left(row[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

// Standard deviations padded to one width, so that the means stand below each other.
std::string mean_and_sd(const Json& s, size_t sd_width) {
  const std::string mean = percent(s.at("mean"));
  if (sd_width == 0) return mean;
  return mean + (s.at("sd").is_null() ? std::string(4 + sd_width, ' ')
                                      : " +- " + pad_left(percent(s.at("sd").get<double>()), sd_width));
}

size_t widest_sd(const Json& methods) {
  size_t width = 0;
  for (const auto& [method, s] : methods.items())
    if (!s.at("sd").is_null()) width = std::max(width, percent(s.at("sd").get<double>()).size());
  return width;
}

std::string or_dash(const Json& object, const char* key, const auto& write) {
  const double value = json_get<double>(object, key, NAN);
  return std::isfinite(value) ? write(value) : "-";
}

std::string dataset_line(const Json& dataset) {
  const auto count = [&](const char* key) { return thousands(json_get<int64_t>(dataset, key, 0)); };
  return wrap(text(shorten(json_get<std::string>(dataset, "name", "unnamed"), 40), ": ",
                   json_get<Json>(dataset, "labels", Json::array()).size(), " classes, ", count("train"), " training, ",
                   count("validation"), " validation and ", count("test"), " test samples"),
              line_width);
}

std::string method_table(const Json& report) {
  double most_flops = 0;
  for (const auto& [method, cost] : report.at("costs").items())
    most_flops = std::max(most_flops, json_get<double>(cost, "flops", 0));
  const Unit unit = flop_unit(most_flops);
  std::vector<std::vector<std::string>> rows{
      {"method", "accuracy %", "macro F1 %", "seeds", "samples seen", unit.name, "time", "memory"}};
  const size_t sd = widest_sd(report.at("summary"));
  const Json& at_fraction = report.at("fractions").back().at("methods");
  for (const auto& [method, s] : report.at("summary").items()) {
    const Json& cost = report.at("costs").at(method);
    rows.push_back({shorten(method_words(method).name, 24), mean_and_sd(s, sd),
                    or_dash(at_fraction.at(method), "macro_f1", [](double v) { return percent(v); }),
                    std::to_string(s.at("n").get<size_t>()),
                    or_dash(cost, "samples_seen", [](double v) { return thousands(std::llround(v)); }),
                    or_dash(cost, "flops", [&](double v) { return significant(v / unit.size); }),
                    or_dash(cost, "seconds", [](double v) { return duration(v); }),
                    or_dash(cost, "peak_rss_bytes", [](double v) { return byte_size(v); })});
  }
  const Json dataset = json_get<Json>(report, "dataset", Json::object());
  const double majority = json_get<double>(dataset, "majority_accuracy", NAN);
  if (std::isfinite(majority))
    rows.push_back({"majority class", mean_and_sd({{"mean", majority}, {"sd", nullptr}}, sd)});
  return aligned(rows);
}

std::string fraction_table(const Json& report) {
  std::vector<std::vector<std::string>> rows{{"accuracy % with labels"}};
  for (const Json& f : report.at("fractions"))
    rows[0].push_back(significant(100 * f.at("fraction").get<double>()) + " %");
  for (const auto& [method, unused] : report.at("summary").items()) {
    rows.push_back({shorten(method_words(method).name, 24)});
    for (const Json& f : report.at("fractions"))
      rows.back().push_back(
          f.at("methods").contains(method) ? mean_and_sd(f["methods"][method], widest_sd(f["methods"])) : "-");
  }
  return aligned(rows);
}

}  // namespace

std::string comparison_table(const Json& report) {
  const Json& comparison = report.at("comparison");
  std::string out;
  if (report.contains("dataset")) out += dataset_line(report["dataset"]) + "\n\n";
  if (report.at("summary").empty()) {
    out += "no method has a result\n\n";
  } else {
    out += method_table(report) + "\n";
    const double fraction = report.at("summary_fraction");
    if (report.at("fractions").size() > 1) out += fraction_table(report) + "\n";
    if (fraction < 1)
      out += text("With ", significant(100 * fraction), " % of the training labels, the most that were run.\n");
  }
  const auto recommendation = comparison.at("recommendation").get<std::string>();
  out += wrap(recommendation, line_width) + "\n";
  for (const Json& caution : comparison.at("cautions"))
    out += wrap("Note: " + caution.get<std::string>(), line_width) + "\n";
  return out;
}

}  // namespace duet::train
