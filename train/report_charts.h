#pragma once

#include <string>
#include <vector>

#include "duet/core/json.h"

// The report's charts as inline SVG. They take their colours from the page's style sheet (report_style.cpp), so that
// one chart serves light, dark and print. Data that a chart has nothing to draw from give an empty string.
namespace duet::train {

// The methods with a result, in the order they ran.
std::vector<std::string> report_methods(const Json& report);
// The finished cells of a method at the report's summary fraction.
std::vector<const Json*> report_cells(const Json& report, const std::string& method);
// The class that gives a method its colour, the same in every chart.
std::string method_class(const std::string& method);

// The difference of the strategies with its interval, around zero.
std::string interval_chart(const Json& comparison);
// Per method each seed's test accuracy and their mean, with the majority class as a line.
std::string dot_plot(const Json& report);
// Test accuracy against the fraction of labels, mean +- sd.
std::string fraction_chart(const Json& report);
// Whole minus component against the fraction of labels, with intervals.
std::string difference_chart(const Json& report);
// Training and validation loss of one method's seeds; `highest` is the top of the axis, shared by all methods.
std::string loss_chart(const std::vector<const Json*>& cells, double highest);
double highest_loss(const Json& report);

// Confusion counts summed over cells; rows are the truth.
using Counts = std::vector<std::vector<double>>;
Counts summed_confusion(const std::vector<const Json*>& cells);
std::string heat_map(const Counts& counts, const std::vector<std::string>& labels);

// Horizontal bars, one per row, of segments that add up.
struct BarSegment {
  double value = 0;
  std::string style;  // CSS class of the shade
  std::string title;
};
struct BarRow {
  std::string label, style, value;  // style: the method's class; value: written behind the bar
  std::vector<BarSegment> segments;
};
std::string stacked_bars(const std::vector<BarRow>& rows, const std::string& title);

}  // namespace duet::train
