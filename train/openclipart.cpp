#include "duet/train/openclipart.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "duet/core/file.h"
#include "duet/core/hash.h"
#include "duet/train/markup.h"
#include "duet/train/unicode.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

constexpr int rows_per_series = 5;

// XML wants line ends read as \n.
std::string fold_line_ends(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i)
    if (text[i] != '\r')
      out += text[i];
    else if (i + 1 == text.size() || text[i + 1] != '\n')
      out += '\n';
  return out;
}

// What stands between `open` and the next `close`; empty when either is missing.
std::string_view between(std::string_view text, std::string_view open, std::string_view close) {
  const size_t begin = text.find(open);
  if (begin == text.npos) return {};
  text.remove_prefix(begin + open.size());
  const size_t end = text.find(close);
  return end == text.npos ? std::string_view{} : text.substr(0, end);
}

// Entities are decoded twice: once for XML, once because many titles were escaped as HTML before ("&amp;Atilde;").
std::string clean(std::string_view raw) {
  return fold_white_space(repair_utf8_read_as_latin1(html_unescape(html_unescape(raw))));
}

// The plain text of the first element `tag` that is not empty-element syntax; empty when it holds further elements.
std::string field(std::string_view metadata, const std::string& tag) {
  const std::string open = "<" + tag, close = "</" + tag + ">";
  for (size_t at = 0; (at = metadata.find(open, at)) != metadata.npos; at += open.size()) {
    const size_t end = metadata.find_first_of(">/", at + open.size());
    if (end == metadata.npos || metadata[end] == '/') continue;
    const size_t stop = metadata.find(close, end + 1);
    if (stop == metadata.npos) return {};
    const std::string_view content = metadata.substr(end + 1, stop - end - 1);
    return content.find('<') == content.npos ? clean(content) : "";
  }
  return {};
}

std::string without_trailing(std::string_view text, std::string_view characters) {
  return std::string(text.substr(0, text.find_last_not_of(characters) + 1));
}

// The title shared by the variants of a drawing: lower-case, without digits and _ # ( ) -.
std::string series_of(const std::string& title) {
  std::u32string lower;
  for (const char32_t c : unicode::decode_utf8(title)) unicode::append_lowercase(lower, c);
  std::string stem;
  for (const char32_t c : lower)
    if (!(c >= U'0' && c <= U'9') && std::u32string_view(U"_#()-").find(c) == std::u32string_view::npos)
      unicode::append_utf8(stem, c);
  // Folding would also change white space inside; only the ends matter here, and titles have no other than spaces.
  const size_t begin = stem.find_first_not_of(' ');
  return begin == std::string::npos ? "" : without_trailing(stem.substr(begin), " ");
}

struct Drawing {
  std::string text, series;
};

Drawing read_drawing(const std::string& file, const std::string& path) {
  const std::string svg = fold_line_ends(replace_invalid_utf8(read_file(file)));
  const std::string_view metadata = between(svg, "<metadata", "</metadata>");
  std::string title = field(metadata, "dc:title");
  const std::string description = without_trailing(field(metadata, "dc:description"), " .");
  constexpr std::string_view boilerplate = "Clipart by Nicu Buculei - ";
  if (title.starts_with(boilerplate)) title.erase(0, boilerplate.size());
  Drawing drawing{without_trailing(title, " ."), series_of(title)};
  if (drawing.series.empty()) drawing.series = path;
  if (!drawing.text.empty() && !description.empty()) drawing.text += ". ";
  drawing.text += description;
  return drawing;
}

std::vector<std::string> svg_paths(const std::string& root) {
  std::vector<std::string> paths;
  const fs::path svg = fs::path(root) / "svg";
  for (const auto& entry : fs::recursive_directory_iterator(svg))
    if (entry.path().native().ends_with(".svg") && entry.is_regular_file())
      paths.push_back(entry.path().lexically_relative(svg).string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

const std::vector<std::string>& openclipart_labels() {
  static const std::vector<std::string> labels = {
      "animals", "buildings", "computer",   "education", "electronics",       "food",    "geography", "office",
      "people",  "plants",    "recreation", "shapes",    "signs_and_symbols", "special", "tools",     "transportation"};
  return labels;
}

Openclipart read_openclipart(const std::string& root) {
  for (const char* part : {"svg", "png"})
    check(
        fs::is_directory(fs::path(root) / part), "openclipart", root, "/", part,
        " is missing; install it with `apt install openclipart-svg openclipart-png`, or name its place with --source");
  Openclipart data;
  std::map<std::pair<std::string, std::string>, int> seen;  // by series and label
  const auto& labels = openclipart_labels();
  for (const std::string& path : svg_paths(root)) {
    const std::string name = path.substr(0, path.size() - 4), png = root + "/png/" + name + ".png";
    if (!fs::exists(png)) continue;
    check(unicode::is_valid_utf8(path), "openclipart", root, "/svg/", path,
          ": the file's name is not UTF-8; rename it");
    const std::string label = path.substr(0, path.find('/'));
    const Drawing drawing = read_drawing(root + "/svg/" + path, path);
    const uint64_t bucket = fnv1a64(drawing.series) % 100;
    SourceRow row{.id = name,
                  .text = drawing.text,
                  .label = label,
                  .split = bucket < 70   ? "train"
                           : bucket < 80 ? "val"
                                         : "test",
                  .image = "images/" + name + ".png",
                  .source = png};
    const bool keep =
        std::binary_search(labels.begin(), labels.end(), label) && ++seen[{drawing.series, label}] <= rows_per_series;
    // The split follows from the series alone, so an added row of train cannot share one with val or test.
    if (row.split != "test" && !row.text.empty() && (keep || row.split == "train")) {
      data.unlabelled.push_back(row);
      data.unlabelled.back().label.clear();
    }
    if (keep) data.labelled.push_back(std::move(row));
  }
  check(!data.labelled.empty(), "openclipart", root, ": no drawing under svg/ has a twin under png/");
  return data;
}

}  // namespace duet::train
