#include "duet/train/report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "duet/train/report_text.h"
#include "duet/train/statistics.h"

namespace duet::train {
namespace {

constexpr double confidence = 0.95;

// The cells by what they measured.
class Results {
 public:
  explicit Results(const Json& cells) {
    for (const Json& cell : cells) {
      const auto method = json_get<std::string>(cell, "method", "");
      if (std::find(methods_.begin(), methods_.end(), method) == methods_.end()) methods_.push_back(method);
      const double fraction = json_get<double>(cell, "fraction", 1);
      fractions_.insert(fraction);
      if (finite_number(cell, "accuracy"))
        by_seed_[{method, fraction}].emplace(json_get<int64_t>(cell, "seed", 0), &cell);
    }
  }

  const std::vector<std::string>& methods() const { return methods_; }  // in the order they ran
  const std::set<double>& fractions() const { return fractions_; }
  const std::map<int64_t, const Json*>& at(const std::string& method, double fraction) const {
    static const std::map<int64_t, const Json*> none;
    const auto it = by_seed_.find({method, fraction});
    return it == by_seed_.end() ? none : it->second;
  }

  std::vector<double> values(const std::string& method, double fraction, const std::string& key) const {
    std::vector<double> values;
    for (const auto& [seed, cell] : at(method, fraction))
      if (const auto v = finite_number(*cell, key)) values.push_back(*v);
    return values;
  }
  // a minus b for each seed that both have.
  std::vector<double> differences(const std::string& a, const std::string& b, double fraction) const {
    std::vector<double> differences;
    const auto& others = at(b, fraction);
    for (const auto& [seed, cell] : at(a, fraction))
      if (const auto other = others.find(seed); other != others.end())
        differences.push_back(*finite_number(*cell, "accuracy") - *finite_number(*other->second, "accuracy"));
    return differences;
  }

 private:
  std::vector<std::string> methods_;
  std::set<double> fractions_;
  std::map<std::pair<std::string, double>, std::map<int64_t, const Json*>> by_seed_;
};

Json optional_number(const std::optional<double>& value) {
  return value ? Json(*value) : Json();
}

Json spread_json(const std::vector<double>& values) {
  const Spread s = spread(values);
  return {{"mean", s.mean}, {"sd", optional_number(s.sd)}, {"n", s.n}};
}

Json mean_or_null(const std::vector<double>& values) {
  return values.empty() ? Json() : Json(spread(values).mean);
}

// {difference, low, high, n}; nulls where the data do not give a number.
Json paired(const std::vector<double>& differences) {
  Json result{{"difference", nullptr}, {"low", nullptr}, {"high", nullptr}, {"n", differences.size()}};
  if (differences.empty()) return result;
  const Spread s = spread(differences);
  result["difference"] = s.mean;
  if (const auto interval = confidence_interval(s, confidence)) {
    result["low"] = interval->low;
    result["high"] = interval->high;
  }
  return result;
}

// Stage by stage, what a method cost on average over its seeds.
Json cost_of(const std::map<int64_t, const Json*>& cells) {
  constexpr const char* keys[] = {"samples_seen", "flops", "seconds", "peak_rss_bytes"};
  Json stages = Json::array();
  std::map<std::string, std::map<std::string, std::vector<double>>> values;  // stage, key; "" is the whole cell
  for (const auto& [seed, cell] : cells) {
    for (const char* key : keys)
      if (const auto v = finite_number(*cell, key)) values[""][key].push_back(*v);
    for (const Json& stage : json_get<Json>(*cell, "stages", Json::array())) {
      const auto name = json_get<std::string>(stage, "stage", "");
      const bool known = std::any_of(stages.begin(), stages.end(), [&](const Json& s) { return s["stage"] == name; });
      if (!known) stages.push_back({{"stage", name}, {"shared", json_get<bool>(stage, "shared", false)}});
      for (const char* key : keys)
        if (const auto v = finite_number(stage, key)) values["stage " + name][key].push_back(*v);
    }
  }
  Json cost;
  for (const char* key : keys) cost[key] = mean_or_null(values[""][key]);
  for (Json& stage : stages)
    for (const char* key : keys) stage[key] = mean_or_null(values["stage " + stage["stage"].get<std::string>()][key]);
  cost["stages"] = stages;
  return cost;
}

std::string plural(size_t n, const std::string& word) {
  return text(n, " ", word, n == 1 ? "" : "s");
}

// "component scores 3.8 points above whole", and the interval as the one ahead sees it.
struct DifferenceWords {
  explicit DifferenceWords(const Json& c) {
    const double difference = c["difference"];
    const char* ahead = difference > 0 ? "whole" : "component";
    const char* behind = difference > 0 ? "component" : "whole";
    size = difference == 0 ? "whole and component score the same"
                           : text(ahead, " scores ", percent(std::fabs(difference)), " points above ", behind);
    if (c["low"].is_null()) return;
    const double low = c["low"], high = c["high"];
    interval = difference > 0 ? text("95 % interval ", points(low), " to ", points(high), " points")
                              : text("95 % interval ", points(-high), " to ", points(-low), " points");
  }
  std::string size, interval;
};

// What the cheaper strategy would save, for readers to whom the accuracies leave the choice.
std::string cheaper(const Json& costs) {
  const auto flops = [&](const char* method) { return json_get<double>(costs.at(method), "flops", 0); };
  const double whole = flops("whole"), component = flops("component");
  const double low = std::min(whole, component), high = std::max(whole, component);
  if (low <= 0 || high < 1.05 * low) return "";
  const Unit unit = flop_unit(high);
  return text(" The cheaper one here is ", whole < component ? "whole" : "component", ": ",
              significant(low / unit.size), " ", unit.name, " against ", significant(high / unit.size), ".");
}

Json cautions(const Json& c, const Json& summary, const Json& head) {
  Json list = Json::array();
  const auto say = [&](const auto&... parts) { list.push_back(text(parts...)); };
  const size_t n = c["n"];
  if (n >= 2 && c["low"] == c["high"])
    say("Every seed gave the same difference, so the interval has no width; a larger test set would tell more.");
  else if (n >= 2 && n < 5)
    say("With ", n, " seeds the interval is wide; more seeds narrow it.");
  if (json_get<bool>(head, "share_pretraining", false))
    say("Pretraining ran once and is shared by all seeds, so the interval leaves out how much pretraining itself "
        "varies.");
  // Somebody else's pretraining is neither counted nor comparable in its data.
  const Json given = json_get<Json>(head, "given_models", Json::object());
  for (const auto& [part, directory] : given.items())
    say("The pretrained model ", directory.get<std::string>(), " took the place of ", part,
        " pretraining; what it cost is not counted.");
  const Json dataset = json_get<Json>(head, "dataset", Json::object());
  const auto majority = finite_number(dataset, "majority_accuracy");
  const double best = std::max(summary["whole"]["mean"].get<double>(), summary["component"]["mean"].get<double>());
  if (majority && best <= *majority)
    say("Neither strategy beats always answering the most frequent class (", percent(*majority), " %).");
  for (const auto& [method, s] : summary.items())
    if (method != "whole" && method != "component" && s["mean"].get<double>() > best)
      say("The baseline ", method_words(method).name, " scores higher than both strategies (",
          percent(s["mean"].get<double>()), " %).");
  const auto test = finite_number(dataset, "test");
  if (test && *test > 0 && *test < 200)
    say("The test split has only ", thousands(static_cast<int64_t>(*test)), " samples: one sample is worth ",
        percent(1 / *test), " points.");
  return list;
}

// Adds headline, winner and recommendation to the paired difference.
void decide(Json& c, const Json& summary, const Json& costs) {
  const bool has_whole = summary.contains("whole"), has_component = summary.contains("component");
  if (!has_whole || !has_component || c["n"] == 0) {
    c["headline"] = "No comparison";
    c["recommendation"] = text("No comparison: it needs results of both whole and component for the same seed, ",
                               has_whole && has_component ? "and the two share none."
                               : has_whole                ? "and component has none."
                               : has_component            ? "and whole has none."
                                                          : "and neither has any.");
    return;
  }
  const size_t n = c["n"];
  const DifferenceWords words(c);
  if (n == 1) {
    c["headline"] = "Undecided";
    c["recommendation"] =
        text("One seed shows nothing: ", words.size, ", which chance alone can do. Repeat with --seeds 3 or more.");
    return;
  }
  const double low = c["low"], high = c["high"];
  if (low <= 0 && high >= 0) {
    c["headline"] = "No clear winner";
    c["recommendation"] =
        text("On this task there is no difference shown between whole and component: over ", plural(n, "seed"), " ",
             words.size, " (", words.interval, ", which contains zero).", cheaper(costs));
    return;
  }
  const bool whole = low > 0;
  c["winner"] = whole ? "whole" : "component";
  c["headline"] = whole ? "Use whole" : "Use component";
  c["recommendation"] =
      text(whole ? "Use whole: pretrain the encoders together on pairs and fine-tune the model as a whole. "
                 : "Use component: pretrain the encoders separately, then combine and fine-tune them. ",
           "Over ", plural(n, "seed"), " ", words.size, " (", words.interval, ").");
}

}  // namespace

Json summarise(const Json& cells, const Json& head) {
  const Results results(cells);
  Json report = head;
  report["cells"] = cells;
  const double fraction = results.fractions().empty() ? 1 : *results.fractions().rbegin();
  report["summary_fraction"] = fraction;
  report["confidence"] = confidence;

  Json summary = Json::object(), costs = Json::object();
  for (const std::string& method : results.methods()) {
    const std::vector<double> accuracies = results.values(method, fraction, "accuracy");
    if (accuracies.empty()) continue;
    summary[method] = spread_json(accuracies);
    costs[method] = cost_of(results.at(method, fraction));
  }
  report["summary"] = summary;

  Json comparison = paired(results.differences("whole", "component", fraction));
  comparison["winner"] = nullptr;
  decide(comparison, summary, costs);
  comparison["cautions"] = comparison["n"] > 0 ? cautions(comparison, summary, head) : Json::array();
  report["comparison"] = comparison;

  report["fractions"] = Json::array();
  for (const double f : results.fractions()) {
    Json methods = Json::object();
    for (const std::string& method : results.methods()) {
      const std::vector<double> accuracies = results.values(method, f, "accuracy");
      if (accuracies.empty()) continue;
      methods[method] = spread_json(accuracies);
      methods[method]["macro_f1"] = mean_or_null(results.values(method, f, "macro_f1"));
    }
    report["fractions"].push_back(
        {{"fraction", f}, {"methods", methods}, {"comparison", paired(results.differences("whole", "component", f))}});
  }

  report["gains"] = Json::array();
  for (const char* method : {"whole", "component"})
    for (const char* baseline : {"image-only", "text-only", "concat-scratch"}) {
      if (!summary.contains(method) || !summary.contains(baseline)) continue;
      Json gain{{"method", method}, {"baseline", baseline}};
      gain.update(paired(results.differences(method, baseline, fraction)));
      report["gains"].push_back(gain);
    }
  report["costs"] = costs;
  return report;
}

}  // namespace duet::train
