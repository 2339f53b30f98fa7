#include <algorithm>
#include <cmath>
#include <map>

#include "duet/core/file.h"
#include "duet/train/report.h"
#include "duet/train/report_charts.h"
#include "duet/train/report_style.h"
#include "duet/train/report_text.h"

namespace duet::train {
namespace {

std::string string_at(const Json& object, const std::string& key) {
  const Json& value = child(object, key);
  return value.is_string() ? value.get<std::string>() : "";
}

// Text from the data: its own direction, so that right-to-left words do not reorder what stands around them.
std::string foreign(const std::string& value, size_t width = 240) {
  return "<bdi>" + escape_html(shorten(value, width)) + "</bdi>";
}

std::string method_html(const std::string& method) {
  return text("<span class=\"swatch ", method_class(method), "\"></span>",
              escape_html(shorten(method_words(method).name, 40)));
}

// A true minus sign, as wide as the plus.
std::string signed_points(double difference) {
  const std::string s = points(difference);
  return s.starts_with('-') ? "\u2212" + s.substr(1) : s;
}

std::string section(const std::string& id, const std::string& title, const std::string& note, const std::string& body) {
  if (body.empty()) return "";
  return text("<section id=\"", id, "\"><h2>", title, "</h2>", note.empty() ? "" : "<p class=\"note\">" + note + "</p>",
              body, "</section>\n");
}

std::string panel(const std::string& title, const std::string& body) {
  if (body.empty()) return "";
  return text("<figure class=\"panel\">", title.empty() ? "" : "<h3>" + title + "</h3>", body, "</figure>");
}

std::string method_legend(const Json& report) {
  std::string items;
  for (const std::string& method : report_methods(report)) items += "<li>" + method_html(method) + "</li>";
  return "<ul class=\"legend\">" + items + "</ul>";
}

std::string labels_words(const Json& report) {
  const double fraction = finite_number(report, "summary_fraction").value_or(1);
  return fraction >= 1 ? "all training labels" : significant(100 * fraction) + " % of the training labels";
}

std::string header(const Json& report) {
  const Json& dataset = child(report, "dataset");
  const std::string name = string_at(dataset, "name");
  std::string meta;
  const auto add = [&](const std::string& part) {
    if (!part.empty()) meta += (meta.empty() ? "" : " \u00B7 ") + part;
  };
  if (child(dataset, "labels").is_array()) add(text(dataset["labels"].size(), " classes"));
  for (const auto& [key, words] : {std::pair("train", " training"), {"validation", " validation"}, {"test", " test"}})
    if (const auto n = finite_number(dataset, key)) add(thousands(std::llround(*n)) + words);
  if (!string_at(report, "size").empty()) add("model size " + escape_html(string_at(report, "size")));
  add(escape_html(string_at(report, "created").substr(0, 10)));
  return text("<header><h1>Fine-tune jointly pretrained, or combine separately pretrained?",
              name.empty() ? "" : " \u2014 " + foreign(name, 80), "</h1><div class=\"meta\">", meta,
              "</div></header>\n");
}

std::string facts(const Json& report) {
  const Json& c = child(report, "comparison");
  const Json& dataset = child(report, "dataset");
  std::string out;
  const auto fact = [&](const std::string& name, const std::string& value, const std::string& more) {
    out +=
        text("<div><dt>", name, "</dt><dd>", value, more.empty() ? "" : "<small>" + more + "</small>", "</dd></div>");
  };
  const auto mean = [&](const char* m) { return finite_number(child(child(report, "summary"), m), "mean"); };
  for (const char* method : {"whole", "component"})
    if (mean(method))
      fact(method_html(method), percent(*mean(method)) + " %", text("test accuracy, ", labels_words(report)));
  // As the strategy ahead sees it, like the sentence above it.
  if (const auto d = finite_number(c, "difference")) {
    const double sign = *d < 0 ? -1 : 1;
    const auto low = finite_number(c, *d < 0 ? "high" : "low"), high = finite_number(c, *d < 0 ? "low" : "high");
    fact(*d == 0  ? "Difference"
         : *d > 0 ? "Lead of whole"
                  : "Lead of component",
         signed_points(sign * *d) + " points", "mean of the differences seed by seed");
    if (low && high)
      fact("95 % interval of the lead", text(signed_points(sign * *low), " to ", signed_points(sign * *high)),
           "Student\u2019s t over the seeds");
    else
      fact("95 % interval of the lead", "none", "one seed has no spread");
  }
  if (const auto n = finite_number(c, "n"); n && *n > 0)
    fact("Rests on", text(*n, *n == 1 ? " seed" : " seeds"),
         json_get<bool>(report, "share_pretraining", false) ? "shared pretraining" : "own pretraining for each");
  if (const auto n = finite_number(dataset, "test"))
    fact("Tested on", thousands(std::llround(*n)) + " samples", "never used in training");
  return out.empty() ? "" : "<dl class=\"facts\">" + out + "</dl>";
}

std::string decision(const Json& report) {
  const Json& c = child(report, "comparison");
  const std::string winner = string_at(c, "winner");
  const std::string headline = string_at(c, "headline");
  std::string recommendation = string_at(c, "recommendation");
  // The headline already says it.
  if (!headline.empty() && recommendation.starts_with(headline + ": ")) {
    recommendation.erase(0, headline.size() + 2);
    recommendation[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(recommendation[0])));
  }
  std::string cautions;
  for (const Json& caution : child(c, "cautions"))
    if (caution.is_string()) cautions += "<li>" + escape_html(caution.get<std::string>()) + "</li>";
  const std::string chart = interval_chart(c);
  return text("<div class=\"decision ", winner.empty() ? "" : method_class(winner), "\"><h2>",
              escape_html(headline.empty() ? "No comparison" : headline), "</h2><p class=\"why\">",
              escape_html(recommendation.empty() ? "The report holds no comparison." : recommendation), "</p>", chart,
              facts(report), cautions.empty() ? "" : "<ul class=\"cautions\">" + cautions + "</ul>", "</div>",
              "<div class=\"terms\"><p class=\"c0\"><b>whole</b>: the image and the text encoder are first pretrained "
              "together on unlabelled image\u2013text pairs, then the joint model is fine-tuned on the task.</p>"
              "<p class=\"c1\"><b>component</b>: each encoder is first pretrained alone on data of its own kind, then "
              "the two are combined under a new classifier and fine-tuned on the same task.</p></div>\n");
}

std::string accuracy_bar(const Json& report, const std::string& method, double mean) {
  const auto at = [](double accuracy) { return percent(std::clamp(accuracy, 0.0, 1.0), 2) + "%"; };
  std::string out = text("<div class=\"bar ", method_class(method), "\"><i style=\"width:", at(mean), "\"></i>");
  if (const auto m = finite_number(child(report, "dataset"), "majority_accuracy"))
    out += text("<s style=\"left:", at(*m), "\"></s>");
  out += text("<u style=\"left:", at(mean), "\"></u>");
  for (const Json* cell : report_cells(report, method)) {
    const double accuracy = *finite_number(*cell, "accuracy");
    out += text("<b style=\"left:", at(accuracy), "\" title=\"seed ", json_get<int64_t>(*cell, "seed", 0), ": ",
                percent(accuracy), " %\"></b>");
  }
  return out + "</div>";
}

// Mean of a number over the finished cells of a method, or a dash.
std::string cell_mean(const Json& report, const std::string& method, const char* key) {
  double sum = 0, n = 0;
  for (const Json* cell : report_cells(report, method))
    if (const auto v = finite_number(*cell, key)) {
      sum += *v;
      ++n;
    }
  return n == 0 ? "\u2013" : percent(sum / n);
}

std::string results_table(const Json& report) {
  const std::vector<std::string> methods = report_methods(report);
  if (methods.empty()) return "";
  std::string rows;
  for (const std::string& method : methods) {
    const Json& s = report["summary"][method];
    const double mean = s.at("mean");
    const auto sd = finite_number(s, "sd");
    rows += text("<tr><th scope=\"row\">", method_html(method), "<small class=\"under\">",
                 escape_html(method_words(method).description), "</small></th><td><b>", percent(mean), "</b>",
                 sd ? " \u00B1 " + percent(*sd) : "", "</td><td class=\"barcell\">", accuracy_bar(report, method, mean),
                 "</td><td>", cell_mean(report, method, "macro_f1"), "</td><td>", cell_mean(report, method, "top5"),
                 "</td><td>", s.value("n", 0), "</td></tr>");
  }
  const auto majority = finite_number(child(report, "dataset"), "majority_accuracy");
  if (majority)
    rows += text(
        "<tr><th scope=\"row\"><span class=\"swatch none\"></span>majority class<small class=\"under\">always the most "
        "frequent label</small></th><td><b>",
        percent(*majority), "</b></td><td></td><td></td><td></td><td></td></tr>");
  return text(
      "<div class=\"panel scroll\"><table><thead><tr><th>method</th><th>mean \u00B1 sd</th><th class=\"barcell "
      "left\">test accuracy, %<div class=\"scalebar\"><span style=\"left:0\">0</span><span style=\"left:25%\">25</span>"
      "<span style=\"left:50%\">50</span><span style=\"left:75%\">75</span><span "
      "style=\"left:100%\">100</span></div></th>"
      "<th>macro F1</th><th>top 5</th><th>seeds</th></tr></thead><tbody>",
      rows, "</tbody></table></div>");
}

std::string gains_table(const Json& report) {
  std::string rows;
  for (const Json& gain : child(report, "gains")) {
    const auto d = finite_number(gain, "difference"), low = finite_number(gain, "low"),
               high = finite_number(gain, "high");
    if (!d) continue;
    const std::string verdict = !low || !high ? "one seed shows nothing"
                                : *low > 0    ? "better"
                                : *high < 0   ? "worse"
                                              : "no difference shown";
    rows += text("<tr><th scope=\"row\">", method_html(string_at(gain, "method")), " <span class=\"against\">over ",
                 escape_html(method_words(string_at(gain, "baseline")).name), "</span></th><td><b>", signed_points(*d),
                 "</b></td><td>", low && high ? text(signed_points(*low), " to ", signed_points(*high)) : "\u2013",
                 "</td><td class=\"left\">", verdict, "</td></tr>");
  }
  if (rows.empty()) return "";
  return text(
      "<div class=\"panel scroll\" style=\"margin-top:20px\"><h3>What each strategy adds to the baselines</h3><table>"
      "<thead><tr><th>method over baseline</th><th>gain, points</th><th>95 % interval</th>"
      "<th class=\"left\">verdict</th></tr></thead><tbody>",
      rows, "</tbody></table></div>");
}

std::string fractions_section(const Json& report) {
  const std::string lines = fraction_chart(report);
  if (lines.empty())
    return section("accuracy", "Accuracy, seed by seed",
                   "Each circle is one seed, the bar their mean. The axis is cut to where the results lie.",
                   panel("", dot_plot(report)));
  return section(
      "fractions", "Accuracy against the amount of labels", "",
      method_legend(report) + "<div class=\"grid\">" +
          panel("Test accuracy",
                lines + "<figcaption>Mean over the seeds, with one standard deviation up and down.</figcaption>") +
          panel("Whole against component",
                difference_chart(report) +
                    "<figcaption>Paired difference with its 95 % interval, in colour where the interval "
                    "leaves out zero.</figcaption>") +
          "</div>");
}

std::string losses_section(const Json& report) {
  const double highest = highest_loss(report);
  std::string charts;
  for (const std::string& method : report_methods(report)) {
    const std::string chart = loss_chart(report_cells(report, method), highest);
    if (!chart.empty())
      charts += text("<figure class=\"panel ", method_class(method), "\"><h3>", method_html(method), "</h3>", chart,
                     "</figure>");
  }
  if (charts.empty()) return "";
  const auto key = [](const char* style, const char* words) {
    return text("<li class=\"neutral\"><svg viewBox=\"0 0 30 10\" aria-hidden=\"true\"><line class=\"", style,
                "\" x1=\"0\" y1=\"5\" x2=\"30\" y2=\"5\"/></svg>", words, "</li>");
  };
  return section("loss", "How the fine-tuning went",
                 "Cross-entropy per epoch with " + labels_words(report) +
                     ", one line per seed, all methods on the same axis. Validation that rises while training falls is "
                     "overfitting; the best validation result is what was tested.",
                 "<ul class=\"legend\">" + key("curve", "training") + key("curve dashed", "validation") +
                     "</ul><div class=\"grid small\">" + charts + "</div>");
}

std::string largest_mistakes(const Counts& counts, const std::vector<std::string>& labels) {
  struct Mistake {
    double count, share;
    size_t truth, taken_for;
  };
  std::vector<Mistake> mistakes;
  for (size_t i = 0; i < counts.size(); ++i) {
    double total = 0;
    for (const double v : counts[i]) total += v;
    for (size_t j = 0; j < counts.size(); ++j)
      if (i != j && counts[i][j] > 0) mistakes.push_back({counts[i][j], counts[i][j] / total, i, j});
  }
  std::stable_sort(mistakes.begin(), mistakes.end(),
                   [](const Mistake& a, const Mistake& b) { return a.count > b.count; });
  mistakes.resize(std::min<size_t>(mistakes.size(), 5));
  std::string items;
  const auto name = [&](size_t i) { return i < labels.size() ? foreign(labels[i], 32) : text("class ", i); };
  for (const Mistake& m : mistakes)
    items += text("<li><span><b>", name(m.truth), "</b> taken for <b>", name(m.taken_for), "</b></span><span>",
                  thousands(std::llround(m.count)), " (", percent(m.share, 0), " % of them)</span></li>");
  if (items.empty()) return "<p class=\"note\">No mistakes.</p>";
  return "<ul class=\"mistakes\">" + items + "</ul>";
}

std::string confusion_section(const Json& report) {
  std::vector<std::string> labels;
  for (const Json& label : child(child(report, "dataset"), "labels"))
    labels.push_back(label.is_string() ? label.get<std::string>() : label.dump());
  std::string strategies, others;
  for (const std::string& method : report_methods(report)) {
    const Counts counts = summed_confusion(report_cells(report, method));
    if (counts.empty()) continue;
    const bool strategy = method == "whole" || method == "component";
    (strategy ? strategies : others) +=
        text("<figure class=\"panel ", method_class(method), "\"><h3>", method_html(method),
             "</h3><div class=\"scroll matrix\">", heat_map(counts, labels), "</div>", largest_mistakes(counts, labels),
             "</figure>");
  }
  if (strategies.empty()) std::swap(strategies, others);
  if (strategies.empty()) return "";
  std::string body = "<div class=\"grid\">" + strategies + "</div>";
  if (!others.empty())
    body += "<details><summary>The baselines\u2019 confusion matrices</summary><div class=\"grid\">" + others +
            "</div></details>";
  return section(
      "confusion", "Which classes are taken for which",
      "Test samples of all seeds together. Rows are the true class, columns the prediction; the stronger the "
      "colour, the larger the share of the row. Red is a mistake. Below, the most frequent ones." +
          std::string(labels.size() > 36 ? " Classes are in the order of the data set." : ""),
      body);
}

const char* stage_shade(const std::string& stage) {
  if (stage == "finetune") return "full";
  return stage == "pretrain-text" ? "half" : "third";
}

std::string stage_words(std::string stage) {
  if (stage == "finetune") return "fine-tuning";
  if (stage.starts_with("pretrain-")) return stage.substr(9) + " pretraining";
  return stage;
}

std::string cost_bars(const Json& report, const std::string& title, const char* key, const auto& write, bool adds_up) {
  std::vector<BarRow> rows;
  for (const auto& [method, cost] : child(report, "costs").items()) {
    const auto total = finite_number(cost, key);
    if (!total) continue;
    BarRow row{method_words(method).name, method_class(method), write(*total), {}};
    if (adds_up)
      for (const Json& stage : child(cost, "stages"))
        if (const auto v = finite_number(stage, key)) {
          const std::string name = string_at(stage, "stage");
          row.segments.push_back({*v, stage_shade(name), stage_words(name) + ": " + write(*v)});
        }
    if (row.segments.empty()) row.segments.push_back({*total, "full", ""});
    rows.push_back(row);
  }
  return panel(title, stacked_bars(rows, title));
}

std::string cost_section(const Json& report) {
  double most = 0;
  for (const auto& [method, cost] : child(report, "costs").items())
    most = std::max(most, finite_number(cost, "flops").value_or(0));
  const Unit unit = flop_unit(most);
  const auto count = [](double v) { return thousands(std::llround(v)); };
  const auto flops = [&](double v) { return significant(v / unit.size); };
  const std::string charts = cost_bars(report, text("Compute, ", unit.name), "flops", flops, true) +
                             cost_bars(report, "Time", "seconds", duration, true) +
                             cost_bars(report, "Samples seen", "samples_seen", count, true) +
                             cost_bars(report, "Peak memory", "peak_rss_bytes", byte_size, false);
  if (charts.empty()) return "";
  std::string rows;
  for (const auto& [method, cost] : child(report, "costs").items()) {
    const auto row = [&](const std::string& first, const std::string& stage, const Json& j) {
      const auto value = [&](const char* key, const auto& write) {
        const auto v = finite_number(j, key);
        return "<td>" + (v ? write(*v) : std::string("\u2013")) + "</td>";
      };
      rows += text("<tr>", first, "<td class=\"left\">", stage, "</td>", value("samples_seen", count),
                   value("flops", flops), value("seconds", duration), value("peak_rss_bytes", byte_size), "</tr>");
    };
    std::string first = "<th scope=\"row\">" + method_html(method) + "</th>";
    for (const Json& stage : child(cost, "stages")) {
      const bool shared = json_get<bool>(stage, "shared", false);
      row(first, escape_html(stage_words(string_at(stage, "stage"))) + (shared ? " (shared)" : ""), stage);
      first = "<th class=\"same\"></th>";
    }
    if (child(cost, "stages").size() != 1) row(first, "<b>together</b>", cost);
  }
  const auto key = [](const char* shade, const char* words) {
    return text("<li class=\"neutral\"><svg viewBox=\"0 0 30 10\" aria-hidden=\"true\"><rect class=\"", shade,
                "\" width=\"30\" height=\"10\"/></svg>", words, "</li>");
  };
  const std::string shared =
      json_get<bool>(report, "share_pretraining", false)
          ? " Shared pretraining: it ran once for all seeds and is counted in full for each method."
          : "";
  return section(
      "cost", "What it cost",
      "Per seed, with " + labels_words(report) +
          ", mean over the seeds. Compute counts the matrix products of training." + shared,
      "<ul class=\"legend\">" + key("third", "joint or vision pretraining") + key("half", "text pretraining") +
          key("full", "fine-tuning") + "</ul><div class=\"grid\">" + charts +
          "</div><div class=\"panel scroll\" style=\"margin-top:20px\"><table "
          "class=\"dense\"><thead><tr><th>method</th><th "
          "class=\"left\">stage</th><th>samples seen</th><th>" +
          unit.name + "</th><th>time</th><th>peak memory</th></tr></thead><tbody>" + rows + "</tbody></table></div>");
}

bool is_base64(const std::string& s) {
  return !s.empty() && std::all_of(s.begin(), s.end(),
                                   [](unsigned char c) { return std::isalnum(c) || c == '+' || c == '/' || c == '='; });
}

// The same test samples for both strategies, side by side.
std::string samples_section(const Json& report) {
  std::vector<const Json*> order;
  std::map<std::string, std::vector<std::pair<std::string, const Json*>>> verdicts;
  for (const Json& cell : child(report, "cells"))
    for (const Json& p : child(cell, "predictions")) {
      auto& list = verdicts[string_at(p, "id")];
      if (list.empty()) order.push_back(&p);
      list.emplace_back(string_at(cell, "method"), &p);
    }
  std::string cards;
  for (const Json* sample : order) {
    const std::string truth = string_at(*sample, "label"), words = string_at(*sample, "text");
    const std::string image = string_at(*sample, "image_png_base64");
    std::string lines;
    for (const auto& [method, p] : verdicts[string_at(*sample, "id")]) {
      const std::string predicted = string_at(*p, "predicted");
      const auto probability = finite_number(*p, "probability");
      lines += text("<li>", method_html(method), ": ", foreign(predicted, 40), " <span class=\"together\">",
                    predicted == truth ? "<span class=\"right\">\u2713</span>" : "<span class=\"wrong\">\u2717</span>",
                    probability ? text(" <span class=\"meta\">", percent(*probability, 0), " %</span>") : "",
                    "</span></li>");
    }
    cards += text("<div class=\"panel sample\">",
                  is_base64(image)
                      ? text("<img alt=\"\" width=\"88\" height=\"88\" src=\"data:image/png;base64,", image, "\">")
                      : "<div class=\"noimage\">no image</div>",
                  "<div><p dir=\"auto\">",
                  words.empty() ? "<span class=\"meta\">no text</span>" : escape_html(shorten(words, 180)),
                  "</p><ul><li><span class=\"meta\">true class</span> <b>", foreign(truth, 40), "</b></li>", lines,
                  "</ul></div></div>");
  }
  if (cards.empty()) return "";
  return section(
      "samples", "A few test samples",
      "Chosen by a hash of their name, not by how well they went. The percentage is the model\u2019s own probability.",
      "<div class=\"samples\">" + cards + "</div>");
}

std::string setting(const Json& value) {
  if (value.is_null()) return "\u2013";
  if (value.is_string()) return value.get<std::string>().empty() ? "\u2013" : foreign(value.get<std::string>());
  if (value.is_array()) {
    std::string list;
    for (const Json& v : value) list += (list.empty() ? "" : ", ") + setting(v);
    return list.empty() ? "\u2013" : list;
  }
  if (value.is_object()) {
    std::string list;
    for (const auto& [key, v] : value.items()) list += (list.empty() ? "" : "; ") + escape_html(key) + " " + setting(v);
    return list.empty() ? "\u2013" : list;
  }
  std::string number = value.dump();
  if (number.ends_with(".0")) number.resize(number.size() - 2);
  return escape_html(number);
}

std::string settings_section(const Json& report) {
  const Json& config = child(report, "config");
  if (!config.is_object() || config.empty()) return "";
  std::vector<std::string> stages;
  std::vector<std::string> options;
  std::string general;
  for (const auto& [key, value] : config.items()) {
    if (key == "finetune" || key.starts_with("pretrain_")) {
      stages.push_back(key);
      if (value.is_object())
        for (const auto& [option, unused] : value.items())
          if (std::find(options.begin(), options.end(), option) == options.end()) options.push_back(option);
    } else {
      general +=
          text("<tr><th scope=\"row\">", escape_html(key), "</th><td class=\"left\">", setting(value), "</td></tr>");
    }
  }
  std::string body = "<div class=\"panel scroll settings\"><table><tbody>" + general + "</tbody></table></div>";
  if (!options.empty()) {
    std::string head = "<th>option</th>", rows;
    for (const std::string& stage : stages) head += "<th>" + escape_html(stage) + "</th>";
    for (const std::string& option : options) {
      rows += "<tr><th scope=\"row\">" + escape_html(option) + "</th>";
      for (const std::string& stage : stages) rows += "<td>" + setting(child(config[stage], option)) + "</td>";
      rows += "</tr>";
    }
    body +=
        "<details open><summary>Training options of each stage</summary><div class=\"panel scroll "
        "settings\"><table><thead><tr>" +
        head + "</tr></thead><tbody>" + rows + "</tbody></table></div></details>";
  }
  return section("settings", "Settings", "", body);
}

std::string repeat_section(const Json& report) {
  const std::string command = string_at(report, "command");
  if (command.empty()) return "";
  // Lines break between options, not after the dashes of one; the text stays the command as typed.
  std::string options;
  for (size_t start = 0; start < command.size();) {
    const size_t next = std::min(command.find(" --", start), command.size());
    options += text(start == 0 ? "" : " ", "<span class=\"option\">", escape_html(command.substr(start, next - start)),
                    "</span>");
    start = next + 1;
  }
  return section("repeat", "Repeat it", "The same seeds, machine and thread count give the same numbers.",
                 "<pre>" + options + "</pre>");
}

std::string footer(const Json& report) {
  std::string parts;
  const auto add = [&](const std::string& words, const char* key) {
    const std::string value = string_at(report, key);
    if (!value.empty()) parts += (parts.empty() ? "" : " \u00B7 ") + words + escape_html(value);
  };
  add("duet ", "duet_version");
  add("", "machine");
  add("", "created");
  return "<footer><div>" + parts + "</div></footer>\n";
}

}  // namespace

std::string report_html(const Json& report) {
  const std::string name = string_at(child(report, "dataset"), "name");
  std::string page = text(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\"><title>duet "
      "compare",
      name.empty() ? "" : ": " + escape_html(shorten(name, 60)), "</title><style>", report_style,
      "</style></head>\n<body>");
  page += header(report) + "<main>" + decision(report);
  page += section("results", "Results",
                  "Test accuracy with " + labels_words(report) +
                      ": the bar is the mean, circles are the seeds, the dashed line is the majority class.",
                  results_table(report) + gains_table(report));
  page += fractions_section(report) + losses_section(report) + confusion_section(report) + cost_section(report) +
          samples_section(report) + settings_section(report) + repeat_section(report);
  return page + "</main>\n" + footer(report) + "</body></html>\n";
}

void write_report_html(const Json& report, const std::string& path) {
  write_file_atomically(path, report_html(report));
}

}  // namespace duet::train
